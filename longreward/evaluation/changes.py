"""Scores of the same answers before and after a change of the reward: by how much they move, and whether siblings keep
their order."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from longreward.evaluation.intervals import Interval, mean_and_interval

_ROUNDING = 1e-9  # closer scores are equal


@dataclass(frozen=True)
class PartChange:
    """Of the total, or of a dimension."""

    part: str
    before: float | None
    """Mean of the answers that have both scores; None where there is none."""
    after: float | None
    change: Interval | None
    """Of the prompts' mean changes."""
    void: tuple[int, int]
    """Answers without a score, before and after."""


class Changes:
    """Takes the answers in one by one, and keeps numbers alone."""

    def __init__(self) -> None:
        self._groups: defaultdict[Hashable, list[tuple[Mapping[str, float | None], Mapping[str, float | None]]]] = (
            defaultdict(list)
        )
        self._moved: list[tuple[float, str, float, float]] = []

    def add(
        self, group: Hashable, name: str, before: Mapping[str, float | None], after: Mapping[str, float | None]
    ) -> None:
        """The scores of an answer, `total` among them. `group`: what it shares with its siblings; `name` is for
        people."""
        self._groups[group].append((before, after))
        one, other = before.get("total"), after.get("total")
        if one is not None and other is not None:
            self._moved.append((other - one, name, one, other))

    def parts(self) -> list[PartChange]:
        """The dimensions in the order of the first answer, the total last."""
        pairs = [pair for group in self._groups.values() for pair in group]
        names = dict.fromkeys(name for before, after in pairs for name in (*before, *after) if name != "total")
        return [self._part(name) for name in (*names, "total")]

    def rank_correlation(self) -> tuple[float, int] | None:
        """Kendall's tau-b of the totals before and after within a group, the mean over all groups in which both tell
        answers apart, and the number of these groups; None where there is none."""
        found = []
        for group in self._groups.values():
            both = [(b["total"], a["total"]) for b, a in group]
            known = [(b, a) for b, a in both if b is not None and a is not None]
            tau = kendall_tau([b for b, _ in known], [a for _, a in known])
            found += [] if tau is None else [tau]
        return (fmean(found), len(found)) if found else None

    def moved_most(self, count: int) -> list[tuple[str, float, float]]:
        """The names of the answers whose totals moved most, with the total before and after."""
        most = sorted(self._moved, key=lambda each: -abs(each[0]))[:count]
        return [(name, before, after) for change, name, before, after in most if abs(change) > _ROUNDING]

    def _part(self, part: str) -> PartChange:
        of_prompts, before, after, void = list[float](), list[float](), list[float](), [0, 0]
        for group in self._groups.values():
            changes = []
            for one, other in group:
                b, a = one.get(part), other.get(part)
                void[0] += part in one and b is None
                void[1] += part in other and a is None
                if b is not None and a is not None:
                    before.append(b)
                    after.append(a)
                    changes.append(a - b)
            of_prompts += [fmean(changes)] if changes else []
        old, new = (fmean(before), fmean(after)) if before else (None, None)
        return PartChange(part, old, new, mean_and_interval(of_prompts), (void[0], void[1]))


def kendall_tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b, -1..1; None where one of them tells nothing apart."""
    agree = of_one = of_other = 0
    for (a, p), (b, q) in itertools.combinations(zip(one, other, strict=True), 2):
        first, second = _sign(a - b), _sign(p - q)
        agree, of_one, of_other = agree + first * second, of_one + abs(first), of_other + abs(second)
    return agree / math.sqrt(of_one * of_other) if of_one and of_other else None


def _sign(difference: float) -> int:
    return 0 if abs(difference) < _ROUNDING else 1 if difference > 0 else -1
