"""What a reward will ask its judge about one document: the reward itself runs, with a judge that only counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple, TypeVar

from longreward.config import CopyingConfig, RetrievalConfig, RewardConfig
from longreward.judge import Judge, Verdict
from longreward.judge.requests import REQUESTS, JudgeRequest, RankAnswers, RewardRequest
from longreward.prompts import Prompts
from longreward.reward import LongReward, Scoring
from longreward.schema import Criterion, JudgeCall, Sample, Usage
from longreward.text.tokens import text_of, tokens_in
from longreward.tokenizer import chunk_spans

T = TypeVar("T")

_ONCE_A_PROMPT = {request.kind for request in REQUESTS if request.grows_with == "document_text"} | {RankAnswers.kind}
_STATEMENT_TOKENS = 30
"""Length of a statement in an answer that is not written yet; 300 tokens make the 10 statements of the paper."""
_STOPS = str.maketrans("\n.!?。！？；", ",,,,，，，，")


class Prompt(NamedTuple):
    """A question without an answer yet."""

    context: str
    query: str
    criteria: tuple[Criterion, ...] = ()


class CountingJudge(Judge):
    """Every question gets its typical value, and the call holds the tokens that it would take."""

    def __init__(self, config: RewardConfig) -> None:
        self._config = config
        self._prompts: dict[str | None, Prompts] = {}

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        """Count one question. TypeError for a question without a typical reply, such as an evaluation's."""
        if not isinstance(request, RewardRequest):
            raise TypeError(f"{type(request).__name__} has no typical reply; make it a RewardRequest to count it")
        model, route = self._config.model_for(request.kind), self._config.route_of(request.kind)
        if route not in self._prompts:
            self._prompts[route] = Prompts.of(self._config, model)
        value, reply = request.typical_in(model.form)
        if model.kind == "offline" and self._config.judge.routes:  # the rules cost nothing
            return Verdict(value, JudgeCall(kind=request.kind, attempts=1))
        prompt = round(tokens_in(request.text(self._prompts[route], model.form)))
        completion = round(min(reply, model.form.votes * model.max_tokens))
        usage = Usage(calls=1, prompt_tokens=prompt, completion_tokens=completion)
        return Verdict(value, JudgeCall(kind=request.kind, attempts=1, usage=usage))


async def usage_by_kind(
    prompts: Iterable[tuple[Prompt, Iterable[tuple[str, int]]]],
    config: RewardConfig,
    scoring: Scoring = LongReward.score,
) -> dict[str, Usage]:
    """What the judge is asked about the answers to all prompts: kind of question -> calls and tokens, without costs.

    An answer is (text, how many such answers there are). Questions about a document, or about all answers to a prompt,
    count once. So does a question that an earlier answer to the prompt has caused already.
    """
    found: defaultdict[str, Usage] = defaultdict(Usage)
    judge = CountingJudge(config)
    by_words = RetrievalConfig(top_k=config.retrieval.top_k)  # it has no embeddings, which are not counted
    free = CopyingConfig(loss=0)  # what is copied asks nothing
    config = config.model_copy(update={"retrieval": by_words, "copying": free})
    spans = chunk_spans(config)  # once, as a tokenizer is slow to load
    for prompt, answers in prompts:
        # One reward each, so that no more than one document is prepared at a time.
        reward = LongReward(config, judge, spans)
        try:
            # One after the other, or chance would decide which statements are verified in one call.
            answers = list(answers)
            siblings = _siblings(answers) if config.ranks else ()
            for answer, times in answers:
                scored = await scoring(reward, Sample(**prompt._asdict(), answer=answer, siblings=siblings))
                for call in scored.calls:
                    found[call.kind] += call.usage.times(1 if call.kind in _ONCE_A_PROMPT else times)
        finally:
            await reward.aclose()
    return found


def _siblings(answers: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    """All of them. What stands for several that are not written yet is made to differ, as those will."""
    return tuple(f"{answer} {place}" if place else answer for answer, times in answers for place in range(times))


def unwritten_answer(context: str, tokens: int) -> str:
    """A text of about `tokens` tokens that stands for an answer which is not written yet.

    Its statements are parts of the document, so that retrieval finds evidence for them. Each begins with a number, so
    that no two are the same (they would be verified once) and none is a sentence of the document (it would not be
    verified at all, with `faithfulness.skip_verbatim`).
    """
    count = max(1, round(tokens / _STATEMENT_TOKENS))
    numbers = [f"{i} " for i in range(1, count + 1)]
    text = text_of(max(count, tokens - tokens_in("\n".join(numbers))), like=context).translate(_STOPS)
    edges = [len(text) * i // count for i in range(count + 1)]
    return "\n".join(number + text[start:end] for number, (start, end) in zip(numbers, pairwise(edges), strict=True))
