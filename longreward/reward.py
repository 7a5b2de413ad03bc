"""LongReward: the scores of the dimensions, and the reward made of them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from longreward.concurrency.pacing import Priority, at_most, pacer
from longreward.concurrency.tasks import together
from longreward.config import MOST_RANKED, RewardConfig
from longreward.config_file import validate
from longreward.dimensions import SCORE, criteria, faithfulness, helpfulness
from longreward.dimensions.document import Document
from longreward.errors import InputError
from longreward.judge import Judge, JudgeStatus, judge_of
from longreward.judge.cache import VerdictCache
from longreward.judge.requests import RateHelpfulness
from longreward.schema import Criterion, Dimension, DimensionScore, JudgeCall, Reward, Sample
from longreward.text.chunking import TokenSpans, word_cut_points
from longreward.text.retrieval import BM25Index
from longreward.text.sentences import says_nothing
from longreward.text.thoughts import without_thoughts
from longreward.tokenizer import chunk_spans

_DOCUMENTS_KEPT = 256  # prepared documents: as many as a rollout batch has, so that no document is prepared twice

_ANSWERING: tuple[Dimension, ...] = ("helpfulness", "completeness", "criteria")
"""What tells that a copy answers the question. A place among siblings does not."""


class LongReward:
    """Scores answers about long documents (arXiv 2410.21252, section 3).

    One answer takes two judge latencies, whatever the number of statements and chunks: the first calls of all
    dimensions go out together, then the calls that need their replies. Use one instance per event loop.
    """

    def __init__(self, config: RewardConfig, judge: Judge | None = None, token_spans: TokenSpans | None = None) -> None:
        """`judge`: None makes the one that the configuration names. `token_spans`: text -> character spans of its
        tokens, in which chunk sizes are counted; None: as `chunking.tokenizer` says. ConfigError where that cannot be
        read."""
        self.config = config
        if judge is None:
            judge = judge_of(config, VerdictCache.of(config.cache))
        self._judge = judge
        self._token_spans = token_spans or chunk_spans(config)
        if "faithfulness" in config.needed:
            # Imports bm25s (numba, a second) now, and not in the middle of the first answer.
            BM25Index([])
        word_cut_points(" ")  # makes its table of characters now, for the same reason
        self._preparing = asyncio.Lock()
        self._documents: OrderedDict[tuple[str, str], Document] = OrderedDict()

    @classmethod
    def from_config(cls, config: RewardConfig | Mapping[str, Any], token_spans: TokenSpans | None = None) -> LongReward:
        """Make it from a configuration or a mapping (judge, cache, retrieval, chunking, weights, ...). ConfigError says
        what is wrong in the mapping."""
        if not isinstance(config, RewardConfig):
            config = validate(RewardConfig, config, "reward config")
        return cls(config, token_spans=token_spans)

    def prepare(self, context: str, query: str) -> None:
        """Begin the work that does not depend on the answer. Call it on the event loop, before `score`."""
        self._document(context, query).start()

    async def score(self, sample: Sample) -> Reward:
        """Score one answer. A judge failure is a void dimension with its reason, never an exception or a number.

        InputError where an answer comes without the criteria or the siblings that it is judged by, or with too many.
        """
        started = time.monotonic()
        siblings, wanted = self._siblings(sample), self._criteria(sample)
        answer = self._spoken(sample.answer, sample)
        thought_chars, copied = len(sample.answer) - len(answer), 0.0
        if says_nothing(answer):  # the floor, without a call
            but = " but for its thoughts" if thought_chars else ""
            floor = DimensionScore(score=0.0, detail=f"the answer is empty{but}")
            dimensions = dict.fromkeys(self.config.needed, floor)
        else:
            # With many answers at once, the calls of the first ones are sent before the last ones are looked at.
            await pacer().turn(Priority.ANSWER)
            document = self._document(sample.context, sample.query)
            document.start()
            found = await together(
                self._dimension(name, answer, siblings, wanted, document) for name in self.config.needed
            )
            dimensions = dict(zip(self.config.needed, found, strict=True))
            if self.config.copying.loss:  # only now: no call waits for it
                copied = document.copying.share(answer)
        scores = {name: dimension.score for name, dimension in dimensions.items()}
        total, kept = total_of(scores, self.config, copied, truncated=sample.truncated)
        return Reward(
            id=sample.id,
            total=total,
            dimensions={str(name): score for name, score in dimensions.items()},
            seconds=time.monotonic() - started,
            thought_chars=thought_chars,
            copied=copied,
            kept=kept,
        )

    async def verify(self, sample: Sample) -> Reward:
        """Take the whole answer for one statement, and verify it as faithfulness does: the total is 10 x its support.
        Weights, gates and losses play no part. Void as in `score`."""
        started = time.monotonic()
        await pacer().turn(Priority.ANSWER)
        document = self._document(sample.context, sample.query)  # not started: nothing is extracted for a statement
        found = await faithfulness.verify(sample.answer, document)
        dimensions = {"faithfulness": found}
        return Reward(id=sample.id, total=found.score, dimensions=dimensions, seconds=time.monotonic() - started)

    async def score_many(self, samples: Iterable[Sample], *, concurrency: int = 64) -> list[Reward]:
        """Score answers, at most `concurrency` at once; the results in the order of the answers.

        One answer's judge failures do not touch the others.
        """
        return await at_most(concurrency, samples, self.score)

    async def probe(self) -> JudgeCall:
        """Ask the judge one short question, past the cache: `status` tells whether it answers."""
        verdict = await self._judge.ask(RateHelpfulness("en", f"What is {time.time_ns()} plus 1?", "I do not know."))
        return verdict.call

    def status(self) -> JudgeStatus:
        """How the judge is doing: whether it is down, paused, or has spent all it may."""
        return self._judge.status()

    def stats(self) -> dict[str, float]:
        """The judge's counts and gauges so far, see `Judge.stats`."""
        return self._judge.stats()

    async def aclose(self) -> None:
        """Stop background work and close the judge's connections."""
        for document in self._documents.values():
            document.cancel()
        self._documents.clear()
        await self._judge.aclose()

    def _spoken(self, text: str, sample: Sample) -> str:
        """An answer to the sample's prompt, as it is judged."""
        return without_thoughts(text, thinking=sample.thinking) if self.config.strip_thoughts else text

    def _siblings(self, sample: Sample) -> list[str]:
        """What the answer is ranked with, itself included; empty where it is rated."""
        if not self.config.ranks or sample.rated:
            return []
        if sample.answer not in sample.siblings:
            raise InputError(
                f"helpfulness.way is ranking, and the answer {sample.id!r} is not among its siblings; give the texts "
                "of all answers to its prompt (Sample.siblings), or set helpfulness.way=rating"
            )
        if len(sample.siblings) > MOST_RANKED:
            raise InputError(
                f"the answer {sample.id!r} has {len(sample.siblings)} siblings, and a judge ranks at most "
                f"{MOST_RANKED}; give fewer, or set helpfulness.way=rating"
            )
        return [self._spoken(text, sample) for text in sample.siblings]

    def _criteria(self, sample: Sample) -> Sequence[Criterion]:
        """What the answer is judged by; empty where nothing is asked of it."""
        if not self.config.uses_criteria:
            return ()
        if not sample.criteria:
            raise InputError(f"the sample {sample.id!r} has no criteria; give it some, or take criteria out of weights")
        return sample.criteria

    async def _dimension(
        self, name: Dimension, answer: str, siblings: list[str], wanted: Sequence[Criterion], document: Document
    ) -> DimensionScore:
        """`siblings`, `wanted`: what only one of the dimensions needs beside the answer and the document."""
        if name == "criteria":
            return await criteria.score(answer, document, wanted)
        if name == "helpfulness" and siblings:
            return await helpfulness.ranked(answer, siblings, document)
        return await SCORE[name](answer, document)

    def _document(self, context: str, query: str) -> Document:
        document = self._documents.pop((context, query), None)
        if document is None:
            document = Document(context, query, self._judge, self.config, self._token_spans, self._preparing)
        self._documents[context, query] = document
        if len(self._documents) > _DOCUMENTS_KEPT:
            # An answer under way holds its document itself, so its work is not lost.
            self._documents.popitem(last=False)
        return document


