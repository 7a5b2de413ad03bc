"""The time that a judge call may take, and the times that do not count."""

from __future__ import annotations

import asyncio
import math

_AFTER_A_STANDSTILL_S = 1.0
"""A call may go on for at least this long once the run goes on."""


class Standstill:
    """The time in which no call's clock runs: the run is paused at its spend cap, or an outage is waited out."""

    def __init__(self) -> None:
        self._total = 0.0
        self._since: float | None = None
        self._ended = -math.inf

    @property
    def now(self) -> bool:
        return self._since is not None

    def set(self, still: bool, now: float) -> None:
        if still and self._since is None:
            self._since = now
        elif not still and self._since is not None:
            self._total += now - self._since
            self._since, self._ended = None, now

    def seconds(self, now: float) -> float:
        """Seconds of standstill until `now`."""
        return self._total + (now - self._since if self._since is not None else 0.0)

    def ended_ago(self, now: float) -> float:
        """Seconds since clocks last stood still: 0 while they do, infinity if they never did."""
        return 0.0 if self.now else now - self._ended


class Clock:
    """The time of one call since its first attempt, without the time of standstills."""

    def __init__(self, standstill: Standstill, limit_s: float) -> None:
        self._standstill, self._limit_s = standstill, limit_s
        self._loop = asyncio.get_running_loop()
        self.begun = self._loop.time()
        self._stood = standstill.seconds(self.begun)

    @property
    def wall(self) -> float:
        """Seconds since it began."""
        return self._loop.time() - self.begun

    @property
    def elapsed(self) -> float:
        """Seconds that count against the call's deadline."""
        return self.wall - (self._standstill.seconds(self._loop.time()) - self._stood)

    @property
    def left(self) -> float:
        """Seconds until the call's deadline; infinity while the clock stands still."""
        return math.inf if self._standstill.now else self._limit_s - self.elapsed

    @property
    def wait_s(self) -> float:
        """Seconds to wait for a place before looking at the clock again, 0 or less when the time is over.

        They are finite, because a standstill may end. In a standstill and shortly after one, there is time left.
        """
        left = self._limit_s - self.elapsed
        recent = self._standstill.ended_ago(self._loop.time()) < _AFTER_A_STANDSTILL_S
        return max(left, _AFTER_A_STANDSTILL_S) if recent else left
