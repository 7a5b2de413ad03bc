"""The two threads that work on the file of kept verdicts, so that the event loop never waits for a disk.

The file never stands in the way of scoring: whatever is wrong with it becomes misses, one warning that says what to do,
and another try later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

from longreward.judge.engine import cache_file
from longreward.judge.engine.cache_file import FileError, Trouble

logger = logging.getLogger("longreward.cache")

GATHER_S = 0.03  # a verdict waits this long for others to share its transaction
BATCH = 256  # rows per statement
PENDING_BYTES = 32 << 20  # verdicts kept in memory while the file cannot be written; then the oldest go
WRITE_BUSY_S = 5.0  # patience with a locked file; nobody waits for a write
READ_BUSY_S = 1.0
CLOSE_S = 30.0
RETRY_S = (1.0, 10.0)  # first and longest pause after trouble with the file

Answer: TypeAlias = "asyncio.Future[bytes | None]"
T = TypeVar("T")


class FileThread:
    """A thread with a connection of its own: opened when needed, given up after trouble, tried again later."""

    busy_s: float

    def __init__(self, path: Path, trouble: Trouble) -> None:
        self._path = path
        self._trouble = trouble
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._pause = 0.0
        self._retry_at = 0.0
        self.errors = 0

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Let the thread finish what it has and end."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                logger.warning("verdict cache %s: the disk has not answered for %g s; left behind", self._path, CLOSE_S)

    def turn(self) -> bool:
        """One round of work, waiting for it first. False when there will be no more."""
        raise NotImplementedError

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while self.turn():
                pass
        finally:
            self._disconnect()

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` returns, or None after any trouble, which is reported and puts off the next attempt."""
        try:
            result = work(self._connect())
        except Exception as error:  # of whatever kind: the thread must go on, and a cache is never worth a run
            self._trouble.report(error)
            if not cache_file.is_locked(error):
                self._disconnect()
            self._pause = min(self._pause * 2 or RETRY_S[0], RETRY_S[1])
            self._retry_at = time.monotonic() + self._pause
            return None
        self._pause = 0.0
        return result

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and cache_file.identity(self._path) != self._file:
            self._disconnect()  # deleted or replaced under us: what is written to it now would be lost
        if self._connection is None:
            self._connection = cache_file.connect(self._path, self.busy_s)
            self._file = cache_file.identity(self._path)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class Reader(FileThread):
    """Answers all lookups that have come up since its last round in one statement."""

    busy_s = READ_BUSY_S

    def __init__(self, path: Path, trouble: Trouble) -> None:
        super().__init__(path, trouble)
        self._lookups: list[tuple[bytes, Answer]] = []

    def ask(self, key: bytes) -> Answer | None:
        """A future of the running loop; None while the file is given a pause after trouble."""
        if time.monotonic() < self._retry_at:
            self.errors += 1
            return None
        answer: Answer = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._closing:
                return None
            self._start()
            if not self._lookups:
                self._wake.notify()
            self._lookups.append((key, answer))
        return answer

    def turn(self) -> bool:
        with self._wake:
            while not self._lookups and not self._closing:
                self._wake.wait()
            lookups, self._lookups = self._lookups, []
        for start in range(0, len(lookups), BATCH):
            self._answer(lookups[start : start + BATCH])
        return bool(lookups)

    def _answer(self, lookups: list[tuple[bytes, Answer]]) -> None:
        found = None
        if time.monotonic() >= self._retry_at:
            keys = [key for key, answer in lookups if not answer.cancelled()]
            found = self._select(keys)
        if found is None:
            self.errors += len(lookups)
            found = {}
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Answer, bytes | None]]] = {}
        for key, answer in lookups:
            by_loop.setdefault(answer.get_loop(), []).append((answer, found.get(key)))
        for loop, answers in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_deliver, answers)

    def _select(self, keys: list[bytes]) -> dict[bytes, bytes] | None:
        result = self._attempt(lambda connection: cache_file.select(connection, keys))
        if result is None:
            return None
        found, damaged = result
        if damaged:
            self.errors += damaged
            self._trouble.report(FileError("a row is damaged", "It is replaced; check the disk"))
        return found


class Writer(FileThread):
    """Keeps verdicts in memory until they are in the file."""

    busy_s = WRITE_BUSY_S

    def __init__(self, path: Path, trouble: Trouble) -> None:
        super().__init__(path, trouble)
        self._pending: dict[bytes, bytes] = {}
        self._bytes = 0
        self.written = 0

    def unwritten(self, key: bytes) -> bytes | None:
        return self._pending.get(key)

    def keep(self, key: bytes, data: bytes) -> None:
        with self._wake:
            if self._closing:
                self.errors += 1
                return
            self._start()
            if not self._pending:
                self._wake.notify()
            self._forget(key)
            self._pending[key] = data
            self._bytes += len(data)
            while self._bytes > PENDING_BYTES:
                self._forget(next(iter(self._pending)))
                self.errors += 1

    def turn(self) -> bool:
        with self._wake:
            while not self._pending and not self._closing:
                self._wake.wait()
            pause = max(GATHER_S, self._retry_at - time.monotonic())
            self._wake.wait_for(lambda: self._closing, pause)
            last = self._closing
            rows = list(self._pending.items())
        for start in range(0, len(rows), BATCH):
            if not self._write(rows[start : start + BATCH]):
                break
        if last and self._pending:
            self.errors += len(self._pending)
            logger.warning("verdict cache %s: closed with verdicts not written: %d", self._path, len(self._pending))
        return not last

    def _write(self, batch: list[tuple[bytes, bytes]]) -> bool:
        if self._attempt(lambda connection: cache_file.insert(connection, batch)) is None:
            return False
        self.written += len(batch)
        with self._wake:
            for key, data in batch:
                if self._pending.get(key) is data:  # not put again meanwhile
                    self._forget(key)
        return True

    def _forget(self, key: bytes) -> None:
        self._bytes -= len(self._pending.pop(key, b""))


def _deliver(answers: list[tuple[Answer, bytes | None]]) -> None:
    for answer, data in answers:
        if not answer.done():
            answer.set_result(data)
