"""Void rewards: what stands for one where a trainer needs a number, and when there are too many of them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from longreward.errors import TooManyVoidsError

SCALE_MIDDLE = 5.0
_KEPT_S = 600.0
_RECENT = 256
Scores = dict[str, float]
"""`total` and each dimension, 0..10."""


def mean(valid: Sequence[Scores]) -> Scores:
    """What stands for a void reward beside these valid ones: the mean of each score, which moves no group's mean.

    Without a valid one it is the middle of the scale for any name.
    """
    if valid:
        return {name: sum(scores[name] for scores in valid) / len(valid) for name in valid[0]}
    return _Neutral()


class _Neutral(Scores):
    """Before any valid reward was seen."""

    def __missing__(self, key: str) -> float:
        return SCALE_MIDDLE


@dataclass(slots=True)
class _AnswersToPrompt:
    """The answers to one prompt that are scored so far."""

    begun: float
    outcomes: list[Scores | None] = field(default_factory=list)
    complete: asyncio.Event | None = None
    """Where a void one waits for the others."""
    stand_in: Scores | None = None
    """What its void answers get while it has no valid one: the same for all, since a difference between them would be
    chance alone."""

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
        self._groups: OrderedDict[str, _AnswersToPrompt] = OrderedDict()
        self._recent: deque[Scores] = deque(maxlen=_RECENT)

    async def settle(self, prompt: str, scores: Scores | None, wait_s: float) -> Scores:
        """Take in an answer to `prompt`, and return its own scores, or for a void one (None) what stands for them.

        A void answer waits for its siblings, at most `wait_s` seconds. Without a valid sibling it gets the mean of the
        latest valid rewards of all prompts.
        """
        now = time.monotonic()
        while self._groups and next(iter(self._groups.values())).begun < now - _KEPT_S:
            self._groups.popitem(last=False)
        group = self._groups.setdefault(prompt, _AnswersToPrompt(now))
        group.outcomes.append(scores)
        if scores is not None:
            self._recent.append(scores)
        if len(group.outcomes) == self._size:
            del self._groups[prompt]
            if group.complete is not None:
                group.complete.set()
        if scores is not None:
            return scores
        if self._size is not None and len(group.outcomes) < self._size:
            group.complete = group.complete or asyncio.Event()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await group.complete.wait()
        return group.filler(self._recent)


class VoidWindow:
    """Whether the reward fails: too many of the last answers are void."""

    def __init__(self, max_rate: float, window: int, *, setting: str, then: str) -> None:
        """`max_rate` (0..1) is the highest share of void answers among the last `window`. For the error's message:
        `setting` is the name of that limit, `then` what to do once the judge is repaired."""
        self._max_rate, self._setting, self._then = max_rate, setting, then
        self._recent: deque[str | None] = deque(maxlen=window)

    def add(self, void: bool, reason: str = "") -> None:
        """Take in an answer. `reason`: why it is void, where that is known.

        TooManyVoidsError when the window is full and its share of void answers above the limit.
        """
        self._recent.append((reason or "unknown") if void else None)
        reasons = Counter(reason for reason in self._recent if reason is not None)
        rate = reasons.total() / len(self._recent)
        if len(self._recent) == self._recent.maxlen and rate > self._max_rate:
            commonest, _ = reasons.most_common(1)[0]
            raise TooManyVoidsError(
                f"{rate:.0%} of the last {len(self._recent)} rewards are void ({self._setting} is "
                f"{self._max_rate:.0%}; most often: {commonest}): the reward fails; repair it and {self._then}"
            )
