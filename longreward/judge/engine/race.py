"""One request, and second ones where it is late: the first valid answer counts, the others are broken off."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from longreward.errors import JudgeError
from longreward.judge.engine.endpoint import Endpoint, Permit
from longreward.judge.engine.hedging import Hedging, Sort

T = TypeVar("T")

_SHORTEST_S = 0.1  # below, no step waits for a call
_LOOK_AGAIN = 0.25  # of the time that a request is out
_MOMENT = 1.1
"""Times a request's patience, until it is asked again: by then those that were sent just after it are late, if all of
them are."""
_MOST = 3  # requests in all


class Race(Generic[T]):
    """The race for one answer."""

    def __init__(
        self,
        hedging: Hedging,
        sort: Sort,
        ask: Callable[[Permit], Coroutine[None, None, T]],
        another: Callable[[Permit], Coroutine[None, None, Permit] | None],
    ) -> None:
        """`ask` sends one request; JudgeError where its answer is not valid. `another` is the right to ask once more
        beside the request of the given permit, as soon as there is a place; None where that would be of no use."""
        self._hedging, self._sort, self._ask, self._another = hedging, sort, ask, another
        self._loop = asyncio.get_running_loop()
        self._others = set[asyncio.Task[Any]]()
        self._won: list[T] = []
        self._waits = False
        """Whether a second request waits for its place."""
        self.answered_at: Endpoint
        """Where the answer comes from, once it is there."""

    async def answer(self, permit: Permit) -> T:
        """The first valid answer; the error of the first request where there is none."""
        hedging, self.answered_at = self._hedging, permit.endpoint
        if not hedging.on:
            return await self._ask(permit)
        self._permit, self._sent, answered = permit, self._loop.time(), False
        numbers = hedging.begin(self._sort, self._sent)
        self._look_after(self._patience(self._sent))
        try:
            found = await self._first(permit)
            answered = True
        finally:
            self._timer.cancel()
            hedging.end(self._sort, numbers, self._loop.time(), answered=answered)
            await self._end_others()
        return found

    async def _first(self, permit: Permit) -> T:
        try:
            return await self._ask(permit)
        except JudgeError:  # of this request, or it was broken off because another one has won
            while not self._won and (running := [task for task in self._others if not task.done()]):
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if not self._won:
                raise
        return self._won[0]

    def _patience(self, now: float) -> float:
        """Seconds from a request to the next one; infinity while too little is known."""
        return _MOMENT * self._hedging.patience(self._sort, now)

    def _look_after(self, seconds: float) -> None:
        unknown = seconds == math.inf
        self._timer = self._loop.call_later(_SHORTEST_S if unknown else max(_SHORTEST_S, seconds), self._look)

    def _look(self) -> None:
        """Ask once more where the latest request is late."""
        now = self._loop.time()
        out, patience = now - self._sent, self._patience(now)
        if out < patience < math.inf:
            self._look_after(patience - out)
            return
        self._look_after(_LOOK_AGAIN * out)
        if patience < math.inf and not self._waits and len(self._others) < _MOST - 1:
            self._others.add(self._loop.create_task(self._ask_again()))

    async def _ask_again(self) -> None:
        # Here, because a task that is cancelled at once would give nothing back.
        place = self._another(self._permit)
        if place is None:
            if task := asyncio.current_task():
                self._others.discard(task)
            return
        self._waits, sent = True, False
        self._hedging.hedges += 1
        try:
            permit = await place
            sent = True
        except JudgeError:
            return  # the first request goes on
        finally:
            self._waits = False
            self._hedging.hedges -= not sent
        self._sent = self._loop.time()
        self._timer.cancel()
        self._look_after(self._patience(self._sent))
        try:
            found = await self._ask(permit)
        except JudgeError:
            return
        if not self._won:
            self._won.append(found)
            self._hedging.won, self.answered_at = self._hedging.won + 1, permit.endpoint
            self._permit.break_off(answered_at=permit.endpoint)

    async def _end_others(self) -> None:
        for task in self._others:
            task.cancel()
        if self._others:
            await asyncio.wait(self._others)
        for task in self._others:
            if not task.cancelled():
                task.result()  # a bug is raised
