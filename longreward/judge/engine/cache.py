"""Good verdicts on disk, shared by all processes of a machine and safe against a kill at any moment.

One SQLite file in WAL mode. A row is key, digest, value (JSON text); the digest covers key and value, so that a damaged
row is a miss and never a wrong verdict. The last write of a key wins: all its verdicts are equally good, and writing
again is what repairs a damaged row.

The file never stands in the way of scoring: whatever is wrong with it becomes misses, one warning that says what to do,
and another try later.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import logging
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

logger = logging.getLogger("longreward.cache")

APPLICATION_ID = 0x4C525643  # "LRVC"; tells our file from any other SQLite database
SCHEMA = 1

GATHER_S = 0.03  # a verdict waits this long for others to share its transaction
BATCH = 256  # rows per statement
PENDING_BYTES = 32 << 20  # verdicts kept in memory while the file cannot be written; then the oldest go
WRITE_BUSY_S = 5.0  # patience with a locked file; nobody waits for a write
READ_BUSY_S = 1.0
CLOSE_S = 30.0
RETRY_S = (1.0, 10.0)  # first and longest pause after trouble with the file

# One statement and one result row per batch. Each step of a statement gives up the GIL and waits up to 5 ms to get it
# back from a busy event loop: row by row, 100 inserts hold the file's lock for 0.9 s, in one step for 0.01 s.
# WITHOUT ROWID would make the file three times as large and slower: values of 1 KB leave inner nodes no fan-out.
_CREATE = "CREATE TABLE verdicts (key BLOB PRIMARY KEY, digest BLOB NOT NULL, value TEXT NOT NULL)"
_SELECT = (
    "SELECT group_concat(hex(key) || ':' || hex(digest) || ':' || length(CAST(value AS BLOB)), ' '), "
    "group_concat(value, '') FROM verdicts WHERE key IN ({})"
)
_INSERT = "INSERT OR REPLACE INTO verdicts VALUES {}"

_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)  # the last: a table is missing
_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)

Value = dict[str, Any]
Answer: TypeAlias = "asyncio.Future[bytes | None]"
T = TypeVar("T")

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def cache_key(model: str, messages: list[dict[str, str]], parameters: dict[str, Any], prompt_version: str) -> bytes:
    """SHA-256 of everything a reply depends on. Order of the parameters' names does not matter."""
    # ASCII: a lone surrogate in a policy's text has an escape in JSON, but no UTF-8 form.
    canonical = json.dumps([model, messages, parameters, prompt_version], sort_keys=True)
    return hashlib.sha256(canonical.encode()).digest()


class VerdictCache:
    """Looks verdicts up and keeps them. Two threads, begun at the first use, do all work on the file."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet; a file or folder that does not exist is made when it is needed."""
        trouble = _Trouble(path)
        self._reader = _Reader(path, trouble)
        self._writer = _Writer(path, trouble)
        self._hits = self._misses = 0
        # A cache that is dropped without aclose() lets its threads end.
        weakref.finalize(self, _stop, self._reader, self._writer)

    async def get(self, key: bytes) -> Value | None:
        """The verdict put under `key` by any process, or None. What this process has put is found at once."""
        data = self._writer.unwritten(key)
        if data is None and (answer := self._reader.ask(key)) is not None:
            data = await answer
        if data is None:
            self._misses += 1
            return None
        self._hits += 1
        value: Value = json.loads(data)
        return value

    def put(self, key: bytes, value: Value) -> None:
        """Keep `value` as it is now; it is in the file about 50 ms later. TypeError if it is not JSON."""
        self._writer.keep(key, _json_bytes(value))

    def stats(self) -> dict[str, float]:
        """Counts so far. `cache/errors`: lookups the file failed to answer, damaged rows, verdicts never written."""
        return {
            "cache/hits": float(self._hits),
            "cache/misses": float(self._misses),
            "cache/written": float(self._writer.written),
            "cache/errors": float(self._reader.errors + self._writer.errors),
        }

    async def aclose(self) -> None:
        """Write what is left, or warn of what is lost, and end the threads. Later lookups miss, later puts are lost."""
        _stop(self._reader, self._writer)
        for worker in (self._reader, self._writer):
            if worker.alive:
                await asyncio.to_thread(worker.join)


