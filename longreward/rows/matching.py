"""The answers of two files to the same questions: matched by id and question, with the document where it is at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from longreward.errors import InputError
from longreward.rows.identity import row_id
from longreward.rows.reading import read
from longreward.text.thoughts import without_thoughts

_IDS = ("idx", "_id", "id")
_Name = tuple[str, str]
"""The id and the question of a row."""


@dataclass(frozen=True, slots=True)
class Match:
    """A question that both files answer."""

    idx: str
    query: str
    a: str
    """The answer of the first file, without its thoughts."""
    b: str
    document: str | None = None
    """None where it is not known, as of a question without a document."""

    @property
    def same(self) -> bool:
        """Whether both answers are the same text."""
        return self.a.strip() == self.b.strip()


@dataclass
class Matched:
    """What two files have in common, and what was left out."""

    matches: list[Match]
    """In the order of the first file."""
    alone: tuple[int, int]
    """Answers of the first and of the second file whose question the other one does not answer."""
    unanswered: int
    """Rows of both files without an answer."""
    broken: list[str] = field(default_factory=list)
    """Rows that could not be read, each as `file:line: why`."""


@dataclass
class Questions:
    """A file with the questions and documents that answers are about: `context` and `query`, or as LongBench and
    LongBench-Chat call them."""

    path: Path | None

    def query(self, idx: str, where: str) -> str:
        """The question with this id. InputError, about the row at `where`, if there is not exactly one."""
        if self.path is None:
            raise InputError(f"{where}: the row has no query; give the file with the questions as --input")
        found = self._queries.get(idx, set())
        if len(found) != 1:
            how_many = f"{len(found)} questions" if found else "no question"
            raise InputError(
                f"{where}: the row has no query, and {self.path} has {how_many} with its id {idx!r}; add it to the row"
            )
        return next(iter(found))

    @cached_property
    def _queries(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for (idx, query), _ in _documents(self.path) if self.path is not None else ():
            found.setdefault(idx, set()).add(query)
        return found


def matched(first: Path, second: Path, questions: Questions) -> Matched:
    """The questions that both files answer. Rows have an id (idx, _id or id) and an answer, and a query unless
    `questions` has it. InputError where a file cannot be read, a row has no query anywhere, or a file has several
    answers to a question."""
    found = Matched([], (0, 0), 0)
    a, b = (_answers(path, questions, found) for path in (first, second))
    found.matches = [Match(*name, answer, b[name]) for name, answer in a.items() if name in b]
    found.alone = len(a.keys() - b.keys()), len(b.keys() - a.keys())
    return found


def with_documents(matches: Sequence[Match], sources: Iterable[Path]) -> list[Match]:
    """The same with their documents, each from the first source that has it. Only what is asked for is held."""
    wanted: dict[_Name, str | None] = {(match.idx, match.query): None for match in matches}
    for source in sources:
        if all(document is not None for document in wanted.values()):
            break
        for name, document in _documents(source):
            if name in wanted and wanted[name] is None:
                wanted[name] = document
    return [replace(match, document=wanted[match.idx, match.query]) for match in matches]


def _answers(path: Path, questions: Questions, found: Matched) -> dict[_Name, str]:
    answers: dict[_Name, str] = {}
    for number, row in read(path, found.broken):
        where = f"{path}:{number}"
        try:
            query, answer = _text(row, "query"), _text(row, "answer")
            # By the number of its line it would get the question of whatever row has that number elsewhere.
            idx = row_id(row, number if query is not None or answer is None else None, _IDS)
        except ValueError as error:
            found.broken.append(f"{where}: {error}")
            continue
        if answer is None:
            found.unanswered += 1
            continue
        name = idx, questions.query(idx, where) if query is None else query.strip()
        answer = without_thoughts(answer)
        if answers.setdefault(name, answer) != answer:
            raise InputError(f"{where}: a second answer to the question with the id {idx!r}; leave one of them")
    return answers


def _documents(path: Path) -> Iterator[tuple[_Name, str | None]]:
    """The name and the document of each row that has a question."""
    for number, row in read(path, []):
        # Raw LongBench calls the question `input`. LongBench-Chat has document and question in one `prompt`, beside
        # the `query`; short requests have a prompt alone.
        query = next((text for key in ("query", "input", "prompt") if isinstance(text := row.get(key), str)), None)
        document = row.get("context", row.get("prompt") if "query" in row else None)
        try:
            idx = row_id(row, number, _IDS)
        except ValueError:
            continue
        if query is not None:
            yield (idx, query.strip()), document if isinstance(document, str) and document.strip() else None


def _text(row: dict[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{name} must be text, found {type(value).__name__}")
