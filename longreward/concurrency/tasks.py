"""Work on an event loop whose exceptions always reach somebody.

asyncio drops the exception of a shielded task when the one who waits for it is cancelled, and all but the first
exception of a `gather`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_log = logging.getLogger("longreward")


class Shared(Generic[T]):
    """Work that begins now, and that several may wait for. It goes on when one of them is cancelled.

    Its exception is raised for all who wait. Where nobody does, it is in the log.
    """

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.task = asyncio.create_task(work)
        self._waiting = 0
        self._told = False
        self.task.add_done_callback(self._tell)

    async def result(self) -> T:
        """What the work returns; its exception, or CancelledError where it was cancelled."""
        if not self.task.done():
            self._waiting += 1
            try:
                await asyncio.wait({self.task})
            except asyncio.CancelledError:
                self._waiting -= 1
                if self.task.done():  # at the same moment
                    self._tell(self.task)
                raise
            self._waiting -= 1
        return self.task.result()

    @property
    def failed(self) -> bool:
        """Whether it is over without a result."""
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)

    def cancel(self) -> None:
        self.task.cancel()

    def _tell(self, task: asyncio.Task[T]) -> None:
        if not self._told and not self._waiting and not task.cancelled() and (error := task.exception()):
            self._told = True
            _log.error("work that nobody waited for has failed", exc_info=error)


class Counted(Generic[T]):
    """Shared work that is begun when it is first needed, and counted by the first who gets its result. A bad result is
    not kept: the next one who asks begins it again."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, T]], is_good: Callable[[T], bool]) -> None:
        self._begin, self._is_good = begin, is_good
        self._work: Shared[T] | None = None
        self._told: Shared[T] | None = None

    def start(self) -> Shared[T]:
        """Begin it in the background."""
        if self._work is None:
            self._work = Shared(self._begin())
        return self._work

    async def result(self) -> tuple[T, bool]:
        """As `Shared.result`, and whether this caller is the first to get it."""
        work = self.start()
        try:
            found = await work.result()
        finally:
            if self._work is work and work.failed:
                self._work = None
        first, self._told = self._told is not work, work
        if not self._is_good(found) and self._work is work:
            self._work = None
        return found, first

    def cancel(self) -> None:
        if self._work is not None:
            self._work.cancel()


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A TaskGroup that raises the first exception as it is, not in a group. Further ones are in the log."""
    failures: Sequence[BaseException] = ()
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        failures = failed.exceptions
    # Outside of `except`, or it would lose the context that it was raised in.
    for other in failures[1:]:
        if other is not failures[0]:
            _log.error("other work failed too", exc_info=other)
    if failures:
        raise failures[0]


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them return, in their order. Where one raises, the others are cancelled."""
    async with task_group() as group:
        tasks = [group.create_task(work) for work in works]
    return [task.result() for task in tasks]
