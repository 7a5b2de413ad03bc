"""What the judge says of an answer: its calls, what was judged, and the score of a dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from longreward.schema.sample import Criterion, Record

OK = "ok"
"""The status of a dimension or a call that ended in a value; every other status is the reason why not."""


class Evidence(Record):
    """A chunk of the document shown to the judge: `text == context[start:end]`, offsets in characters; `index` counts
    the document's chunks of that size from 0."""

    index: int
    start: int
    end: int
    text: str


class Usage(Record):
    """What scoring cost: requests that the judge answered, good or not, their tokens as the endpoint reported them, and
    the cost by `judge.price`. A verdict from the cache, or shared with another answer, costs nothing."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Those of `prompt_tokens` that the endpoint had in its own prefix cache, where it tells."""
    completion_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage.model_construct(
            **{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields}
        )

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def times(self, factor: float) -> Usage:
        """The usage of `factor` times as much of the same."""
        counts = {name: round(getattr(self, name) * factor) for name in Usage.model_fields if name != "cost"}
        return Usage(**counts, cost=self.cost * factor)


VerdictSource = Literal["judge", "cache", "shared", "document"]
"""Where a verdict is from: asked for; kept from an earlier run; asked for by another answer (or by the call that
verified several statements); or read off the document without a judge."""


class JudgeCall(Record):
    """One question to the judge, answered or not. `text` is its last reply, kept also where it could not be parsed."""

    kind: str
    status: str = OK
    detail: str = ""
    text: str = ""
    source: VerdictSource = "judge"
    shrunk: bool = False
    """The material was cut to fit the judge's context: the verdict rests on less than the method asks for."""
    attempts: int = 0
    seconds: float = 0.0
    """From the first attempt's begin to the verdict, waits between attempts included; 0 where none was made."""
    usage: Usage = Field(default_factory=Usage)
    deviations: tuple[float, ...] = ()
    """How unsure the judge is: the standard deviation of each verdict in the reply, in its own units, where
    `judge.verdict` is `distribution` or there are `judge.votes`."""

    def without_cost(self, source: VerdictSource) -> JudgeCall:
        """The same verdict for another answer, which did not pay for it."""
        return self.model_copy(update={"source": source, "attempts": 0, "seconds": 0.0, "usage": Usage()})


class Statement(Record):
    """A factual statement of the answer and how far the document supports it: 1, 0.5 or 0; None where void. The offline
    judge uses all numbers from 0 to 1."""

    text: str
    original: str = ""
    """The answer's own words, where the statement restates them in the document's language; otherwise empty."""
    support: float | None
    deviation: float | None = None
    """Standard deviation of `support` by the judge's distribution or votes; None where it was asked for neither."""
    evidence: list[Evidence] = Field(default_factory=list)
    call: JudgeCall


class Point(Record):
    """A point that a complete answer has, and how far the answer covers it: 1, 0.5 or 0; None where void. The offline
    judge uses all numbers from 0 to 1."""

    text: str
    covered: float | None
    deviation: float | None = None
    """Standard deviation of `covered` by the judge's distribution or votes; None where it was asked for neither."""
    quote: str = ""
    """The words that the judge quotes from the answer for it."""
    in_answer: bool | None = None
    """Whether `quote` stands in the answer, but for white space, case and punctuation; None where nothing is quoted."""


class JudgedCriterion(Criterion):
    """A criterion and how far an answer meets it: 1, 0.5 or 0; None where void. The offline judge uses all numbers from
    0 to 1."""

    met: float | None
    deviation: float | None = None
    """Standard deviation of `met` by the judge's distribution or votes; None where it was asked for neither."""


class DimensionScore(Record):
    """A dimension's score in 0..10, or None and the reason in `status` (a failure is never a number)."""

    score: float | None
    deviation: float | None = None
    """Standard deviation of `score` by the judge's distribution or votes; None where it was asked for neither. That of
    statements, points and criteria is as if the judge erred at each on its own."""
    status: str = OK
    detail: str = ""
    calls: list[JudgeCall] = Field(default_factory=list)
    """The judge calls made for this answer; shared document work is counted once, in the answer that caused it."""
    statements: list[Statement] = Field(default_factory=list)
    points: list[Point] = Field(default_factory=list)
    criteria: list[JudgedCriterion] = Field(default_factory=list)

    @classmethod
    def void(
        cls,
        call: JudgeCall,
        calls: list[JudgeCall],
        statements: Sequence[Statement] = (),
        points: Sequence[Point] = (),
        criteria: Sequence[JudgedCriterion] = (),
    ) -> DimensionScore:
        """The dimension has no score because `call` failed."""
        return cls(
            score=None,
            status=call.status,
            detail=call.detail,
            calls=calls,
            statements=list(statements),
            points=list(points),
            criteria=list(criteria),
        )

    @classmethod
    def rated(cls, rating: float | None, call: JudgeCall, shared: list[JudgeCall] | None = None) -> DimensionScore:
        """The dimension's score is the rating that `call` ended in, if it did; `shared` calls came before it."""
        deviation = call.deviations[0] if call.deviations else None
        calls = [*(shared or []), call]
        return cls(score=rating, deviation=deviation, status=call.status, detail=call.detail, calls=calls)

    @property
    def all_calls(self) -> list[JudgeCall]:
        """`calls`, and those about its statements."""
        return [*self.calls, *(statement.call for statement in self.statements)]

    @property
    def usage(self) -> Usage:
        return sum((call.usage for call in self.all_calls), Usage())
