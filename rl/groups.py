"""The group barrier: what the siblings of a prompt need of one another before their rewards go to the optimizer."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from longreward.errors import LongRewardError

SCALE_MIDDLE = 5.0
Scores = dict[str, float]
"""`total` and each dimension, 0..10."""


class TooManyVoidsError(LongRewardError):
    """The share of void rewards passed the configured limit: the judge is down, not the policy bad."""


@dataclass
class Group:
    """The answers sampled for one prompt. Members register before any of them finishes generating."""

    document: Any
    """What the group shares; set by the caller when the first member registers."""
    members: int = 0
    results: list[Scores | None] = field(default_factory=list)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    final: list[Scores] = field(default_factory=list)
    permutation: list[int] = field(default_factory=list)

    def deliver(self, scores: Scores | None) -> int:
        """Take one member's scores (None: void) and return its place in the group."""
        self.results.append(scores)
        return len(self.results) - 1

    @property
    def all_delivered(self) -> bool:
        return len(self.results) == self.members


class GroupBarrier:
    """Keeps the groups in flight of one engine, fills void rewards, and watches the void rate.

    A void reward becomes the mean of its valid siblings, so that its advantage is 0 under every group estimator
    (DESIGN, section 5); a group without a valid member gets the mean of the latest valid rewards, all alike.
    """

    def __init__(self, *, max_void_rate: float, void_window: int, shuffle: bool = False) -> None:
        self._groups: dict[int, Group] = {}
        self._recent: deque[bool] = deque(maxlen=void_window)
        self._max_void_rate = max_void_rate
        self._valid: deque[Scores] = deque(maxlen=256)
        self._shuffle = random.Random(0) if shuffle else None

    def register(self, prompt: object, make_document: Callable[[], Any]) -> Group:
        """Join the group of `prompt`, told by identity: one call's siblings share the very object, no one else does.

        `make_document` is called for the first member only; its result is the group's `document`.
        """
        group = self._groups.get(id(prompt))
        if group is None:
            group = self._groups[id(prompt)] = Group(make_document())
        group.members += 1
        return group

    async def exchange(self, prompt: object, group: Group, scores: Scores | None) -> tuple[Scores, float]:
        """Deliver one member's scores and wait for its siblings'. Returns its final scores and the reward to train on.

        TooManyVoidsError when too many of the last answers are void.
        """
        place = group.deliver(scores)
        self._watch(scores is None)
        if group.all_delivered:
            del self._groups[id(prompt)]
            self._settle(group)
        await group.complete.wait()
        return group.final[place], group.final[group.permutation[place]]["total"]

    def _settle(self, group: Group) -> None:
        valid = [scores for scores in group.results if scores is not None]
        self._valid.extend(valid)
        filler = _mean(valid or list(self._valid))
        group.final = [filler if scores is None else scores for scores in group.results]
        group.permutation = list(range(group.members))
        if self._shuffle is not None:
            self._shuffle.shuffle(group.permutation)
        group.complete.set()

    def _watch(self, void: bool) -> None:
        self._recent.append(void)
        rate = sum(self._recent) / len(self._recent)
        if len(self._recent) == self._recent.maxlen and rate > self._max_void_rate:
            raise TooManyVoidsError(
                f"{rate:.0%} of the last {len(self._recent)} rewards are void (reward.max_void_rate is "
                f"{self._max_void_rate:.0%}): the judge fails; mend it and start again from the last checkpoint"
            )


def _mean(valid: list[Scores]) -> Scores:
    if valid:
        return {name: sum(scores[name] for scores in valid) / len(valid) for name in valid[0]}
    return _Neutral()


class _Neutral(dict[str, float]):
    """Before any valid reward was seen: the middle of the scale, whatever is asked for."""

    def __missing__(self, key: str) -> float:
        return SCALE_MIDDLE
