"""When a call that takes long is asked a second time, as in Dean and Barroso, "The Tail at Scale" (2013).

A call is late once it is out longer than most calls of its kind and size take. Whether that is chance or load, the
requests that were sent beside it tell (`Flow`): where they are late too, a second one would only add to the load.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict, deque

from longreward.model_config import HedgeConfig

Sort = tuple[str, int]
"""Calls that take about as long: their kind, and the power of two that their prompts' bytes lie below."""

_KEPT = 256  # latencies of a sort
_FEWEST = 20  # below, a 95th percentile is the maximum, and all kinds together tell more
_UNKNOWN = 2.0
"""Of a sort of which little is known, a call may take so many times what calls take elsewhere."""
_SHORT_S = 0.1
"""What takes less may be late because the asking process is busy, and has little to gain."""
_FIRST_CALLS = 100
"""The budget is never smaller than that of so many calls."""


def sort_of(kind: str, size: int) -> Sort:
    """`size` is in bytes."""
    return kind, size.bit_length()


class _Latencies:
    """The latest ones, and when those that are under way have begun."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []
        self._under_way: dict[int, float] = {}
        self._begun = 0

    def __len__(self) -> int:
        return len(self._ordered)

    def begin(self, now: float) -> int:
        """A call begins; its number here."""
        self._begun += 1
        self._under_way[self._begun] = now
        return self._begun

    def end(self, number: int, now: float, *, answered: bool) -> None:
        """It is over; how long it took counts where it was answered."""
        seconds = now - self._under_way.pop(number)
        if not answered:
            return
        if len(self._recent) == _KEPT:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]
        self._recent.append(seconds)
        insort(self._ordered, seconds)

    def quantile(self, share: float, now: float) -> float:
        """Seconds that this share of the calls takes at most, no more than the longest yet. What is under way for
        longer counts too: otherwise the first replies, which are the fastest, would decide."""
        seconds = self._ordered[min(len(self) - 1, int(share * len(self)))]
        longer = 0
        for begun in self._under_way.values():  # the oldest first
            if now - begun <= seconds:
                break
            longer += 1
        return self._ordered[min(len(self) - 1, int(share * (len(self) + longer)))]


class Hedging:
    """What is known of all calls to one model: how long they take, and how many were asked again."""

    def __init__(self, config: HedgeConfig) -> None:
        self._quantile, self._budget = config.quantile, config.budget
        self._sorts = defaultdict[Sort, _Latencies](_Latencies)
        self._all = _Latencies()
        self.calls = self.hedges = self.won = 0
        """Calls, second requests, and those whose answer was the first."""

    @property
    def on(self) -> bool:
        return self._budget > 0

    @property
    def affordable(self) -> bool:
        """Whether one more call may be asked again."""
        return self.hedges + 1 <= self._budget * max(self.calls, _FIRST_CALLS)

    def begin(self, sort: Sort, now: float) -> tuple[int, int]:
        """A call begins; its numbers for `end`."""
        self.calls += 1
        return self._sorts[sort].begin(now), self._all.begin(now)

    def end(self, sort: Sort, numbers: tuple[int, int], now: float, *, answered: bool) -> None:
        """It is over. It counts as one call, however often it was asked: without those that were asked again, each
        percentile would be lower than the one before it."""
        for known, number in zip((self._sorts[sort], self._all), numbers, strict=True):
            known.end(number, now, answered=answered)

    def patience(self, sort: Sort, now: float) -> float:
        """Seconds after which a call is late; infinity while too little is known."""
        if len(known := self._sorts[sort]) >= _FEWEST:
            return max(_SHORT_S, known.quantile(self._quantile, now))
        if len(self._all) < _FEWEST:
            return math.inf
        return max(_SHORT_S, _UNKNOWN * self._all.quantile(self._quantile, now))
