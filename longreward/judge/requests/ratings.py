"""Ratings of an answer, 0..10 (paper, sections 3.1, 3.2 and 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from longreward.config import RewardConfig
from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.requests.base import AnalysedRequest
from longreward.model_config import ReplyForm
from longreward.schema import Dimension
from longreward.text.shorten import without_middle


@dataclass(frozen=True, slots=True)
class RateAnswer(AnalysedRequest[float]):
    """A rating of an answer, 0..10."""

    reply_tokens: ClassVar[float]
    query: str
    answer: str

    def parse(self, text: str) -> float:
        return verdicts.parse_rating(text)

    def shape(self, form: ReplyForm) -> Shape[float]:
        return (
            constrained.digit(form.analysis)
            if form.verdict == "distribution"
            else constrained.number(0, 10, form.analysis)
        )

    def typical(self) -> tuple[float, float]:
        return 7.0, self.reply_tokens


@dataclass(frozen=True, slots=True)
class RateHelpfulness(RateAnswer):
    """Does the answer serve the question? 0..10. The judge does not see the document."""

    kind: ClassVar[str] = "helpfulness"
    dimension: ClassVar[Dimension] = "helpfulness"
    label: ClassVar[str] = "helpfulness"
    reply_tokens: ClassVar[float] = 90  # two to four sentences and a number


@dataclass(frozen=True, slots=True)
class RateLogicality(RateAnswer):
    """Does the answer contradict itself or derive wrongly? 0..10. The judge does not see the document."""

    kind: ClassVar[str] = "logicality"
    dimension: ClassVar[Dimension] = "logicality"
    label: ClassVar[str] = "logicality"
    reply_tokens: ClassVar[float] = 90


@dataclass(frozen=True, slots=True)
class RateCompleteness(RateAnswer):
    """Does the answer cover what the document holds on the question? 0..10, judged against the extractions."""

    kind: ClassVar[str] = "completeness"
    dimension: ClassVar[Dimension] = "completeness"
    label: ClassVar[str] = "completeness"
    reply_tokens: ClassVar[float] = 150  # longer than other ratings: it names the points covered and missing
    extractions: Sequence[str]

    @classmethod
    def asked(cls, config: RewardConfig) -> bool:
        return config.completeness.way == "rating"

    def shrunk(self) -> RateCompleteness | None:
        extractions = [without_middle(text) for text in self.extractions]
        return replace(self, extractions=extractions) if extractions != list(self.extractions) else None
