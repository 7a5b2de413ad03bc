"""What a judge's scores do when something is planted in an answer, in figures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from longreward.evaluation.flaws import AGAIN, FLAWS, HARMLESS, Flaw
from longreward.evaluation.intervals import Interval, mean_and_interval
from longreward.evaluation.people.agreement import Proportion

_ROUNDING = 1e-9  # closer scores are equal

Scores = Mapping[str, float | None]
"""By dimension, 0..10; None where void."""


@dataclass
class Moves:
    """How a dimension moves from answers to their versions with something planted."""

    changes: dict[Hashable, float] = field(default_factory=dict)
    """By answer, -10..10. Only where both scores are known."""
    prompts: dict[Hashable, Hashable] = field(default_factory=dict)
    """What the answer answers: answers to one prompt are not independent."""
    before: list[float] = field(default_factory=list)
    """The scores of the answers as they were."""
    void: int = 0
    """Answers of which one of the two scores is void."""

    @classmethod
    def together(cls, several: Iterable[Moves]) -> Moves:
        """Several flaws as one."""
        whole = cls()
        for number, one in enumerate(several):
            whole.changes |= {(number, answer): change for answer, change in one.changes.items()}
            whole.prompts |= {(number, answer): prompt for answer, prompt in one.prompts.items()}
            whole.before += one.before
            whole.void += one.void
        return whole

    def add(self, answer: Hashable, prompt: Hashable, before: float | None, after: float | None) -> None:
        if before is None or after is None:
            self.void += 1
            return
        change = after - before
        self.changes[answer] = 0.0 if abs(change) < _ROUNDING else change
        self.prompts[answer] = prompt
        self.before.append(before)

    @property
    def falls(self) -> Proportion:
        return self._share(change < 0 for change in self.changes.values())

    @property
    def rises(self) -> Proportion:
        return self._share(change > 0 for change in self.changes.values())

    @property
    def moved(self) -> Proportion:
        return self._share(change != 0 for change in self.changes.values())

    @property
    def ties(self) -> Proportion:
        return self._share(change == 0 for change in self.changes.values())

    @property
    def change(self) -> Interval | None:
        """The mean over prompts; its interval is of independent prompts. None where there are no cases."""
        return self.of_prompts(self.changes)

    @property
    def net(self) -> Interval | None:
        """The share of falls less that of rises, in the same way: 0 for a judge that guesses."""
        return self.of_prompts({answer: (change < 0) - (change > 0) for answer, change in self.changes.items()})

    @property
    def size(self) -> float | None:
        """The mean absolute change."""
        return fmean(map(abs, self.changes.values())) if self.changes else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of one score, where both scores are of the same answer: of their difference it is as large
        by the square root of 2."""
        return math.sqrt(fmean(c * c for c in self.changes.values()) / 2) if self.changes else None

    def _share(self, such: Iterable[bool]) -> Proportion:
        return Proportion(sum(such), len(self.changes))

    def of_prompts(self, values: Mapping[Hashable, float]) -> Interval | None:
        """The mean of values of answers over their prompts. None where there are no values."""
        by_prompt = defaultdict[Hashable, list[float]](list)
        for answer, value in values.items():
            by_prompt[self.prompts[answer]].append(value)
        return mean_and_interval([fmean(of_one) for of_one in by_prompt.values()])


class Audit:
    """Takes the scores of answers and of their versions in one by one."""

    def __init__(self, dimensions: Sequence[str]) -> None:
        self.dimensions = list(dimensions)
        self._moves: dict[tuple[str, str], Moves] = defaultdict(Moves)

    def add(self, version: str, answer: Hashable, prompt: Hashable, before: Scores, after: Scores) -> None:
        """`version`: the name of what is planted, or `AGAIN`."""
        for name in self.dimensions:
            self._moves[version, name].add(answer, prompt, before.get(name), after.get(name))

    def moves(self, version: str, dimension: str) -> Moves:
        return self._moves.get((version, dimension), Moves())

    def flaws(self, dimension: str, wanted: str) -> list[Flaw]:
        """The flaws whose `wanted` ("lowers" or "never_raises") names the dimension and that were planted somewhere."""
        return [flaw for flaw in FLAWS if dimension in getattr(flaw, wanted) and (flaw.name, dimension) in self._moves]

    def all_flaws(self, dimension: str) -> Moves:
        """Of all flaws that must lower the dimension."""
        return Moves.together(self.moves(flaw.name, dimension) for flaw in self.flaws(dimension, "lowers"))

    def harmless(self, dimension: str) -> Moves:
        """Of all harmless changes."""
        return Moves.together(self.moves(each.name, dimension) for each in HARMLESS)

    def again(self, dimension: str) -> Moves:
        """Of the same answers, judged twice."""
        return self.moves(AGAIN, dimension)


def fall_difference(one: Moves, other: Moves) -> Interval | None:
    """How much more often the score falls with the other judge, -1..1, over the answers that both have scored. The
    interval is of independent prompts."""
    shared = one.changes.keys() & other.changes.keys()
    return one.of_prompts({answer: (other.changes[answer] < 0) - (one.changes[answer] < 0) for answer in shared})
