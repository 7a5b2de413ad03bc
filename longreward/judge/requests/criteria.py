"""Which of the criteria that the data has for a question an answer meets (Rubrics as Rewards, arXiv 2507.17746)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from longreward.config import ReplyForm, RewardConfig
from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.requests.base import AnalysedRequest, as_lines
from longreward.schema import Dimension


@dataclass(frozen=True, slots=True)
class JudgeCriteria(AnalysedRequest[list[float]]):
    """Does the answer meet each of the criteria? 1, 0.5 or 0 for each, in their order. The judge sees neither the
    document nor the weights: whether a criterion is met does not depend on them."""

    kind: ClassVar[str] = "criteria"
    dimension: ClassVar[Dimension] = "criteria"
    label: ClassVar[str] = "criteria"
    query: str
    criteria: Sequence[str]
    answer: str

    @classmethod
    def asked(cls, config: RewardConfig) -> bool:
        return config.uses_criteria

    def fields(self) -> dict[str, str]:
        return {"query": self.query, "criteria": as_lines(self.criteria), "answer": self.answer}

    def parse(self, text: str) -> list[float]:
        return verdicts.parse_criteria(text, len(self.criteria))

    def shape(self, form: ReplyForm) -> Shape[list[float]]:
        return constrained.criteria(len(self.criteria), form.analysis)

    def typical(self) -> tuple[list[float], float]:
        return [1.0] * len(self.criteria), 35 * len(self.criteria)  # a line for each
