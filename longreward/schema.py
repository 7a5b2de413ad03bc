"""What goes in (`Sample`), what comes out (`Reward`), and both together as they are kept (`ScoredAnswer`).

Plain data, JSON both ways, safe to send between processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

Dimension = Literal["helpfulness", "logicality", "faithfulness", "completeness"]
DIMENSIONS: tuple[Dimension, ...] = ("helpfulness", "logicality", "faithfulness", "completeness")
HumanPreference = Literal["a", "b", "tie"]
"""Which of two answers, a and b, a person prefers."""
OK = "ok"
"""The status of a dimension or a call that ended in a value; every other status is the reason why not."""


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Sample(Record):
    """One answer to be scored: a question about a long document, and what the policy said."""

    id: str = ""
    context: str
    """The document."""
    query: str
    """The question."""
    answer: str
    """The policy's answer, without the prompt."""
    thinking: bool = Field(False, exclude=True)
    """Whether the prompt ends in the beginning of a thought, which the answer has to close."""
    truncated: bool = Field(False, exclude=True)
    """Whether the answer was cut at the most tokens that the policy may write."""
    siblings: tuple[str, ...] = Field((), exclude=True)
    """The texts of all answers to the same prompt, this one included, where `helpfulness.way` is `ranking`."""
    rated: bool = Field(False, exclude=True)
    """Rate its helpfulness where `helpfulness.way` is `ranking`, too: it has no siblings, or is compared with what is
    none."""

    @field_validator("id", mode="before")
    @classmethod
    def _id_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value


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


class DimensionScore(Record):
    """A dimension's score in 0..10, or None and the reason in `status` (a failure is never a number)."""

    score: float | None
    deviation: float | None = None
    """Standard deviation of `score` by the judge's distribution or votes; None where it was asked for neither. That of
    statements and points is as if the judge erred at each on its own."""
    status: str = OK
    detail: str = ""
    calls: list[JudgeCall] = Field(default_factory=list)
    """The judge calls made for this answer; shared document work is counted once, in the answer that caused it."""
    statements: list[Statement] = Field(default_factory=list)
    points: list[Point] = Field(default_factory=list)

    @classmethod
    def void(
        cls, call: JudgeCall, calls: list[JudgeCall], statements: Sequence[Statement] = (), points: Sequence[Point] = ()
    ) -> DimensionScore:
        """The dimension has no score because `call` failed."""
        return cls(
            score=None,
            status=call.status,
            detail=call.detail,
            calls=calls,
            statements=list(statements),
            points=list(points),
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


class Reward(Record):
    """What scoring an answer gave: the weighted mean of its dimensions (0..10) and all that led to it."""

    id: str
    total: float | None
    """None (void) unless every dimension that has a weight has a score."""
    dimensions: dict[str, DimensionScore]
    seconds: float = 0.0
    """Wall time of scoring this answer."""
    thought_chars: int = 0
    """Characters of the answer that were left out as thoughts."""
    copied: float = 0.0
    """0..1: the share of the answer's words that stand in the document in a row (`longreward.text.copying`). Only
    looked at where `copying.loss` is above 0."""
    kept: float = 1.0
    """0..1: the share of the dimensions' weighted mean that is the total: less where words are copied, 0 below a
    gate."""

    @property
    def usage(self) -> Usage:
        return sum((dimension.usage for dimension in self.dimensions.values()), Usage())

    @property
    def calls(self) -> list[JudgeCall]:
        """All questions to the judge that it took, those that cost nothing included."""
        return [call for dimension in self.dimensions.values() for call in dimension.all_calls]

    @property
    def scores(self) -> dict[str, float] | None:
        """`total` and each dimension, 0..10; None where the total is void."""
        if self.total is None:
            return None
        return {"total": self.total} | {name: d.score for name, d in self.dimensions.items() if d.score is not None}

    def score_of(self, name: str) -> float | None:
        """`total` or a dimension by its name, 0..10; None where void."""
        return self.total if name == "total" else self.dimensions[name].score

    @property
    def void_reasons(self) -> dict[str, str]:
        """The dimensions without a score, each with its reason."""
        return {name: d.status for name, d in self.dimensions.items() if d.score is None}

    @property
    def why_void(self) -> str:
        """The same in words, as `completeness: timeout, logicality: parse_error`; empty where none is missing."""
        return ", ".join(f"{name}: {reason}" for name, reason in self.void_reasons.items())

    @property
    def status(self) -> str:
        """`ok`, or the first reason why the total is void."""
        if self.total is not None:
            return OK
        return next((reason for reason in self.void_reasons.values() if reason != OK), "unknown")


VERSION = 1
"""The version of the records written now. Raise it when a field changes its meaning; store.py upgrades old records."""


class ScoredAnswer(Reward):
    """The record of a scored answer: what was scored, and what came out. longreward/store.py writes and reads it."""

    # The rows of `longreward score` have a few more keys, derived from these.
    model_config = ConfigDict(extra="ignore")

    dimensions: dict[str, DimensionScore] = Field(validation_alias=AliasChoices("dimensions", "detail"))
    version: int = VERSION
    split: str = ""
    """`train` or `heldout` in a run; empty in a file of scores."""
    rollout: str = ""
    """The answer's own name in its run. Records with the same rollout and query are of one answer, scored again."""
    key: str = ""
    """In a file of scores, a hash of the row that was scored."""
    config: str = ""
    """In a file of scores, a hash of all settings that can change a score."""
    time: float = 0.0
    """When scoring began, in seconds since 1970."""
    tokens: int | None = None
    """The answer's length by the policy's tokenizer; None where it is not known."""
    truncated: bool | None = None
    """Whether the answer was cut at max_new_tokens; None where it is not known."""
    document: str = ""
    """In a run, a hash of the document: an id may stand for another document in another run."""
    query: str = ""
    answer: str = ""
    earlier_usage: Usage = Field(default_factory=Usage)
    """What earlier attempts at this answer used, which ended void."""

    @classmethod
    def of(cls, sample: Sample, reward: Reward, **about: Any) -> ScoredAnswer:
        """The record of `sample`, scored as `reward`. `about`: the other fields. The document is not kept."""
        scored = {"total": reward.total, "dimensions": reward.dimensions, "seconds": reward.seconds}
        scored |= {name: getattr(reward, name) for name in ("thought_chars", "copied", "kept")}
        return cls(id=sample.id, query=sample.query, answer=sample.answer, **scored, **about)
