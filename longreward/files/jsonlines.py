"""JSON-lines files that this program writes: read with bad lines passed over, appended line by line, or replaced as a
whole. A user's data sets are read by `longreward.rows`.

A kill at any moment leaves a file that can be read. A file keeps its mode; a new one is its owner's alone (0600)."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Generic, Self, TypeVar

import msgspec

from longreward.errors import InputError
from longreward.files.nesting import from_json

PRIVATE = 0o600
"""The mode of a new file: answers and documents may be confidential."""

T = TypeVar("T")


class Appender(Generic[T]):
    """Appends rows to a JSON-lines file. One process writes a file; any number may read it."""

    def __init__(self, path: Path, as_json: Callable[[T], Any] = lambda row: row) -> None:
        """Open `path` for appending and make its folder. A last line that a kill cut is ended, so that the next row
        stands on a line of its own. `as_json`: a row -> what is written of it."""
        self.path, self._as_json = path, as_json
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab+", opener=_private)  # noqa: SIM115
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")

    def append(self, row: T) -> None:
        """Write one row and hand it to the operating system, so that killing this process does not lose it."""
        self._file.write(encoded(self._as_json(row)) + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Tail:
    """Reads what is appended to a file."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        """What is before `offset`, in bytes, is passed over."""
        self._path, self._offset = path, offset

    def new(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset in bytes, line) of each line since the last time. One that is being written comes when it is
        whole."""
        with self._path.open("rb") as file:
            offset = file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset = offset + len(line)
                yield offset, line
                offset = self._offset


def lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number from 1, offset in bytes, line) of each line that is not empty.

    InputError where the file cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the path of a JSON-lines file") from None
    offset = 0
    with file:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield number, offset, line
            offset += len(line)


def read(path: Path, broken: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, row). A line that is not a JSON object goes to `broken` as `file:line: why`.

    InputError where the file cannot be read, and for such a line where `broken` is None.
    """
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, _, line in lines(path):
        try:
            try:
                row = decoder.decode(line)
            except msgspec.ValidationError:
                raise
            except ValueError:
                # Half a surrogate pair in a text, say: Python reads and writes it, msgspec does not.
                row = msgspec.convert(from_json(line), dict[str, Any])
        except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors are ValueErrors too
            problem = f"{path}:{number}: not a JSON object ({error})"
            if broken is None:
                raise InputError(problem) from None
            broken.append(problem)
        else:
            yield number, row


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is no file. ValueError where it is not JSON."""
    return from_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def rewrite(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace the file by `rows` in one step: a kill leaves the old or the new file, never half of one."""
    with replacing(path) as file:
        file.writelines(encoded(row) + b"\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file as a whole: a reader sees the old or the new one."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file as a whole."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` in one step, with its mode, when all is written; nothing changes where
    that fails."""
    # Nobody can know the name before and put a link there, and mkstemp follows none.
    prefix = f".{path.name}."
    part = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
        part = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode) & 0o777 if path.is_file() else PRIVATE)
        part.replace(path)
    except BaseException as error:
        if part is not None:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and Path(str(error.filename)).name.startswith(prefix):
            # The name is another each time, and says nothing to a person.
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def encoded(data: Any, separators: tuple[str, str] | None = None) -> bytes:
    """The data as JSON. TypeError where they have no such form."""
    # A lone surrogate in a policy's text has no UTF-8 form; JSON's own escape keeps it readable.
    try:
        return json.dumps(data, ensure_ascii=False, separators=separators).encode()
    except UnicodeEncodeError:
        return json.dumps(data, separators=separators).encode()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, PRIVATE)
