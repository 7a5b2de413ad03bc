"""An engine's training answers that are under way at once, from the first prompt to the last reward: in synchronous
training its part of a step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rl.reward_functions.config import LateSection
from rl.rollout.group_barrier import Group


@dataclass(frozen=True)
class Round:
    """One that is over, in times since 1970."""

    began: float
    generated: float
    """The last answer had its last token."""
    rewarded: float
    """The last answer had its reward."""

    def __add__(self, other: Round) -> Round:
        """The same step at two engines."""
        return Round(
            min(self.began, other.began), max(self.generated, other.generated), max(self.rewarded, other.rewarded)
        )


@dataclass(eq=False)
class UnderWay:
    """A training answer on its way to its reward."""

    group: Group
    generated: float | None = None
    """When it had its last token, by the event loop's clock."""
    late: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Done once nobody waits for its scores any more."""


class Rounds:
    """An engine's rounds, one after the other. Keeps to its event loop."""

    def __init__(self, ended: Callable[[Round], None], late: LateSection, can_spare: Callable[[Group], bool]) -> None:
        """`ended` is called with each round that is over. `can_spare`: whether a group is worth training on without
        those of its answers that are not scored yet."""
        self._ended, self._late, self._can_spare = ended, late, can_spare
        self._answers = 0
        self._under_way: set[UnderWay] = set()
        self._open: set[UnderWay] = set()
        """Those without scores."""
        self._slowest = 0.0
        self._began = self._generated = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, group: Group) -> UnderWay:
        """An answer is about to be generated."""
        if not self._under_way:
            self._began, self._answers, self._slowest = time.time(), 0, 0.0
        answer = UnderWay(group)
        self._answers += 1
        self._under_way.add(answer)
        self._open.add(answer)
        return answer

    def generated(self, answer: UnderWay) -> None:
        """It has its last token."""
        self._generated = time.time()
        answer.generated = asyncio.get_running_loop().time()

    def scored(self, answer: UnderWay) -> None:
        """It has its scores, or none: its siblings no longer wait for it."""
        self._open.discard(answer)
        if answer.generated is not None and not answer.late.done():
            self._slowest = max(self._slowest, asyncio.get_running_loop().time() - answer.generated)
        self._look()

    def rewarded(self, answer: UnderWay) -> None:
        """It has its reward, and so have its siblings."""
        self._open.discard(answer)
        self._under_way.discard(answer)
        if not self._under_way:
            self._ended(Round(self._began, self._generated, time.time()))

    def _look(self) -> None:
        """Wait no longer for the last few answers where their scores take many times as long as all others'."""
        if self._timer is not None:
            self._timer.cancel()
        waiting = [answer for answer in self._open if not answer.late.done()]
        late = sum(answer.late.done() for answer in self._under_way)
        spare = int(self._late.share * self._answers) - late
        if not waiting or len(waiting) > spare or any(answer.generated is None for answer in waiting):
            return
        now, patience_s = asyncio.get_running_loop().time(), self._late.patience * self._slowest
        due = [(answer.generated or now) + patience_s - now for answer in waiting]
        for answer, seconds in zip(waiting, due, strict=True):
            if seconds <= 0 and self._can_spare(answer.group):
                answer.late.set_result(None)
        if later := [seconds for seconds in due if seconds > 0]:
            self._timer = asyncio.get_running_loop().call_later(min(later), self._look)
