"""What a reward will ask of its judge about one document: the reward itself runs, over a judge that only counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import TypeVar

from longreward.config import RewardConfig
from longreward.judge import JudgeStatus, Verdict
from longreward.judge.requests import REQUESTS, JudgeRequest, RewardRequest
from longreward.reward import LongReward
from longreward.schema import JudgeCall, Sample, Usage
from longreward.text.tokens import text_of, tokens_in

T = TypeVar("T")

_ONCE_A_DOCUMENT = {request.kind for request in REQUESTS if request.grows_with == "document_text"}
_STATEMENT_TOKENS = 30
"""Length of a statement in an answer that is not written yet; 300 tokens make the 10 statements of the paper."""
_STOPS = str.maketrans("\n.!?。！？；", ",,,,，，，，")


class CountingJudge:
    """Implements `Judge`: gives every question its typical value and books the tokens which that would take."""

    endpoints = None

    def __init__(self, max_tokens: int) -> None:
        """`max_tokens` bounds a reply, as `judge.max_tokens` does."""
        self._max_tokens = max_tokens

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        """TypeError for a question that no reward asks: nobody knows what a typical reply to it is."""
        if not isinstance(request, RewardRequest):
            raise TypeError(f"{type(request).__name__} has no typical reply; make it a RewardRequest to count it")
        usage = Usage(
            calls=1,
            prompt_tokens=round(tokens_in(request.text())),
            completion_tokens=round(min(request.typical_tokens(), self._max_tokens)),
        )
        return Verdict(request.typical_value(), JudgeCall(kind=request.kind, attempts=1, usage=usage))

    def status(self) -> JudgeStatus:
        return JudgeStatus()

    def stats(self) -> dict[str, float]:
        return {}

    async def aclose(self) -> None:
        return None


async def usage_by_kind(
    context: str, query: str, answers: Iterable[tuple[str, int]], config: RewardConfig
) -> dict[str, Usage]:
    """Kind of question -> what the judge is asked about these answers, each counted as many times as it says.

    The document's own questions are counted once, and so is what an earlier answer has asked already. No costs.
    """
    found: defaultdict[str, Usage] = defaultdict(Usage)
    reward = LongReward(config, CountingJudge(config.judge.max_tokens))
    try:
        # One after the other: which statements are verified in one call would otherwise depend on chance.
        for answer, times in answers:
            scored = await reward.score(Sample(context=context, query=query, answer=answer))
            for call in scored.calls:
                found[call.kind] += times_as_much(call.usage, 1 if call.kind in _ONCE_A_DOCUMENT else times)
    finally:
        await reward.aclose()
    return found


def times_as_much(usage: Usage, factor: float) -> Usage:
    """The usage for `factor` times as much of the same."""
    return Usage(
        calls=round(usage.calls * factor),
        prompt_tokens=round(usage.prompt_tokens * factor),
        cached_tokens=round(usage.cached_tokens * factor),
        completion_tokens=round(usage.completion_tokens * factor),
        cost=usage.cost * factor,
    )


def unwritten_answer(context: str, tokens: int) -> str:
    """An answer of about so many tokens about the document, for one that is not written yet.

    Its statements are parts of the document, each with a number, so that no two are the same and none is a whole
    sentence of the document.
    """
    count = max(1, round(tokens / _STATEMENT_TOKENS))
    numbers = [f"{i} " for i in range(1, count + 1)]
    text = text_of(max(count, tokens - tokens_in("\n".join(numbers))), like=context).translate(_STOPS)
    edges = [len(text) * i // count for i in range(count + 1)]
    return "\n".join(number + text[start:end] for number, (start, end) in zip(numbers, pairwise(edges), strict=True))
