"""The SQLite file of kept verdicts: opened, read and written in batches, and what can be wrong with it in words.

One table in WAL mode. A row is key, digest, value (JSON text). The digest covers key and value, so a damaged row is
found. The last write of a key wins: all its verdicts are equally good, and writing again is what repairs a damaged row.

Whoever can write to the file can make up verdicts, so it must be the user's own and have our table alone: a view or a
trigger of that name would be a program.
"""

from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

Identity: TypeAlias = tuple[int, int]
"""Tells one file from another of the same name: its device and inode."""

APPLICATION_ID = 0x4C525643  # "LRVC"; tells our file from any other SQLite database
SCHEMA = 1
LONGEST = 4 << 20
"""Bytes of a value that is read: no judge's reply is longer."""

# One statement and one result row per batch. Each step of a statement gives up the GIL and waits up to 5 ms to get it
# back from a busy event loop: row by row, 100 inserts hold the file's lock for 0.9 s, in one step for 0.01 s.
# WITHOUT ROWID would make the file three times as large and slower: values of 1 KB leave inner nodes no fan-out.
_CREATE = "CREATE TABLE verdicts (key BLOB PRIMARY KEY, digest BLOB NOT NULL, value TEXT NOT NULL)"
_OURS = [(b"table", b"verdicts", _CREATE.encode()), (b"index", b"sqlite_autoindex_verdicts_1", None)]
_SELECT = (
    "SELECT group_concat(hex(key) || ':' || hex(digest) || ':' || length(CAST(value AS BLOB)), ' '), "  # noqa: S608 - the number is ours, keys are parameters
    "group_concat(value, '') FROM verdicts WHERE key IN ({})"
    f" AND length(CAST(value AS BLOB)) <= {LONGEST}"
)
_INSERT = "INSERT OR REPLACE INTO verdicts VALUES {}"

_DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)  # the last: a table is missing
_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
_MOST_AT_ONCE = 64 << 20  # bytes of a statement's result
_BESIDE = ("", "-wal", "-shm", "-journal")
_ANOTHER = "give cache.path another file"


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
    """FileError where others may have written to the file, or to those that SQLite has beside it."""
    real = path.resolve()
    for each in (path, *(real.with_name(real.name + suffix) for suffix in _BESIDE)):
        try:
            found = each.lstat()
        except FileNotFoundError:
            continue
        if found.st_uid not in (os.geteuid(), 0):
            what = f"{each} belongs to another user (uid {found.st_uid}), who could make up verdicts"
            raise FileError(what, f"Delete it, or {_ANOTHER}")
        if stat.S_ISLNK(found.st_mode):
            continue  # of our own; what it leads to is looked at
        if not stat.S_ISREG(found.st_mode):
            raise FileError(f"{each} is no regular file", _ANOTHER.capitalize())
        if found.st_mode & stat.S_IWOTH:
            what = f"anyone may write to {each} (mode {stat.S_IMODE(found.st_mode):04o}) and could make up verdicts"
            raise FileError(what, f"`chmod o-w` it if nobody did, or {_ANOTHER}")


def _connect(path: Path, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None)
    try:
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_AT_ONCE)
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
                connection.execute(_CREATE)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _is_new(connection: sqlite3.Connection) -> bool:
    """Whether nothing is in the file yet. FileError where it is not ours to write to."""
    # The tables first: where another process makes the file at this moment, its marks are there when its table is.
    tables = connection.execute("SELECT type, name, sql FROM sqlite_master LIMIT 3").fetchall()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if (owner, schema) == (APPLICATION_ID, SCHEMA):
        if tables and tables != _OURS:
            raise FileError("it holds more than our table, or another one", f"Delete it, or {_ANOTHER}")
        return False
    if owner == APPLICATION_ID:
        what = f"it was written by another version of longreward (schema {schema}, here {SCHEMA})"
        raise FileError(what, "Give cache.path another file, or delete this one")
    if tables or owner or schema:
        raise FileError("it is the database of another program", "Give cache.path another file")
    return True


def select(connection: sqlite3.Connection, keys: list[bytes]) -> tuple[dict[bytes, bytes], int]:
    """The sound values among `keys`, and the number of damaged rows."""
    heads, body = connection.execute(_SELECT.format(",".join("?" * len(keys))), keys).fetchone()
    found, end, damaged = {}, 0, 0
    for head in (heads or b"").split():
        key_hex, digest, length = head.decode().split(":")
        start, end = end, end + int(length)
        key, data = bytes.fromhex(key_hex), body[start:end]
        if _digest(key, data).hex().upper() == digest:
            found[key] = data
        else:
            damaged += 1
    return found, damaged


def insert(connection: sqlite3.Connection, batch: list[tuple[bytes, bytes]]) -> bool:
    """Write the rows in one transaction."""
    values = ",".join(["(?, ?, CAST(? AS TEXT))"] * len(batch))
    connection.execute(_INSERT.format(values), [x for key, data in batch for x in (key, _digest(key, data), data)])
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
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class FileError(Exception):
    """Trouble that SQLite does not see: what it is, and what to do about it."""


def explain(error: Exception) -> tuple[str, str]:
    """What the trouble is, and what to do about it."""
    if isinstance(error, FileError):
        what, advice = error.args
        return what, advice
    if is_locked(error):
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


def _digest(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(key + data, digest_size=16).digest()
