"""`/v1/score`: an answer with document and question in, its reward with every dimension out. For anyone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from longreward.schema import Usage
from longreward.server.protocols.protocol import Asked, Item, Outcome, Protocol, parsed, validated
from longreward.server.protocols.samples import Question, item

_EXAMPLE: dict[str, Any] = {"context": "Ada met Bob. It rained.", "query": "Who met Bob?", "answer": "Ada met Bob."}


class ScoreItem(Question):
    """An answer to be scored. Its `id` comes back."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})
    answer: str
    """The answer, without the prompt."""


class ScoreItems(BaseModel):
    """Several answers."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"items": [_EXAMPLE]}]})
    items: list[ScoreItem] = Field(min_length=1)
    stream: bool = False
    """Whether each result is sent as it comes, a line of JSON each, in any order: `index` tells which item it is of."""


class ScoredDimension(BaseModel):
    score: float | None
    """0..10; null where void."""
    status: str
    """`ok`, or why it has no score."""


class ScoreResult(BaseModel):
    """The reward of an answer."""

    index: int
    """The item's place in the request, from 0."""
    id: str
    reward: float | None
    """0..10; null where the judge gave no score: leave the answer out, it is not a 0."""
    status: str
    """`ok`, or why it is void: `dimension: reason; ...`."""
    dimensions: dict[str, ScoredDimension]
    usage: Usage
    """What the judge was asked for it, and what that cost."""
    seconds: float
    """Wall time of scoring it."""


class ScoreResults(BaseModel):
    results: list[ScoreResult]
    """In the order of the items."""


class Score(Protocol):
    """The plain protocol: one answer gets one result, several get a list or a stream."""

    paths: ClassVar = ("/v1/score",)
    summary: ClassVar = "Score an answer, or several"
    request: ClassVar = ScoreItem | ScoreItems
    reply_type: ClassVar = ScoreResult | ScoreResults
    neutral: ClassVar = False
    streams: ClassVar = True

    def read(self, body: bytes) -> Asked:
        read = parsed(body)
        if not isinstance(read, dict) or "items" not in read:
            return Asked([self._item(0, validated(ScoreItem, read))])
        several = validated(ScoreItems, read)
        self.check_count(len(several.items))
        items = [self._item(number, one) for number, one in enumerate(several.items)]
        return Asked(items, True, several.stream)

    def _item(self, number: int, one: ScoreItem) -> Item:
        where = f"item {number}: "
        self.check_texts(where, context=one.context, query=one.query, answer=one.answer)
        return item(self, where, one, one.answer)

    def reply(self, asked: Asked, outcomes: Sequence[Outcome], judge: Mapping[str, float]) -> BaseModel:
        results = [self.result(asked, number, outcome) for number, outcome in enumerate(outcomes)]
        return ScoreResults(results=results) if asked.body else results[0]

    def result(self, asked: Asked, number: int, outcome: Outcome) -> ScoreResult:
        reward = outcome.reward
        dimensions = {name: ScoredDimension(score=d.score, status=d.status) for name, d in reward.dimensions.items()}
        return ScoreResult(
            index=number,
            id=reward.id,
            reward=reward.total,
            status=outcome.status,
            dimensions=dimensions,
            usage=reward.usage,
            seconds=reward.seconds,
        )
