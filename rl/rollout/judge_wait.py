"""What the judge costs a run in GPU time: engines and learners wait from a step's last token to its last reward.

An engine's answers of a step are a round. Each engine tells the run's first judge worker when a round is over, and the
worker makes steps of the rounds. Not in asynchronous training, where nothing waits for a step's last reward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from longreward.judge.base import SlowCall
from rl.rollout.rounds import Round

_SHOWN = 3  # slow calls
WORTH_TELLING = 0.1
"""Share of a step."""


@dataclass(frozen=True)
class JudgeWait:
    """How long steps waited for the judge."""

    steps: int = 0
    wait_s: float = 0.0
    """From the last token to the last reward, over all of these steps."""
    steps_s: float = 0.0
    """How long they took, from one step's last reward to the next one's."""
    slowest: tuple[SlowCall, ...] = ()
    """The slowest calls of the latest of them, by endpoint and kind."""

    @property
    def share(self) -> float:
        """0..1, of the steps' time."""
        return self.wait_s / self.steps_s if self.steps_s else 0.0

    @property
    def mean_s(self) -> float:
        return self.wait_s / max(1, self.steps)

    def summary(self) -> dict[str, float]:
        """For summary.json; empty where no step has ended, or where training is asynchronous."""
        return {"judge_wait_s": round(self.mean_s, 2), "judge_wait_share": round(self.share, 4)} if self.steps else {}

    def sentence(self) -> str | None:
        """Where the judge holds the GPUs for long: for how long, why, and what helps."""
        if self.share < WORTH_TELLING:
            return None
        slow = [f"{call.kind} at {call.endpoint} ({call.seconds:.1f} s)" for call in self.slowest]
        return (
            f"the judge held the GPUs for {self.share:.0%} of the time, {self.mean_s:.1f} s a step"
            + (f"; slowest calls of the last step: {', '.join(slow)}" if slow else "")
            + "; more endpoints, a higher judge.max_in_flight or fewer calls (docs/how-to/pay-less.md) shorten that"
        )

    def __sub__(self, before: JudgeWait) -> JudgeWait:
        """Of the steps since then."""
        return JudgeWait(
            self.steps - before.steps, self.wait_s - before.wait_s, self.steps_s - before.steps_s, self.slowest
        )

    def __add__(self, other: JudgeWait) -> JudgeWait:
        """Of two workers, the second of which took the place of the first."""
        return JudgeWait(
            self.steps + other.steps, self.wait_s + other.wait_s, self.steps_s + other.steps_s, other.slowest
        )


class JudgeWaits:
    """Of a run, from the rounds of all its engines."""

    def __init__(self) -> None:
        self._before = JudgeWait()
        self._step: Round | None = None
        self._slowest: tuple[SlowCall, ...] = ()
        self._last_reward: float | None = None

    def add(self, ended: Round, slowest: Sequence[SlowCall] = ()) -> None:
        """An engine's round is over; `slowest` are the slowest calls since the last one was."""
        if self._step is not None and ended.began < self._step.rewarded:  # the same step at another engine
            self._step, self._slowest = self._step + ended, (*self._slowest, *slowest)
            return
        self._before = self.so_far
        self._last_reward = None if self._step is None else self._step.rewarded
        self._step, self._slowest = ended, tuple(slowest)

    @property
    def so_far(self) -> JudgeWait:
        step, before = self._step, self._before
        if step is None:
            return before
        return JudgeWait(
            before.steps + 1,
            before.wait_s + step.rewarded - step.generated,
            before.steps_s + step.rewarded - (self._last_reward or step.began),
            tuple(sorted(self._slowest, key=lambda call: -call.seconds)[:_SHOWN]),
        )