class _Worker:
    """A thread with a connection of its own: opened when needed, given up after trouble, tried again later."""

    busy_s: float

    def __init__(self, path: Path, trouble: _Trouble) -> None:
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
            if not _is_locked(error):
                self._disconnect()
            self._pause = min(self._pause * 2 or RETRY_S[0], RETRY_S[1])
            self._retry_at = time.monotonic() + self._pause
            return None
        self._pause = 0.0
        return result

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and _identity(self._path) != self._file:
            self._disconnect()  # deleted or replaced under us: what is written to it now would be lost
        if self._connection is None:
            self._connection = _open(self._path, self.busy_s)
            self._file = _identity(self._path)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class _Reader(_Worker):
    """Answers all lookups that have come up since its last round in one statement."""

    busy_s = READ_BUSY_S

    def __init__(self, path: Path, trouble: _Trouble) -> None:
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
            found = self._attempt(lambda connection: self._select(connection, keys))
        if found is None:
            self.errors += len(lookups)
            found = {}
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Answer, bytes | None]]] = {}
        for key, answer in lookups:
            by_loop.setdefault(answer.get_loop(), []).append((answer, found.get(key)))
        for loop, answers in by_loop.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_deliver, answers)

    def _select(self, connection: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, bytes]:
        """The sound values among `keys`."""
        heads, body = connection.execute(_SELECT.format(",".join("?" * len(keys))), keys).fetchone()
        found, end = {}, 0
        for head in (heads or b"").split():
            key_hex, digest, length = head.decode().split(":")
            start, end = end, end + int(length)
            key, data = bytes.fromhex(key_hex), body[start:end]
            if _digest(key, data).hex().upper() == digest:
                found[key] = data
            else:
                self.errors += 1
                self._trouble.report(_FileError("a row is damaged", "It is replaced; check the disk"))
        return found


class _Writer(_Worker):
    """Keeps verdicts in memory until they are in the file."""

    busy_s = WRITE_BUSY_S

    def __init__(self, path: Path, trouble: _Trouble) -> None:
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
        if self._attempt(lambda connection: _insert(connection, batch)) is None:
            return False
        self.written += len(batch)
        with self._wake:
            for key, data in batch:
                if self._pending.get(key) is data:  # not put again meanwhile
                    self._forget(key)
        return True

    def _forget(self, key: bytes) -> None:
        self._bytes -= len(self._pending.pop(key, b""))


class _FileError(Exception):
    """Trouble that SQLite does not see: what it is, and what to do about it."""


class _Trouble:
    """Says once what is wrong with the file, and what to do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def report(self, error: Exception) -> None:
        what, advice = _explain(error)
        with self._lock:
            if advice in self._said:
                return
            self._said.add(advice)
        logger.warning(
            "verdict cache %s: %s; scoring goes on, the judge is asked for what it cannot give. %s",
            self._path,
            what,
            advice,
        )


def _explain(error: Exception) -> tuple[str, str]:
    """What the trouble is, and what to do about it."""
    if isinstance(error, _FileError):
        what, advice = error.args
        return what, advice
    if _is_locked(error):
        return "it is locked by another process", "Find what holds it, such as a sqlite3 shell; it is tried again"
    code = getattr(error, "sqlite_errorcode", 0)
    kind = code & 0xFF
    reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    if kind in _DAMAGED or code == sqlite3.SQLITE_IOERR_SHORT_READ:
        advice = "Delete it and its -wal and -shm files, or give cache.path another file"
        return f"it is damaged or no SQLite database ({reason})", advice
    if kind in _DISK or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return f"the disk is full or failing ({reason})", "Make room or check the disk; it is tried again"
    return f"it cannot be opened or written ({reason})", "Check cache.path and its permissions"


def _is_locked(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _open(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection to a cache of our schema, which is made in a file that is new or empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
    try:
        connection.text_factory = bytes
        patience = time.monotonic() + busy_s
        while True:
            try:
                _prepare(connection)
                return connection
            except sqlite3.OperationalError as error:
                # Another process is just making the file; switching to WAL does not wait for it by itself.
                if not _is_locked(error) or time.monotonic() > patience:
                    raise
            time.sleep(0.01)
    except BaseException:
        connection.close()
        raise


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")
    if _is_new(connection):
        connection.execute("PRAGMA journal_mode = WAL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if _is_new(connection):
                connection.execute(_CREATE)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _is_new(connection: sqlite3.Connection) -> bool:
    """Whether nothing is in the file yet. _FileError where it is not ours to write to."""
    # The tables first: where another process makes the file at this moment, its marks are there when its table is.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if (owner, schema) == (APPLICATION_ID, SCHEMA):
        return False
    if owner == APPLICATION_ID:
        what = f"it was written by another version of longreward (schema {schema}, here {SCHEMA})"
        raise _FileError(what, "Give cache.path another file, or delete this one")
    if tables or owner or schema:
        raise _FileError("it is the database of another program", "Give cache.path another file")
    return True


def _insert(connection: sqlite3.Connection, batch: list[tuple[bytes, bytes]]) -> bool:
    values = ",".join(["(?, ?, CAST(? AS TEXT))"] * len(batch))
    connection.execute(_INSERT.format(values), [x for key, data in batch for x in (key, _digest(key, data), data)])
    return True


def _digest(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(key + data, digest_size=16).digest()


def _json_bytes(value: Value) -> bytes:
    try:
        return _dumps(value).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value).encode()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _deliver(answers: list[tuple[Answer, bytes | None]]) -> None:
    for answer, data in answers:
        if not answer.done():
            answer.set_result(data)


def _stop(*workers: _Worker) -> None:
    for worker in workers:
        worker.stop()
