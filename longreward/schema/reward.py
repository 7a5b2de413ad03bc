"""What comes out (`Reward`), and how it is kept (`ScoredAnswer`)."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, ConfigDict, Field

from longreward.schema.judged import OK, DimensionScore, JudgeCall, Usage
from longreward.schema.sample import Record, Sample


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
    asked: str = ""
    """In a file of scores, a hash of what the judge was asked, whatever weights, gates and losses; empty where it is
    `config`."""
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
