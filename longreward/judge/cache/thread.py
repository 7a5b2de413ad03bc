"""The thread that works on the file of kept verdicts, so that the event loop never waits for a disk.

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
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

from longreward.judge.cache import file as cache_file
from longreward.judge.cache.file import FileError

logger = logging.getLogger("longreward.cache")

GATHER_S = 0.03  # a verdict waits this long for others to share its transaction
BATCH = 256  # rows per statement
PENDING_BYTES = 32 << 20  # verdicts kept in memory while the file cannot be written; then the oldest go
BUSY_S = 1.0  # patience with a locked file, which lookups share with a write before them
LOOKUP_S = 10.0  # the longest that a lookup waits, whatever the disk does
CLOSE_S = 30.0
RETRY_S = (1.0, 10.0)  # first and longest pause after trouble with the file

Answers: TypeAlias = "asyncio.Future[dict[bytes, bytes]]"
R = TypeVar("R")
T = TypeVar("T")


class _Pause:
    """When the next attempt at reading, or at writing, may begin after trouble. Each has its own: a file that another
    process has locked for writing can still be read."""

    def __init__(self) -> None:
        self._seconds = self.until = 0.0

    def failed(self) -> None:
        self._seconds = min(self._seconds * 2 or RETRY_S[0], RETRY_S[1])
        self.until = time.monotonic() + self._seconds

    def succeeded(self) -> None:
        self._seconds = 0.0


class FileThread:
    """Answers all lookups that have come up since its last round in one statement, and writes verdicts in batches.

    Verdicts stay in memory until they are in the file. The connection is opened when needed and closed after trouble.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._file: cache_file.Identity | None = None
        self._lookups: dict[asyncio.AbstractEventLoop, tuple[list[bytes], Answers]] = {}
        self.pending: dict[bytes, bytes] = {}
        """Verdicts that are not in the file yet."""
        self.pending_bytes = 0
        self._write_at = 0.0
        self._reading, self._writing = _Pause(), _Pause()
        self._advised: set[str] = set()
        self.written = self.errors = 0

    def ask(self, key: bytes) -> Answers | None:
        """A future with what the file has of this key and of others. Shield it: all who ask at this moment share it.
        None while the file is given a pause after trouble."""
        if time.monotonic() < self._reading.until:
            self.errors += 1
            return None
        loop = asyncio.get_running_loop()
        with self._wake:
            if self._closing:
                return None
            if loop not in self._lookups:
                answers = loop.create_future()
                self._lookups[loop] = [], answers
                late = loop.call_later(LOOKUP_S, self._give_up, answers)
                answers.add_done_callback(lambda _: late.cancel())
                self._start()
            keys, answers = self._lookups[loop]
            keys.append(key)
        return answers

    def _give_up(self, answers: Answers) -> None:
        """Let those who wait go on without the file."""
        self.errors += 1
        self._reading.failed()
        what = f"it has not answered for {LOOKUP_S:g} s"
        self._warn(FileError(what, "Check the disk, or give cache.path another file"))
        _deliver(answers, {})

    def keep(self, key: bytes, data: bytes) -> None:
        with self._wake:
            if self._closing:
                self.errors += 1
                return
            if not self.pending:
                self._write_at = time.monotonic() + GATHER_S
                self._start()
            self._forget(key)
            self.pending[key] = data
            self.pending_bytes += len(data)
            while self.pending_bytes > PENDING_BYTES:
                self._forget(next(iter(self.pending)))
                self.errors += 1

    def stop(self) -> None:
        """Let the thread finish what it has and end."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def join(self) -> None:
        """Wait for the end of the thread, at most `CLOSE_S` seconds. Call `stop` first."""
        if self._thread is not None:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                logger.warning("verdict cache %s: the disk has not answered for %g s; left behind", self._path, CLOSE_S)

    def _start(self) -> None:
        """Wake the thread for new work, or begin it."""
        self._wake.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="VerdictCache", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            self._disconnect()

    def _turn(self) -> bool:
        """Wait for work and do it. False when there will be no more."""
        with self._wake:
            while not self._lookups and not self._closing:
                left = self._write_at - time.monotonic() if self.pending else None
                if left is not None and left <= 0:
                    break
                self._wake.wait(left)
            lookups, self._lookups = self._lookups, {}
            last = self._closing
            due = last or time.monotonic() >= self._write_at
            # One batch a turn, so that no lookup waits for more.
            batch = list(islice(self.pending.items(), BATCH)) if due else []
        for loop, (keys, answers) in lookups.items():
            found = self._read(keys)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_deliver, answers, found)
        wrote = not batch or self._write(batch)
        if not last or (wrote and self.pending):
            return True
        if self.pending:
            self.errors += len(self.pending)
            logger.warning("verdict cache %s: closed with verdicts not written: %d", self._path, len(self.pending))
        return False

    def _read(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """What the file has of these keys; lookups that it could not answer are counted as errors."""
        sound: dict[bytes, bytes] = {}
        for start in range(0, len(keys), BATCH):
            result = self._attempt(self._reading, cache_file.select, keys[start : start + BATCH])
            if result is None:
                self.errors += len(keys) - start
                break
            found, damaged = result
            sound |= found
            if damaged:
                self.errors += damaged
                self._warn(FileError("a row is damaged", "It is replaced; check the disk"))
        return sound

    def _write(self, batch: list[tuple[bytes, bytes]]) -> bool:
        if self._attempt(self._writing, cache_file.insert, batch) is None:
            self._write_at = self._writing.until
            return False
        self.written += len(batch)
        with self._wake:
            self._write_at = time.monotonic() + GATHER_S if len(batch) < BATCH else 0.0
            for key, data in batch:
                if self.pending.get(key) is data:  # not put again meanwhile
                    self._forget(key)
        return True

    def _forget(self, key: bytes) -> None:
        self.pending_bytes -= len(self.pending.pop(key, b""))

    def _attempt(self, pause: _Pause, work: Callable[[sqlite3.Connection, list[R]], T], rows: list[R]) -> T | None:
        """What `work` returns, or None after any trouble, which is reported and puts off the next attempt."""
        try:
            result = work(self._connect(), rows)
        except Exception as error:  # of whatever kind: the thread must go on, and a cache is never worth a run
            self._warn(error)
            if not cache_file.is_locked(error):
                self._disconnect()
            pause.failed()
            return None
        pause.succeeded()
        return result

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and cache_file.identity(self._path) != self._file:
            self._disconnect()  # deleted or replaced under us: what is written to it now would be lost
        if self._connection is None:
            self._connection, self._file = cache_file.connect(self._path, BUSY_S)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _warn(self, error: Exception) -> None:
        """Say what is wrong with the file and what to do, once for each thing to do."""
        what, advice = cache_file.explain(error)
        if advice not in self._advised:
            self._advised.add(advice)
            logger.warning(
                "verdict cache %s: %s; scoring continues, and the judge is asked instead. %s",
                self._path,
                what,
                advice,
            )


def _deliver(answers: Answers, found: dict[bytes, bytes]) -> None:
    if not answers.done():
        answers.set_result(found)
