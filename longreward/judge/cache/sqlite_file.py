"""`cache.path`: one SQLite file in WAL mode, shared by all processes of a machine.

Whoever can write to the file can make up verdicts, so it must be the user's own and have our table alone: a view or a
trigger of that name would be a program.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeAlias

from longreward.judge.cache import sqlite_table
from longreward.judge.cache.backend import Backend, CacheError, Row, Trouble, reason
from longreward.judge.cache.sqlite_table import CREATE
from longreward.text.amounts import file_size

Identity: TypeAlias = tuple[int, int]
"""Tells one file from another of the same name: its device and inode."""

APPLICATION_ID = 0x4C525643  # "LRVC"; tells our file from any other SQLite database
SCHEMA = 1
BUSY_S = 1.0  # patience with a locked file, which lookups share with a write before them

_OURS = [(b"table", b"verdicts", CREATE.encode()), (b"index", b"sqlite_autoindex_verdicts_1", None)]
_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)  # the last: a table is missing
_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_BESIDE = ("", "-wal", "-shm", "-journal")
_ANOTHER = "give cache.path another file"


class SQLiteFile(Backend):
    """The connection is opened when it is needed. A file that does not exist is made."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet."""
        self._path = path
        self.name = str(path)
        self._connection: sqlite3.Connection | None = None
        self._file: Identity | None = None

    def read(self, keys: list[bytes]) -> tuple[dict[bytes, bytes], int]:
        return sqlite_table.select(self._connect(), keys)

    def write(self, batch: list[Row]) -> None:
        sqlite_table.insert(self._connect(), batch)

    def _explain(self, error: Exception) -> Trouble:
        if is_locked(error):
            advice = "Find what holds it, such as a sqlite3 shell; it is tried again"
            return Trouble("it is locked by another process", advice, usable=True)
        kind, said = sqlite_table.error_kind(error), reason(error)
        if kind in _DAMAGED or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHORT_READ:
            advice = "Delete it and its -wal and -shm files, or give cache.path another file"
            return Trouble(f"it is damaged or no SQLite database ({said})", advice)
        if kind in _DISK or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
            return Trouble(f"the disk is full or failing ({said})", "Make room or check the disk; it is tried again")
        return Trouble(f"it cannot be opened or written ({said})", "Check cache.path and its permissions")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def holds(self) -> str:
        if not self._path.exists():
            return "it is made when it is needed"
        _check_owner(self._path)
        with closing(sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as opened:
            (count,) = opened.execute("SELECT count(*) FROM verdicts").fetchone()
        return f"{count:,} verdicts, {file_size(self._path.stat().st_size)}"

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and identity(self._path) != self._file:
            self.close()  # deleted or replaced under us: what is written to it now would be lost
        if self._connection is None:
            self._connection, self._file = connect(self._path, BUSY_S)
        return self._connection


def connect(path: Path, busy_s: float) -> tuple[sqlite3.Connection, Identity]:
    """A connection to a cache of our schema, which is made in a file that is new or empty; and which file that is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    while True:
        _check_owner(path)  # before: nothing is made at the end of a link of others
        with suppress(FileExistsError):
            # SQLite would make it for everybody to read.
            os.close(os.open(path.resolve(), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        _check_owner(path)
        file = identity(path)
        connection = _connect(path, busy_s)
        # SQLite makes a file that is not there; one that was deleted or replaced meanwhile would lose what is written.
        if file is not None and identity(path) == file:
            return connection, file
        connection.close()


def _check_owner(path: Path) -> None:
    """CacheError where others may have written to the file, or to those that SQLite has beside it."""
    real = path.resolve()
    for each in (path, *(real.with_name(real.name + suffix) for suffix in _BESIDE)):
        try:
            found = each.lstat()
        except FileNotFoundError:
            continue
        if found.st_uid not in (os.geteuid(), 0):
            what = f"{each} belongs to another user (uid {found.st_uid}), who could make up verdicts"
            raise CacheError(what, f"Delete it, or {_ANOTHER}")
        if stat.S_ISLNK(found.st_mode):
            continue  # of our own; what it leads to is looked at
        if not stat.S_ISREG(found.st_mode):
            raise CacheError(f"{each} is no regular file", _ANOTHER.capitalize())
        if found.st_mode & stat.S_IWOTH:
            what = f"anyone may write to {each} (mode {stat.S_IMODE(found.st_mode):04o}) and could make up verdicts"
            raise CacheError(what, f"`chmod o-w` it if nobody did, or {_ANOTHER}")


def _connect(path: Path, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
    try:
        sqlite_table.prepare(connection)
        patience = time.monotonic() + busy_s
        while True:
            try:
                _prepare(connection)
                return connection
            except sqlite3.OperationalError as error:
                # Another process is just making the file; switching to WAL does not wait for it by itself.
                if not is_locked(error) or time.monotonic() > patience:
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
                connection.execute(CREATE)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _is_new(connection: sqlite3.Connection) -> bool:
    """Whether nothing is in the file yet. CacheError where it is not ours to write to."""
    # The tables first: where another process makes the file at this moment, its marks are there when its table is.
    tables = connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 3").fetchall()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if (owner, schema) == (APPLICATION_ID, SCHEMA):
        if tables and tables != _OURS:
            raise CacheError("it holds more than our table, or another one", f"Delete it, or {_ANOTHER}")
        return False
    if owner == APPLICATION_ID:
        what = f"it was written by another version of longreward (schema {schema}, here {SCHEMA})"
        raise CacheError(what, "Give cache.path another file, or delete this one")
    if tables or owner or schema:
        raise CacheError("it is the database of another program", "Give cache.path another file")
    return True


def identity(path: Path) -> Identity | None:
    """Tells one file from another of the same name; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_locked(error: Exception) -> bool:
    """Whether another process holds the file."""
    return sqlite_table.error_kind(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
