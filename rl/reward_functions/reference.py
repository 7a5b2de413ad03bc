"""`reward.name: reference`: how well an answer agrees with reference answers, for tasks that have them. No judge."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from pydantic import Field

from longreward.config import Section
from longreward.errors import JudgeError, Reason
from rl.data.prompts import TrainingSample
from rl.data.words import words
from rl.reward_functions.base import RewardWithoutJudge


class ReferenceSection(Section):
    match: Literal["exact", "substring", "f1"] = "f1"
    """`exact`: the answer is equal to a reference answer. `substring`: it contains one. `f1`: F1 of their words; the
    best reference counts. Case, punctuation and character width are ignored; in Chinese and Japanese each character is
    a word."""
    field: str = Field("reference", min_length=1)
    """Field of the data's rows that holds the reference answer, or a list of them."""


class ReferenceReward(RewardWithoutJudge):
    """10 for full agreement with one of the sample's references, 0 for none."""

    def __init__(self, section: ReferenceSection) -> None:
        super().__init__("reference")
        self._agreement, self._field = {"exact": exact, "substring": substring, "f1": f1}[section.match], section.field

    async def scores(self, sample: TrainingSample) -> dict[str, float]:
        references = [found for found in map(words, sample.reference) if found]
        if not references:
            raise JudgeError(Reason.BAD_REQUEST, f"sample {sample.id} has no reference answer in {self._field!r}")
        answer = words(sample.answer)
        return {"total": 10 * max(self._agreement(answer, reference) for reference in references)}


def exact(answer: list[str], reference: list[str]) -> float:
    return float(answer == reference)


def substring(answer: list[str], reference: list[str]) -> float:
    length = len(reference)
    return float(any(answer[i : i + length] == reference for i in range(len(answer) - length + 1)))


def f1(answer: list[str], reference: list[str]) -> float:
    """Harmonic mean of precision and recall over words, each counted as often as it occurs."""
    common = (Counter(answer) & Counter(reference)).total()
    return 2 * common / (len(answer) + len(reference))
