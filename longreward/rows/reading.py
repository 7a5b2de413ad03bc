"""Rows from a file of text, a table, or a data set by its name; what cannot be used is passed over and named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longreward.errors import InputError
from longreward.rows import tables, text_files

_BUFFER = 1 << 18  # documents are long: the default of 8 KiB costs a tenth of the time


def exists(source: Path) -> bool:
    """Whether there is something to read; a data set of the hub is not looked up."""
    return source.exists() or tables.split_of(source) is not None


def read(source: Path, broken: list[str] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, row): the number of the line that the row begins in, or of the row in a table, from 1.

    Read are JSON lines and JSON lists, also compressed (gzip, bzip2, xz, zstd) and in UTF-16 or UTF-32; Parquet and
    Arrow; the folder of a saved data set; and NAME:SPLIT, a data set of the hub. What is no row goes to `broken` as
    `file:number: why`. InputError where nothing can be read, and for such a row where `broken` is None.
    """
    for number, _, row in read_with_offsets(source, broken):
        yield number, row


def read_with_offsets(source: Path, broken: list[str] | None) -> Iterator[tuple[int, int | None, dict[str, Any]]]:
    """As `read`, with the offset in bytes of each row that stands on a line of its own in a plain file, else None."""

    def pass_over(number: int, why: str) -> None:
        problem = f"{source}:{number}: {why}"
        if broken is None:
            raise InputError(problem)
        broken.append(problem)

    if tables.is_data_set(source):
        yield from _of_table(tables.data_set_rows(source), pass_over)
        return
    try:
        file = source.open("rb", buffering=_BUFFER)
    except OSError as error:
        action = "give the path of a JSON-lines file, or OWNER/NAME:SPLIT for a data set of the Hugging Face hub"
        raise InputError(f"{source} cannot be read: {error.strerror}; {action}") from None
    with file:
        if tables.is_table(file):
            yield from _of_table(tables.table_rows(source, file), pass_over)
        else:
            yield from text_files.rows(source, file, pass_over)


def _of_table(
    found: Iterator[dict[str, Any]], pass_over: text_files.PassOver
) -> Iterator[tuple[int, None, dict[str, Any]]]:
    for number, row in enumerate(found, 1):
        if why := text_files.unsound(row):
            pass_over(number, why)
        else:
            yield number, None, row
