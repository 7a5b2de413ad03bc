"""The thread that reads and writes kept verdicts, so that the event loop never waits for a disk or a server.

Neither stands in the way of scoring: whatever is wrong becomes misses, one warning that says what to do, and another
try later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TypeAlias, TypeVar

from longreward.judge.cache.backend import Backend, CacheError, Row
from longreward.judge.cache.sqlite_table import BATCH

logger = logging.getLogger("longreward.cache")

GATHER_S = 0.03  # a verdict waits this long for others to share its transaction
PENDING_BYTES = 32 << 20  # verdicts kept in memory while none can be written; then the oldest go
LOOKUP_S = 10.0  # the longest that a lookup waits for a disk or a server that does nothing
CLOSE_S = 30.0
RETRY_S = (1.0, 10.0)  # first and longest pause after trouble

Answers: TypeAlias = "asyncio.Future[dict[bytes, bytes]]"
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


class CacheThread:
    """Answers all lookups that have come up since its last round at once, and writes verdicts in batches.

    Verdicts stay in memory until they are written.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._lookups: dict[asyncio.AbstractEventLoop, tuple[list[bytes], Answers]] = {}
        self.pending: dict[bytes, bytes] = {}
        """Verdicts that are not written yet."""
        self.pending_bytes = 0
        self._write_at = 0.0
        self._reading, self._writing, self._refreshing = _Pause(), _Pause(), _Pause()
        self._refreshed_at = 0.0
        self._advised: set[str] = set()
        self.written = self.errors = 0

    def ask(self, *keys: bytes) -> Answers | None:
        """A future with what is kept of these keys and of others. Shield it: all who ask at this moment share it.
        None while there is a pause after trouble."""
        if time.monotonic() < self._reading.until:
            self.errors += len(keys)
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
            asked, answers = self._lookups[loop]
            asked.extend(keys)
        return answers

    def _give_up(self, answers: Answers) -> None:
        """Let those who wait go on without an answer, unless what was kept before is still being read."""
        if answers.done():
            return
        left = self._refreshed_at + LOOKUP_S - time.monotonic()
        if left > 0:
            answers.get_loop().call_later(left, self._give_up, answers)
            return
        self.errors += 1
        self._reading.failed()
        self._warn(CacheError(f"it has not answered for {LOOKUP_S:g} s", "Check the disk or the server behind it"))
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
                logger.warning("verdict cache %s: no answer for %g s; left behind", self._backend.name, CLOSE_S)

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
            self._close()

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
        if lookups:
            self._refresh()
        for loop, (keys, answers) in lookups.items():
            found = self._read(keys)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_deliver, answers, found)
        wrote = not batch or self._write(batch)
        if not last or (wrote and self.pending):
            return True
        if self.pending:
            self.errors += len(self.pending)
            logger.warning(
                "verdict cache %s: closed with verdicts not written: %d", self._backend.name, len(self.pending)
            )
        return False

    def _refresh(self) -> None:
        """Take in what others have written."""
        while time.monotonic() >= self._refreshing.until and not self._closing:
            more = self._attempt(self._refreshing, self._backend.refresh)
            self._refreshed_at = time.monotonic()
            if not more:
                break

    def _read(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """What is kept of these keys; lookups that could not be answered are counted as errors."""
        sound: dict[bytes, bytes] = {}
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            result = self._attempt(self._reading, partial(self._backend.read, part))
            if result is None:
                self.errors += len(keys) - start
                break
            found, damaged = result
            sound |= found
            if damaged:
                self.errors += damaged
                self._warn(CacheError("a verdict is damaged", "It is replaced; check the disk"))
        return sound

    def _write(self, batch: list[Row]) -> bool:
        def work() -> bool:
            self._backend.write(batch)
            return True

        if not self._attempt(self._writing, work):
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

    def _attempt(self, pause: _Pause, work: Callable[[], T]) -> T | None:
        """What `work` returns, or None after any trouble, which is reported and puts off the next attempt."""
        try:
            result = work()
        except Exception as error:  # of whatever kind: the thread must go on, and a cache is never worth a run
            if not self._warn(error):
                self._close()
            pause.failed()
            return None
        pause.succeeded()
        return result

    def _close(self) -> None:
        with contextlib.suppress(Exception):  # what is in trouble may fail at this too
            self._backend.close()

    def _warn(self, error: Exception) -> bool:
        """Say what is wrong and what to do, once for each thing to do. Returns whether what is open is still good."""
        what, advice, usable = self._backend.explain(error)
        if advice not in self._advised:
            self._advised.add(advice)
            logger.warning(
                "verdict cache %s: %s; scoring continues, and the judge is asked instead. %s",
                self._backend.name,
                what,
                advice,
            )
        return usable


def _deliver(answers: Answers, found: dict[bytes, bytes]) -> None:
    if not answers.done():
        answers.set_result(found)
