"""All answers to one question beside each other: which of them serves it best?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from longreward.config import RewardConfig
from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.requests.base import RewardRequest
from longreward.model_config import ReplyForm
from longreward.schema import Dimension


@dataclass(frozen=True, slots=True)
class RankAnswers(RewardRequest[list[int]]):
    """The place of each answer, in their order: 1 is the best, and answers that are as good as each other share a
    place. The judge does not see the document."""

    kind: ClassVar[str] = "rank"
    dimension: ClassVar[Dimension] = "helpfulness"
    label: ClassVar[str] = "ranking of several answers"
    query: str
    answers: Sequence[str]
    """Two or more, no two of them the same."""

    @classmethod
    def asked(cls, config: RewardConfig) -> bool:
        return config.ranks

    def fields(self) -> dict[str, str]:
        # Each line says whose it is, or an answer could look like two.
        lines = (f"{i} | {line}" for i, text in enumerate(self.answers, 1) for line in text.splitlines())
        return {"query": self.query, "answers": "\n".join(lines)}

    def form(self, wanted: ReplyForm) -> ReplyForm:
        """Places have no mean."""
        return ReplyForm("written" if wanted.verdict == "written" else "constrained", wanted.analysis)

    def parse(self, text: str) -> list[int]:
        return verdicts.parse_ranking(text, len(self.answers))

    def shape(self, form: ReplyForm) -> Shape[list[int]]:
        return constrained.places(len(self.answers), form.analysis)

    def typical(self) -> tuple[list[int], float]:
        count = len(self.answers)
        return list(range(1, count + 1)), 30 + 30 * count  # a sentence for each, and the ranking
