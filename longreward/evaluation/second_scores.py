"""Answers that were scored twice: by the same judge again, which shows its noise, or by a shadow judge, which shows
whether a reward that rises means what it says.

A training run writes them (rl/rollout/second_scores.py). Whole groups of siblings are scored again, because an
advantage compares siblings: what moves all of them alike moves no advantage.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from longreward.files import jsonlines
from longreward.schema import OK

FOLDER = "second_scores"
"""In a run directory: a file for each worker that scores."""
NOISE_GROUPS = 64
"""The latest groups by which a judge's noise is told."""


class SecondScore(msgspec.Struct):
    """One answer's two scores, each `total` and the dimensions, 0..10."""

    kind: Literal["repeat", "shadow"]
    group: str
    """Names the group of siblings: in a file among those of the file, when read among all of the run."""
    id: str
    """The prompt's."""
    rollout: str
    time: float
    """When the first scoring began, as in the store."""
    first: dict[str, float]
    second: dict[str, float] | None = None
    """None: void."""
    status: str = OK
    """Why it is void."""


class SecondScores(jsonlines.Appender[SecondScore]):
    """Appends them to a file. One process writes a file; any number may read it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, msgspec.to_builtins)


def read(run: Path) -> Iterator[SecondScore]:
    """Those of a run directory, file by file, in the order in which they were written. Half-written lines are passed
    over."""
    for path in sorted((run / FOLDER).glob("*.jsonl")):
        for _, row in jsonlines.read(path, broken=[]):
            one = msgspec.convert(row, SecondScore)
            one.group = f"{path.name}:{one.group}"
            yield one


def groups(scores: Iterable[SecondScore]) -> dict[str, list[SecondScore]]:
    """Those with both scores, by their groups, in the order in which the groups came."""
    found = defaultdict[str, list[SecondScore]](list)
    for score in scores:
        if score.second is not None:
            found[score.group].append(score)
    return dict(found)


class Noise(msgspec.Struct, frozen=True):
    """What a score deviates by among siblings, and how much of that the judge adds by itself."""

    spread: float
    """Standard deviation of the first scores within groups, 0..10."""
    noise: float
    """Standard deviation that a judge's score has when the same answer is scored again and again, 0..10."""

    @property
    def signal(self) -> float:
        """0..1: the share of the variance within groups that a second scoring would find again. 0 without spread."""
        return max(0.0, 1 - (self.noise / self.spread) ** 2) if self.spread else 0.0


def noise(repeated: Iterable[list[SecondScore]]) -> dict[str, Noise]:
    """By name, from groups that the same judge scored twice; empty before there is one with two answers.

    Of two scores of an answer the difference has twice the variance of one score's noise. What all siblings' scores
    have moved by together does not count.
    """
    spread, moved, freedom = defaultdict[str, float](float), defaultdict[str, float](float), 0
    for members in repeated:
        if len(members) < 2:
            continue
        freedom += len(members) - 1
        for name in members[0].first:
            first = [one.first[name] for one in members]
            second = [(one.second or {}).get(name, math.nan) for one in members]
            spread[name] += _squares(first)
            moved[name] += _squares([b - a for a, b in zip(first, second, strict=True)])
    if not freedom:
        return {}
    return {name: Noise(math.sqrt(spread[name] / freedom), math.sqrt(moved[name] / freedom / 2)) for name in spread}


def _squares(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)
