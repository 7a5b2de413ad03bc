"""Where a reward parts from a shadow judge: it goes on rising, and the shadow's scores of the same answers do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_FEWEST = 12
"""Groups before anything is said."""
_EDGE = 4
"""Groups on each side of an onset."""
_SIGMAS = 4.5
"""What the gap's rise has to be, in its standard errors: it is looked for at every place and after every group."""
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


def find(rewards: Sequence[float], shadows: Sequence[float]) -> Divergence | None:
    """The first divergence in the mean rewards and shadow scores (0..10) of groups in the order of time.

    At each group so far, the gap between the two is fitted by a line that is flat up to an onset and then straight.
    There is a divergence where the gap rises by more than chance, the reward has risen, and the shadow has not followed
    by half as much.
    """
    size = max(1, -(-len(rewards) // _MOST))
    ours, theirs = _averaged(rewards, size), _averaged(shadows, size)
    for end in range(_FEWEST, len(ours) + 1):
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
    gap = gap - gap.mean()
    squares = (hinges**2).sum(1)
    slopes = hinges @ gap / squares
    left = (gap**2).sum() - slopes**2 * squares
    best = int(np.argmin(left))
    error = np.sqrt(max(left[best], 0.0) / (n - 3) / squares[best])
    if slopes[best] <= 0 or slopes[best] < _SIGMAS * error:
        return None
    length = n - 1 - int(onsets[best])
    ours_rise, theirs_rise = (float(hinges[best] @ values / squares[best]) * length for values in (ours, theirs))
    if ours_rise < _RISE or theirs_rise > _FOLLOWS * ours_rise:
        return None
    return int(onsets[best]), ours_rise, theirs_rise


def _averaged(values: Sequence[float], size: int) -> Values:
    found = np.asarray(values, dtype=np.float64)
    edges = np.arange(0, len(found), size)
    return np.add.reduceat(found, edges) / np.diff([*edges, len(found)]) if size > 1 else found
