"""The SQLite table of kept verdicts, read and written in batches.

A row is key, digest, value (JSON text). The digest covers key and value, so a damaged row is found. The last write of a
key wins: all its verdicts are equally good, and writing again is what repairs a damaged row.
"""

from __future__ import annotations

import sqlite3

from longreward.judge.cache.backend import LONGEST, Row, digest

# One statement and one result row per batch. Each step of a statement gives up the GIL and waits up to 5 ms to get it
# back from a busy event loop: row by row, 100 inserts hold the file's lock for 0.9 s, in one step for 0.01 s.
# WITHOUT ROWID would make the file three times as large and slower: values of 1 KB leave inner nodes no fan-out.
CREATE = "CREATE TABLE verdicts (key BLOB PRIMARY KEY, digest BLOB NOT NULL, value TEXT NOT NULL)"
BATCH = 256
"""Rows of a statement."""
_SELECT = (
    "SELECT group_concat(hex(key) || ':' || hex(digest) || ':' || length(CAST(value AS BLOB)), ' '), "  # noqa: S608 - the number is ours, keys are parameters
    "group_concat(value, '') FROM verdicts WHERE key IN ({})"
    f" AND length(CAST(value AS BLOB)) <= {LONGEST}"
)
_INSERT = "INSERT OR REPLACE INTO verdicts VALUES {}"
_MOST_AT_ONCE = 64 << 20  # bytes of a statement's result


def prepare(connection: sqlite3.Connection) -> None:
    """Set up a new connection for `select`."""
    connection.text_factory = bytes
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_AT_ONCE)


def error_kind(error: Exception) -> int:
    """SQLite's primary result code, such as SQLITE_FULL; 0 for an error that is not SQLite's."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def select(connection: sqlite3.Connection, keys: list[bytes]) -> tuple[dict[bytes, bytes], int]:
    """The sound values among at most `BATCH` keys, and the number of damaged rows."""
    heads, body = connection.execute(_SELECT.format(",".join("?" * len(keys))), keys).fetchone()
    found, end, damaged = {}, 0, 0
    for head in (heads or b"").split():
        key_hex, given, length = head.decode().split(":")
        start, end = end, end + int(length)
        key, data = bytes.fromhex(key_hex), body[start:end]
        if digest(key, data).hex().upper() == given:
            found[key] = data
        else:
            damaged += 1
    return found, damaged


def insert(connection: sqlite3.Connection, batch: list[Row]) -> None:
    """Write at most `BATCH` rows in one transaction."""
    values = ",".join(["(?, ?, CAST(? AS TEXT))"] * len(batch))
    connection.execute(_INSERT.format(values), [x for key, data in batch for x in (key, digest(key, data), data)])
