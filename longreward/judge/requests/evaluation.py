"""The questions that an evaluation asks about a policy's answers, each with the parser of its reply.

The scales are those of LongBench and LongBench-Chat as the LongReward repository scores them (its folder evaluation/);
the pairwise verdicts are MT-Bench's (arXiv 2306.05685, section 3.1). The words of the prompts are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from longreward.config import ReplyForm
from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.requests.base import JudgeRequest
from longreward.judge.verdicts import Preference
from longreward.text.language import detect

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EvaluationRequest(JudgeRequest[T]):
    """A question of an evaluation; the reward does not depend on it. Its material is never cut: `shrunk` is None."""


@dataclass(frozen=True, slots=True)
class GradeRequest(EvaluationRequest[float]):
    """How good is the answer, from 1 to `highest`?"""

    highest: ClassVar[int]
    reference: str
    answer: str

    def parse(self, text: str) -> float:
        return verdicts.parse_grade(text, self.highest)

    def shape(self, form: ReplyForm) -> Shape[float]:
        return constrained.number(1, self.highest)


@dataclass(frozen=True, slots=True)
class RateAgainstReference(GradeRequest):
    """Does the answer say what the reference says on the question? 1, 2 or 3."""

    kind: ClassVar[str] = "evaluate_qa"
    highest: ClassVar[int] = 3
    query: str


@dataclass(frozen=True, slots=True)
class RateSummary(GradeRequest):
    """How good is the summary beside a reference summary? 1, 2, 3, 4 or 5. The judge does not see the question."""

    kind: ClassVar[str] = "evaluate_summary"
    highest: ClassVar[int] = 5


@dataclass(frozen=True, slots=True)
class RateChat(GradeRequest):
    """How good is the answer beside the reference and other answers with their scores? 1..10, decimals allowed."""

    kind: ClassVar[str] = "evaluate_chat"
    highest: ClassVar[int] = 10
    query: str
    examples: Sequence[tuple[str, float]]
    """Other answers to the same question, each with its score."""

    def fields(self) -> dict[str, str]:
        rating = {"en": "Rating", "zh": "分数"}[self.language]
        # The score is in no brackets: a verdict in double brackets is the judge's alone.
        scored = (f"({i}) {text.strip()}\n{rating}: {score:g}" for i, (text, score) in enumerate(self.examples, 1))
        return {
            "query": self.query,
            "reference": self.reference,
            "examples": "\n\n".join(scored) or "(none)",
            "answer": self.answer,
        }

    def parse(self, text: str) -> float:
        return verdicts.parse_rating(text, lowest=1)


@dataclass(frozen=True, slots=True)
class CompareAnswers(EvaluationRequest[Preference]):
    """Which of two answers serves the user better, the first ("A"), the second ("B") or neither ("tie")?"""

    kind: ClassVar[str] = "evaluate_pair"
    query: str
    first: str
    second: str
    reference: str = ""
    """What a good answer says; empty where there is none."""

    @classmethod
    def both_orders(cls, query: str, a: str, b: str, reference: str = "") -> tuple[Self, Self]:
        """The question with `a` shown first, and with `b` shown first."""
        language = detect(f"{query}\n{reference}")
        return cls(language, query, a, b, reference), cls(language, query, b, a, reference)

    def fields(self) -> dict[str, str]:
        return {
            "query": self.query,
            "reference": self.reference or "(none)",
            "answer_a": self.first,
            "answer_b": self.second,
        }

    def parse(self, text: str) -> Preference:
        return verdicts.parse_preference(text)

    def shape(self, form: ReplyForm) -> Shape[Preference]:
        return constrained.preference()
