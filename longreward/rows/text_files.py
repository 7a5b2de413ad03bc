"""Rows of a file of text: JSON lines, JSON lists, or objects over several lines; compressed or not, in any UTF."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from longreward.errors import InputError
from longreward.files.nesting import check_depth, may_be_deep

PassOver = Callable[[int, str], None]
"""Called with the number of a line that is no row, and why."""
_Line = tuple[int, int | None, bytes]
"""Number from 1, offset in bytes where the file is plain, and the line in UTF-8."""

_ZSTD, _ZIP, _TAR = b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"ustar"
_COMPRESSED: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is the beginning of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UNMARKED = {b"{\0": "utf-16-le", b"[\0": "utf-16-le", b"\0{": "utf-16-be", b"\0[": "utf-16-be"}
_CUT = (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
"""What reading and decoding raises where a file breaks off or is damaged."""
_BETWEEN = re.compile(r"[\s,]*")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def rows(source: Path, file: BinaryIO, pass_over: PassOver) -> Iterator[tuple[int, int | None, dict[str, Any]]]:
    """(line number, offset or None, row) of each row of a file opened at its beginning."""
    lines = _numbered(*_lines(source, file), pass_over)
    first = next(lines, None)
    if first is None:
        return
    lines = chain([first], lines)
    if first[2].lstrip()[:1] == b"[" or first[2].strip() == b"{":
        text = b"".join(line for _, _, line in lines).decode("utf-8", "surrogateescape")  # held as a whole
        yield from _values(text, first[0], pass_over)
        return
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, offset, line in lines:
        try:
            row = decoder.decode(line)
            is_plain = b"\\u0000" not in line and not may_be_deep(line)
            why = "" if is_plain else unsound(row)
        except (ValueError, RecursionError) as error:
            row, why = _slowly(line, error)
        if why:
            pass_over(number, why)
        else:
            yield number, offset, row


def unsound(row: dict[str, Any]) -> str:
    """Why the row is nested too deeply, or no tokenizer or server would take its texts; empty for a sound one."""
    try:
        check_depth(row)
    except ValueError as error:
        return str(error)
    for name, value in row.items():
        left = [value]
        while left:
            one = left.pop()
            if isinstance(one, dict):
                left += [*one.keys(), *one.values()]
            elif isinstance(one, list):
                left += one
            elif isinstance(one, str) and "\0" in one:
                return f"{name} holds a NUL character, which many servers refuse; take it out"
            elif isinstance(one, str) and not one.isascii() and not _has_utf8(one):
                return f"{name} has half a surrogate pair or a byte that is no UTF-8, which no tokenizer takes"
    return ""


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _slowly(line: bytes, error: Exception) -> tuple[dict[str, Any], str]:
    """A row that msgspec does not take, with NaN say, by Python's own reader; or why it is none."""
    why = f"not a JSON object ({_words(error)})"
    if isinstance(error, msgspec.ValidationError | RecursionError):
        return {}, why
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as another:
        return {}, f"not a JSON object ({_words(another)})"
    return (row, unsound(row)) if isinstance(row, dict) else ({}, why)


def _values(text: str, number: int, pass_over: PassOver) -> Iterator[tuple[int, None, dict[str, Any]]]:
    """The objects that stand one after another in a text or in its lists. `number` is that of its first line."""
    decoder = json.JSONDecoder()
    place = counted = 0
    in_list = False
    while (place := _after_space(text, place)) < len(text):
        if text[place] == ("]" if in_list else "["):
            in_list = not in_list
            place += 1
            continue
        number, counted = number + text.count("\n", counted, place), place
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            end = _end(text, place)
            rest = "; the rest of the list is skipped" if end is None else ""
            pass_over(number, f"not JSON ({_words(error)}){rest}")
            if end is None:
                return
            place = end
            continue
        why = unsound(row) if isinstance(row, dict) else f"not a JSON object (found {type(row).__name__})"
        if why:
            pass_over(number, why)
        else:
            yield number, None, row
    if in_list:
        pass_over(number + text.count("\n", counted), "the list breaks off")


def _after_space(text: str, place: int) -> int:
    found = _BETWEEN.match(text, place)
    return found.end() if found else place


def _end(text: str, place: int) -> int | None:
    """Behind the object or list that begins at `place`, whatever is wrong inside; None where it does not end."""
    depth = 0
    for found in _BRACKET.finditer(text, place):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth < 1:
            return found.end() if found.start() > place else None
    return None


def _words(error: Exception) -> str:
    return "too deeply nested" if isinstance(error, RecursionError) else str(error)


def _numbered(lines: Iterator[bytes], offset: int | None, pass_over: PassOver) -> Iterator[_Line]:
    """The lines that are not empty."""
    number = 1
    try:
        for line in lines:
            if not line.isspace():
                yield number, offset, line
            number += 1
            if offset is not None:
                offset += len(line)
    except _CUT as error:
        pass_over(number, f"the file breaks off or is damaged here ({error}); the rest of it is skipped")


def _lines(source: Path, file: BinaryIO) -> tuple[Iterator[bytes], int | None]:
    """The lines of a file in UTF-8, and the offset of the first where they stand in the file as they are."""
    opened = _decompressed(source, file)
    try:
        head = opened.peek(512)
    except _CUT as error:
        raise InputError(f"{source} cannot be decompressed ({error}); write it again") from None
    if head.startswith(_ZIP) or head[257:262] == _TAR:
        form = "zip archive or an office document" if head.startswith(_ZIP) else "tar archive"
        raise InputError(f"{source} is a {form}; unpack it, or export the table, and give a file of rows")
    offset = 0 if opened is file else None
    codec = next((codec for mark, codec in (_MARKS | _UNMARKED).items() if head.startswith(mark)), None)
    if codec is not None:
        return _recoded(opened, codec), None
    if head.startswith(codecs.BOM_UTF8):
        opened.read(len(codecs.BOM_UTF8))
        offset = None if offset is None else len(codecs.BOM_UTF8)
    return iter(opened), offset


def _recoded(file: io.BufferedReader, codec: str) -> Iterator[bytes]:
    text = io.TextIOWrapper(file, codec, "surrogatepass", newline="\n")
    try:
        for line in text:
            yield line.encode("utf-8", "surrogatepass")
    finally:
        with suppress(ValueError):  # the file was closed before
            text.detach()


def _decompressed(source: Path, file: BinaryIO) -> io.BufferedReader:
    buffered = cast(io.BufferedReader, file)
    head = buffered.peek(8)
    for magic, opener in _COMPRESSED.items():
        if head.startswith(magic):
            return io.BufferedReader(opener(file))
    if not head.startswith(_ZSTD):
        return buffered
    try:
        import pyarrow
    except ImportError:
        how = "pip install 'longreward[files]', or unpack it with zstd -d"
        raise InputError(f"{source} is compressed with zstd, which needs pyarrow to read; {how}") from None
    return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd"))
