"""Scored answers on disk, the only place that writes and reads them: JSON lines, a `ScoredAnswer` each, appended and
flushed one by one.

A run's store is a folder with a file for each judge worker. `longreward score` writes one file, whose rows have a few
more keys for people: `idx`, `scores`, `status` and `usage`; `dimensions` is called `detail` there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import msgspec
from pydantic import ValidationError

from longreward.errors import InputError
from longreward.files import jsonlines
from longreward.files.nesting import from_json
from longreward.schema import OK, VERSION, ScoredAnswer, Usage


class Fields(msgspec.Struct):
    """Base of a record with some of a ScoredAnswer's fields, for `read`. What is not named is never made into objects,
    which reads a large store several times faster."""

    version: int = 0
    config: str = ""


T = TypeVar("T", bound=Fields | ScoredAnswer)
R = TypeVar("R", bound="_Ranked")
K = TypeVar("K", bound=Hashable)


class Store(jsonlines.Appender[ScoredAnswer]):
    """Appends scored answers to a file. One process writes a file; any number may read it."""

    def __init__(self, path: Path, *, with_scores: bool = False) -> None:
        """Open `path` for appending and make its folder. `with_scores`: rows get the keys for people."""
        super().__init__(path, lambda answer: _row(answer, with_scores))


def rewrite(path: Path, answers: Iterable[ScoredAnswer]) -> None:
    """Replace a file of scores in one step; its rows have the keys for people."""
    jsonlines.rewrite(path, (_row(answer, with_scores=True) for answer in answers))


def files(folder: Path) -> list[Path]:
    """The files of a run's store; empty where there is none."""
    return sorted(folder.glob("answers-*.jsonl"))


def read(path: Path, broken: list[str] | None, kind: type[T]) -> Iterator[tuple[int, int, T]]:
    """Yield (line number from 1, offset in bytes, record) of each record in a file. `kind` names the fields to read:
    `ScoredAnswer` or some of its fields.

    A line that is not a record goes to `broken` as `file:line: why`. InputError where the file cannot be read, where a
    record has a later version than this program knows, and for a line that is not a record where `broken` is None.
    """
    for number, offset, line in jsonlines.lines(path):
        try:
            record = parse(line, kind)
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        except ValueError as error:
            problem = f"{path}:{number}: not a scored answer ({error})"
            if broken is None:
                raise InputError(problem) from None
            broken.append(problem)
        else:
            yield number, offset, record


def parse(line: bytes, kind: type[T]) -> T:
    """The record in a line. ValueError says why there is none; InputError, which is one, is for a later version."""
    try:
        record: Any
        if kind is ScoredAnswer:
            record = ScoredAnswer.model_validate_json(line)
        else:
            record = msgspec.json.decode(line, type=_named(cast(Any, kind), b'"idx"' in line[:40]))
        if record.version == 0 and record.config:
            raise ValueError("a row of a file of scores from before there were versions")
    except (ValueError, RecursionError):
        # The slow way: for such a row, and for half a surrogate pair in a text, which only Python's reader takes.
        return _converted(line, kind)
    _check_version(record.version)
    return record


@cache
def _named(kind: Any, of_scores: bool) -> Any:
    """`kind` as the fields are called in a run's store, or in a file of scores."""
    renamed = [each for each in msgspec.structs.fields(kind) if of_scores and each.name == "dimensions"]
    fields = [(each.name, each.type, msgspec.field(name="detail")) for each in renamed]
    return msgspec.defstruct(kind.__name__, fields, bases=(kind,), kw_only=True) if fields else kind


def rank(total: float | None, time: float) -> tuple[bool, float]:
    """Where two records are of one answer, the higher rank counts: a score wins over none, then the later record."""
    return total is not None, time


class _Ranked(Protocol):
    total: float | None
    time: float


def counting(records: Iterable[R], name: Callable[[R], K]) -> dict[K, R]:
    """Of the records with the same name the one that counts; the last of those with the same rank."""
    best: dict[K, R] = {}
    for record in records:
        other = best.setdefault(name(record), record)
        if rank(record.total, record.time) >= rank(other.total, other.time):
            best[name(record)] = record
    return best


def _converted(line: bytes, kind: Any) -> Any:
    row = from_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    _check_version(row.get("version", 0))
    if "dimensions" not in row and isinstance(row.get("scores"), dict):
        # Before there were versions `longreward score` had names of its own.
        row |= {"id": row.get("idx"), "total": row["scores"].get("total"), "dimensions": row.get("detail")}
    if kind is not ScoredAnswer:
        return msgspec.convert(row, kind)
    try:
        return ScoredAnswer.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _check_version(version: Any) -> None:
    if isinstance(version, int) and version > VERSION:
        raise InputError(
            f"the record has version {version}, and this longreward reads versions up to {VERSION}; install the "
            "longreward that wrote it"
        )


def for_people(row: dict[str, Any], usage: Usage) -> dict[str, Any]:
    """A record as a row of a file of scores, which has the keys for people. The record is used up."""
    # The short figures first and the long texts last, for a person who looks into the file.
    dimensions, head = row.pop("dimensions"), {"version": row.pop("version", VERSION)}
    people = {
        "idx": row.get("id", ""),
        "scores": {name: found["score"] for name, found in dimensions.items()} | {"total": row["total"]},
        "status": {name: found.get("status", OK) for name, found in dimensions.items()},
        "usage": usage.model_dump(),
    }
    return head | people | row | {"detail": dimensions}


def _row(answer: ScoredAnswer, with_scores: bool) -> dict[str, Any]:
    row = answer.model_dump(mode="json", exclude_defaults=True)
    if with_scores:
        return for_people(row, answer.usage)
    dimensions = row.pop("dimensions")
    return {"version": VERSION} | row | {"dimensions": dimensions}
