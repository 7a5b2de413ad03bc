"""The order of work on a busy event loop: requests and replies first, then new questions, new answers, documents.

Without an order, a thousand tasks that become ready at once run in one pass of the loop. It takes a second, in which no
request is sent and the judge waits. Threads would not help: while one of them computes, every system call of the loop's
thread waits up to 5 ms for the interpreter lock, and sending a request takes several system calls.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable
from enum import IntEnum
from typing import TypeVar
from weakref import WeakKeyDictionary

from longreward.concurrency.tasks import together

T = TypeVar("T")
S = TypeVar("S")

_TURNS_PER_PASS = 16  # one takes some 0.2 ms of CPU
_SLICE_S = 0.002
_PATIENCE = 20  # after so many passes background work gets a slice, even if the loop is busy


class Priority(IntEnum):
    """What a task does next; smaller numbers go first."""

    NETWORK = 0
    """Sending a request, reading a reply."""
    ARRIVAL = 1
    """Rendering a new question."""
    ANSWER = 2
    """Beginning with a new answer."""
    BACKGROUND = 3
    """Preparing a document."""


class Pacer:
    """Lets only a few tasks run in each pass of its event loop, the urgent ones first."""

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
    """The pacer of the running event loop. All rewards and judges on that loop share it."""
    loop = asyncio.get_running_loop()
    found = _pacers.get(loop)
    if found is None:
        found = _pacers[loop] = Pacer()
    return found


def rare_collections() -> None:
    """Collect garbage less often, and never look at the objects that exist by now. For a process that only scores: a
    full collection stops all calls for 0.1 to 0.2 s, and there would be several in the first seconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def at_most(concurrency: int, items: Iterable[S], work: Callable[[S], Awaitable[T]]) -> list[T]:
    """Do `work` for each item, for at most `concurrency` of them at once. The results are in the order of the items."""
    numbered = enumerate(items)
    results: dict[int, T] = {}

    async def worker() -> None:
        for position, item in numbered:
            results[position] = await work(item)

    await together(worker() for _ in range(concurrency))
    return [results[position] for position in range(len(results))]


async def in_slices(steps: Generator[None, None, T]) -> T:
    """Do the steps in the background of the event loop, 2 ms at a time. Returns their result."""
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
