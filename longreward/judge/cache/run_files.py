"""The verdicts of a run in its own directory: files that are only ever appended to, each by one process.

A network file system bears that, unlike SQLite's locks, and it does not matter on which host a run goes on. Each
process reads all of them into a table of its own on the local disk, which nobody else sees and which is gone when the
process ends.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from longreward.judge.cache import sqlite_table
from longreward.judge.cache.backend import Backend, CacheError, Row, Trouble, reason, sealed, unsealed
from longreward.text.amounts import file_size

SUFFIX = ".verdicts"
LOOK_S = 2.0
"""Seconds between two looks for what other processes have written."""
SYNC_S = 1.0
"""Seconds after which what was written is safe from a power cut, too."""
_PART = 8 << 20  # bytes of a file that are read at once: more than any line has
_KEY_BYTES = 32


class RunFiles(Backend):
    """A line is `KEY DIGEST JSON`, key and digest in hex. One that a kill has cut is passed over."""

    def __init__(self, folder: Path) -> None:
        """Touches nothing yet; the folder is made at the first write."""
        self._folder = folder
        self.name = str(folder)
        self._table: sqlite3.Connection | None = None
        self._read_to: dict[str, int] = {}
        # In the order in which they are read: one that cannot be read comes behind the others the next time.
        self._unread: dict[str, None] = {}
        self._look_at = self._synced_at = 0.0
        self._damaged = 0
        self._own: Path | None = None
        self._file = -1

    def read(self, keys: list[bytes]) -> tuple[dict[bytes, bytes], int]:
        found, damaged = sqlite_table.select(self._opened_table(), keys)
        self._damaged, damaged = 0, damaged + self._damaged
        return found, damaged

    def write(self, batch: list[Row]) -> None:
        lines = b"".join(key.hex().encode() + b" " + sealed(key, data) + b"\n" for key, data in batch)
        try:
            name = self._begin_file()
            view = memoryview(lines)
            while view:
                view = view[os.write(self._file, view) :]
            if (now := time.monotonic()) > self._synced_at + SYNC_S:
                self._synced_at = now
                os.fdatasync(self._file)
        except BaseException:
            self._end_file()  # its last line may be cut
            raise
        self._unread[name] = None

    def refresh(self) -> bool:
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_S
            self._look()
        if self._unread:
            name = next(iter(self._unread))
            del self._unread[name]
            if self._take(name):
                self._unread[name] = None
        return bool(self._unread)

    def close(self) -> None:
        self._end_file()
        table, self._table = self._table, None
        self._read_to.clear()
        self._look_at = 0.0
        if table is not None:
            table.close()

    def holds(self) -> str:
        files = list(self._folder.glob(f"*{SUFFIX}"))
        if not files:
            return "the run's own, nothing yet"
        hosts = {file.name.removesuffix(SUFFIX).rpartition("-")[0] for file in files}
        size = sum(file.stat().st_size for file in files)
        return f"the run's own, {file_size(size)} of verdicts written on {', '.join(sorted(hosts))}"

    def _look(self) -> None:
        sizes = {}
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            sizes = {e.name: e.stat(follow_symlinks=False).st_size for e in entries if e.name.endswith(SUFFIX)}
        self._unread |= {name: None for name, size in sizes.items() if size > self._read_to.get(name, 0)}
        if self._own is not None and self._own.name not in sizes:
            self._end_file()  # it was deleted, or the run's directory moved: what is written to it now would be lost

    def _take(self, name: str) -> bool:
        """Take in the next part of a file. Returns whether there is more."""
        start = self._read_to.get(name, 0)
        try:
            file = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            self._check_owner(file, name)
            part = os.pread(file, _PART, start)
        except CacheError:
            self._read_to[name] = sys.maxsize
            raise
        finally:
            os.close(file)
        end = part.rfind(b"\n") + 1
        found = [_row(line) for line in part[:end].split(b"\n")[:-1]]
        rows = list({row[0]: row for row in found if row is not None}.values())
        self._damaged += found.count(None)
        table = self._opened_table()
        for first in range(0, len(rows), sqlite_table.BATCH):
            sqlite_table.insert(table, rows[first : first + sqlite_table.BATCH])
        full = len(part) == _PART
        self._read_to[name] = start + (end or (len(part) if full else 0))
        return full

    def _check_owner(self, file: int, name: str) -> None:
        """CacheError where others than the owner of the folder could have made up verdicts."""
        found = os.fstat(file)
        trusted = (os.geteuid(), 0, self._folder.stat().st_uid)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in trusted or found.st_mode & stat.S_IWOTH:
            mode = stat.S_IMODE(found.st_mode)
            what = f"{name} is not read, because others could make up verdicts (uid {found.st_uid}, mode {mode:04o})"
            raise CacheError(what, "Delete it, or make it yours alone")

    def _opened_table(self) -> sqlite3.Connection:
        if self._table is None:
            # Without a name SQLite makes it in its folder for temporary files, when memory is not enough.
            self._table = sqlite3.connect("", isolation_level=None)
            sqlite_table.prepare(self._table)
            self._table.execute("PRAGMA journal_mode = MEMORY")
            self._table.execute(sqlite_table.CREATE)
        return self._table

    def _begin_file(self) -> str:
        if self._own is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            host = socket.gethostname().replace("/", "_")
            own = self._folder / f"{host}-{uuid.uuid4().hex[:8]}{SUFFIX}"
            self._file = os.open(own, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
            self._own = own
        return self._own.name

    def _end_file(self) -> None:
        if self._own is not None:
            self._own = None
            with suppress(OSError):
                os.fdatasync(self._file)
            os.close(self._file)

    def _explain(self, error: Exception) -> Trouble:
        if isinstance(error, sqlite3.Error):
            full = sqlite_table.error_kind(error) == sqlite3.SQLITE_FULL
            what = f"its copy on the local disk fails ({reason(error)})"
            return Trouble(what, "Make room there, or export TMPDIR with a larger folder", usable=full)
        advice = "Make room or check the disk and its permissions; it is tried again"
        return Trouble(f"it cannot be read or written ({reason(error)})", advice, usable=True)


def _row(line: bytes) -> Row | None:
    """What a line holds; None for a damaged one."""
    key_hex, _, seal = line.partition(b" ")
    try:
        key = bytes.fromhex(key_hex.decode())
    except ValueError:
        return None
    data = unsealed(key, seal) if len(key) == _KEY_BYTES else None
    return None if data is None else (key, data)