Scoring = Callable[[LongReward, Sample], Awaitable[Reward]]
"""`LongReward.score` or `LongReward.verify`."""


def total_of(
    scores: Mapping[Dimension, float | None], config: RewardConfig, copied: float, *, truncated: bool
) -> tuple[float | None, float]:
    """The total, 0..10, of scores of all dimensions that `config` needs, None where one of them is void; and which part
    of their weighted mean is left. `copied` is the share of the answer that is copied; `truncated`: it was cut."""
    shut = any((scores[name] or 0.0) < gate for name, gate in config.gates.items())
    kept = 0.0 if shut else 1 - _loss(copied, scores, config)
    kept *= 1 - config.truncated_loss * truncated
    weighted = whole = 0.0
    for name in config.needed:
        score, weight = scores[name], config.weights.get(name, 0.0)
        if score is None:
            return None, kept
        weighted, whole = weighted + weight * score, whole + weight
    return kept * weighted / whole, kept


def _loss(copied: float, scores: Mapping[Dimension, float | None], config: RewardConfig) -> float:
    """0..1: the share of the total that a copy loses."""
    rule = config.copying
    telling = [name for name in _ANSWERING if name != "helpfulness" or not config.ranks]
    answering = [scores[name] or 0.0 for name in telling if name in scores]
    answers = 0.0
    if rule.answered is not None and answering:
        answers = min(1.0, math.prod(score / rule.answered for score in answering))
    return rule.loss * copied * (1 - answers)
