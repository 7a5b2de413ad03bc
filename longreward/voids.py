"""What stands for a void reward where a trainer needs a number: the mean of its siblings, so that it moves nobody."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

SCALE_MIDDLE = 5.0
_KEPT_S = 600.0
_RECENT = 256
Scores = dict[str, float]
"""`total` and each dimension, 0..10."""


def mean(valid: Sequence[Scores]) -> Scores:
    """The mean of each score; the middle of the scale, whatever is asked for, where there is none."""
    if valid:
        return {name: sum(scores[name] for scores in valid) / len(valid) for name in valid[0]}
    return _Neutral()


class _Neutral(Scores):
    """Before any valid reward was seen: the middle of the scale, whatever is asked for."""

    def __missing__(self, key: str) -> float:
        return SCALE_MIDDLE


@dataclass
class _Group:
    """The answers to one prompt that are scored so far."""

    begun: float
    outcomes: list[Scores | None] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    stand_in: Scores | None = None
    """What its void answers get while it has no valid one: the same for all, or they would differ by nothing but
    chance."""

    def filler(self, recent: Sequence[Scores]) -> Scores:
        valid = [scores for scores in self.outcomes if scores is not None]
        if valid:
            return mean(valid)
        if self.stand_in is None:
            self.stand_in = mean(recent)
        return self.stand_in


class Siblings:
    """Fills void rewards from the other answers to the same prompt. Use it on one event loop."""

    def __init__(self, group_size: int | None = None) -> None:
        """`group_size`: how many answers each prompt has; a void one then waits for all of them. None: it gets the mean
        of those scored in the last ten minutes."""
        self._size = group_size
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._recent: deque[Scores] = deque(maxlen=_RECENT)

    async def settle(self, prompt: str, scores: Scores | None, wait_s: float) -> Scores:
        """Take in an answer to `prompt`: its own scores, or for a void one (None) what stands for them, after at most
        `wait_s` seconds. Without a valid sibling that is the mean of the latest valid rewards of all prompts."""
        group = self._join(prompt)
        group.outcomes.append(scores)
        if scores is not None:
            self._recent.append(scores)
        if len(group.outcomes) == self._size:
            del self._groups[prompt]
            group.complete.set()
        if scores is not None:
            return scores
        if self._size is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await group.complete.wait()
        return group.filler(self._recent)

    def _join(self, prompt: str) -> _Group:
        now = time.monotonic()
        while self._groups and next(iter(self._groups.values())).begun < now - _KEPT_S:
            self._groups.popitem(last=False)
        return self._groups.setdefault(prompt, _Group(now))
