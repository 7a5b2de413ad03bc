"""Where a reward parts from a shadow judge: it goes on rising, and the shadow's scores of the same answers do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_FEWEST = 24
"""Groups before anything is said."""
_EDGE = 12
"""Groups since an onset before it is certain: a few that are far off are no trend."""
_SIGMAS = 4.5
"""What the gap's rise has to be, in its standard errors: it is looked for at every place and after every group."""
_SURE = 3.0
"""How far the shadow has to stay behind `_FOLLOWS`, in standard errors."""
_RISE = 0.3
"""Points of 10 that the reward has to have risen by since the onset."""
_FOLLOWS = 0.5
"""A shadow that has risen by this share of the reward's rise follows: judges have scales of their own."""
_MOST = 200
"""Places at which an onset is looked for; more groups are averaged first."""


@dataclass(frozen=True)
class Divergence:
    """Places are numbers of groups in the order of time, from 0."""

    onset: int
    """The first group since which the gap grows."""
    noticed: int
    """The group with which it was certain."""
    reward_rise: float
    """Points of 10 since the onset, by a straight line, when it was noticed."""
    shadow_rise: float


def find(rewards: Sequence[float], shadows: Sequence[float], *, known: int = 0) -> Divergence | None:
    """The first divergence in the mean rewards and shadow scores (0..10) of groups in the order of time.

    At each group so far, the gap between the two is fitted by a line that is flat up to an onset and then straight.
    There is a divergence where the gap rises by more than chance, the reward has risen, and the shadow has for certain
    not followed by half as much. On made curves without one, half of them with heavy tails and the shadow on a scale
    of 0.6 to 1 of the reward's, 1.3% of the runs of 200 groups have a false one.

    `known`: with so many of the groups there was none.
    """
    size = max(1, -(-len(rewards) // _MOST))
    ours, theirs = _averaged(rewards, size), _averaged(shadows, size)
    for end in range(max(_FEWEST, known // size + 1), len(ours) + 1):
        found = _at_end(ours[:end], theirs[:end])
        if found is not None:
            onset, ours_rise, theirs_rise = found
            return Divergence(onset * size, min(end * size, len(rewards)) - 1, ours_rise, theirs_rise)
    return None


def _at_end(ours: Values, theirs: Values) -> tuple[int, float, float] | None:
    """Onset and both rises, where the last group shows a divergence."""
    n = len(ours)
    onsets = np.arange(0, n - _EDGE)
    hinges = np.maximum(0.0, np.arange(n)[None, :] - onsets[:, None])
    hinges = hinges - hinges.mean(1, keepdims=True)
    gap = ours - theirs
    squares = (hinges**2).sum(1)
    slopes = hinges @ gap / squares
    best = int(np.argmax(slopes**2 * squares))  # it leaves the least of the gap
    hinge, onset = hinges[best], int(onsets[best])
    ours_rise, theirs_rise = (float(hinge @ values / squares[best]) * (n - 1 - onset) for values in (ours, theirs))
    parts = _in_errors(hinge, gap) >= _SIGMAS and _in_errors(hinge, _FOLLOWS * ours - theirs) >= _SURE
    return (onset, ours_rise, theirs_rise) if parts and ours_rise >= _RISE else None


def _in_errors(hinge: Values, values: Values) -> float:
    """The slope of the values along the hinge, in its standard errors."""
    values = values - values.mean()
    squares = float(hinge @ hinge)
    slope = float(hinge @ values) / squares
    left = float(((values - slope * hinge) ** 2).sum())
    error = math.sqrt(left / (len(values) - 3) / squares)
    if not error:
        return math.inf if slope > 0 else 0.0
    return slope / error


def _averaged(values: Sequence[float], size: int) -> Values:
    found = np.asarray(values, dtype=np.float64)
    edges = np.arange(0, len(found), size)
    return np.add.reduceat(found, edges) / np.diff([*edges, len(found)]) if size > 1 else found
