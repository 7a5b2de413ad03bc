"""Scored answers on disk: JSON lines, appended and flushed one by one, readable after a kill at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from longreward.errors import InputError


class Store:
    """Appends records to a JSON-lines file. One process writes a file; any number may read it."""

    def __init__(self, path: Path) -> None:
        """Opens `path` for appending, making its folder. A line that a kill cut is ended, so that the next is whole."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if path.stat().st_size and not _ends_with_newline(path):
            self._file.write(b"\n")

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and hand it to the operating system, so that killing this process does not lose it."""
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: Path, broken: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, record). A line that is no JSON object goes to `broken` as `file:line: why`.

    Without `broken` it raises InputError. Empty lines are passed over.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the path of a JSON-lines file") from None
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError(f"expected an object, found {type(record).__name__}")
            except ValueError as error:  # JSON and UTF-8 errors are ValueErrors too
                problem = f"{path}:{number}: not a JSON object ({error})"
                if broken is None:
                    raise InputError(problem) from None
                broken.append(problem)
            else:
                yield number, record


def rewrite(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Replace the file by `records` in one step: a kill leaves the old or the new file, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(_line(record) for record in records)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file as a whole: whoever reads it sees the old or the new one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _line(record: dict[str, Any]) -> bytes:
    # A lone surrogate in a policy's text has no UTF-8 form; JSON's own escape keeps it readable.
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(record).encode() + b"\n"


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
