"""Who goes first on a busy event loop: requests and replies, then new questions, new answers, and documents.

A thousand things that become ready at once would otherwise be done in one pass of the loop, a second in which nothing
else runs and the judge's places stand empty. Threads would not help: while one computes, every system call of the
loop's thread waits up to 5 ms for the interpreter lock, and sending a request takes several.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from enum import IntEnum
from typing import TypeVar
from weakref import WeakKeyDictionary

from longreward.text.steps import Steps

T = TypeVar("T")
Item = TypeVar("Item")

_TURNS_PER_PASS = 16  # some 0.2 ms of CPU each
_SLICE_S = 0.002
_PATIENCE = 20  # passes after which background work gets a slice, however busy the loop is


class Priority(IntEnum):
    NETWORK = 0
    """Sending a request, reading a reply."""
    ARRIVAL = 1
    """Rendering a new question."""
    ANSWER = 2
    """Beginning with a new answer."""
    BACKGROUND = 3
    """Preparing a document."""


class Pacer:
    """Lets a few tasks at a time through in each pass of its event loop, the urgent ones first."""

    def __init__(self) -> None:
        self._waiting: tuple[deque[asyncio.Future[None]], ...] = tuple(deque() for _ in Priority)
        self._used = 0
        self._passes_without_background = 0
        self._scheduled = False

    async def turn(self, priority: Priority) -> None:
        """Wait for a turn."""
        if priority < Priority.BACKGROUND and self._used < _TURNS_PER_PASS and not any(self._waiting[: priority + 1]):
            self._used += 1
            self._schedule()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        self._schedule()
        await turn

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next_pass)

    def _next_pass(self) -> None:
        was_busy = self._used > 0
        self._scheduled, self._used = False, 0
        for priority in (Priority.NETWORK, Priority.ARRIVAL, Priority.ANSWER):
            while self._used < _TURNS_PER_PASS and self._grant(priority):
                self._used += 1
        self._passes_without_background += 1
        if not (was_busy or self._used) or self._passes_without_background >= _PATIENCE:
            self._passes_without_background = 0
            self._grant(Priority.BACKGROUND)
        if self._used or any(self._waiting):
            self._schedule()

    def _grant(self, priority: Priority) -> bool:
        waiting = self._waiting[priority]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():  # a cancelled task needs no turn
                turn.set_result(None)
                return True
        return False


_pacers: WeakKeyDictionary[asyncio.AbstractEventLoop, Pacer] = WeakKeyDictionary()


def pacer() -> Pacer:
    """The running event loop's pacer: one for all rewards and judges on it."""
    loop = asyncio.get_running_loop()
    found = _pacers.get(loop)
    if found is None:
        found = _pacers[loop] = Pacer()
    return found


def rare_collections() -> None:
    """For a process that does nothing but score: keep what is loaded by now out of garbage collection and collect
    seldom. Going through all objects stops every call for 0.1 to 0.2 s, several times in the first seconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def at_most(concurrency: int, items: Iterable[Item], work: Callable[[Item], Awaitable[T]]) -> list[T]:
    """Do `work` for each item, for at most `concurrency` of them at once. The results are in the order of the items."""
    numbered = enumerate(items)
    results: dict[int, T] = {}

    async def worker() -> None:
        for position, item in numbered:
            results[position] = await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
    return [results[position] for position in range(len(results))]


async def in_slices(steps: Steps[T]) -> T:
    """Do it on the event loop in the background, 2 ms at a time."""
    background = pacer()
    while True:
        await background.turn(Priority.BACKGROUND)
        until = time.perf_counter() + _SLICE_S
        while time.perf_counter() < until:
            try:
                next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result
