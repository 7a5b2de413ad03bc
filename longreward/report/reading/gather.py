"""Read all sources once. Figures go into a table; texts stay in their files, where a line is found again by its place.

So memory holds only figures, however large the sources are. The files stay open until the report is written: a file
that another program replaces meanwhile is read to its end as it was.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from longreward import store
from longreward.errors import InputError
from longreward.files.nesting import from_json
from longreward.report.reading.sources import Source
from longreward.report.reading.stored import StoredAnswer
from longreward.report.reading.table import Table, TableBuilder
from longreward.schema import Sample

Place = tuple[int, int]
"""The number of an open file, and where a line begins in it, in bytes."""
AnswerName = tuple[int, str, str, str, str | int]
"""Run, split, prompt, question and rollout: records that share it are of one answer."""


class OpenFiles(ExitStack):
    """Files that stay open, and their lines by place."""

    def __init__(self) -> None:
        super().__init__()
        self._files: list[BinaryIO] = []

    def add(self, file: BinaryIO) -> int:
        """The number that the file has from now on."""
        self._files.append(self.enter_context(file))
        return len(self._files) - 1

    def line(self, place: Place) -> bytes:
        file, offset = self._files[place[0]], place[1]
        file.seek(offset)
        return file.readline()


@dataclass
class Question:
    """A question about a document. Several runs may ask the same, of documents that were cut differently."""

    id: str
    query: str
    documents: dict[int, Place] = field(default_factory=dict)
    """By run, the place of the row with its document. A run whose document is not known is missing."""


@dataclass
class Gathered:
    """All answers of the sources, each once."""

    sources: Sequence[Source]
    table: Table
    questions: list[Question]
    """In the order of their numbers in the table's column `prompt`."""
    repeated: int
    """The number of records that do not count, because their answer was scored again; see `store.rank`."""
    files: OpenFiles
    samples: dict[str, Place]

    def answer(self, row: int) -> StoredAnswer:
        """All that is stored of an answer. InputError where its file has changed since it was gathered."""
        place = int(self.table.of("file")[row]), int(self.table.of("offset")[row])
        try:
            return _completed(store.parse(self.files.line(place), StoredAnswer), self.files, self.samples)
        except ValueError:
            raise InputError("a file of answers has changed while it was read; run the same command again") from None

    def document(self, place: Place) -> str | None:
        """The document that answers to a question were judged by; None where it cannot be read."""
        return document_at(self.files, place)


def document_at(files: OpenFiles, place: Place) -> str | None:
    """The document in a row of samples or of rendered prompts; None where it cannot be read."""
    try:
        row = from_json(files.line(place))
        return row["context"] if "context" in row else _span(row, from_json(row["label"]), "context")
    except (ValueError, KeyError, TypeError):
        return None


def criteria_at(files: OpenFiles, place: Place) -> list[Any]:
    """The criteria in a row as above; empty where there are none."""
    try:
        row = from_json(files.line(place))
        return list((row if "context" in row else from_json(row["label"])).get("criteria", []))
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def gather(
    sources: Sequence[Source], samples: Iterable[tuple[str, Sample]], folder: Path, files: OpenFiles
) -> Gathered:
    """Read the sources. `samples` are the rows, each with its key, that scored files are about: they have the
    documents. They are kept in a temporary file in `folder`. What is read later stays open in `files`."""
    places = keep(samples, files, folder)
    builder, questions = TableBuilder(), list[Question]()
    numbers: dict[tuple[str, str], int] = {}
    best: dict[AnswerName, tuple[tuple[bool, float], int]] = {}
    for run, source in enumerate(sources):
        documents = dict(documents_of(source, files))
        for path in source.files():
            file = -1
            for offset, answer in source.answers(path):
                file = files.add(path.open("rb")) if file < 0 else file
                _completed(answer, files, places)
                key = (answer.id, answer.query)
                if key not in numbers:
                    numbers[key] = len(questions)
                    questions.append(Question(*key))
                document = places.get(answer.key) or documents.get(key)
                if document is not None:
                    questions[numbers[key]].documents.setdefault(run, document)
                row = builder.add(answer, run=run, prompt=numbers[key], file=file, offset=offset)
                # An answer without a name stands alone.
                name = (run, answer.split, *key, answer.rollout or answer.key or row)
                rank = store.rank(answer.total, answer.time)
                if name not in best or rank >= best[name][0]:
                    best[name] = (rank, row)
    kept = sorted(row for _, row in best.values())
    return Gathered(sources, builder.table(kept), questions, len(builder) - len(kept), files, places)


def _completed(answer: StoredAnswer, files: OpenFiles, samples: dict[str, Place]) -> StoredAnswer:
    """The answer with its texts from the samples, if its row has none: rows without a version have no texts."""
    if answer.key in samples and not answer.answer:
        row = json.loads(files.line(samples[answer.key]))
        answer.query, answer.answer = row["query"], row["answer"]
    return answer


def keep(samples: Iterable[tuple[str, Sample]], files: OpenFiles, folder: Path) -> dict[str, Place]:
    """Write the samples to a temporary file. Returns the place of each by its key."""
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    number, places = files.add(file), dict[str, Place]()
    for key, sample in samples:
        places[key] = (number, file.tell())
        file.write(json.dumps(sample.model_dump()).encode() + b"\n")
    return places


def documents_of(source: Source, files: OpenFiles) -> Iterator[tuple[tuple[str, str], Place]]:
    """(id, question) of each rendered prompt, and where it is."""
    for path in source.prompt_files():
        try:
            file = path.open("rb")
        except OSError:
            continue
        number, offset = files.add(file), 0
        for line in file:
            try:
                row = from_json(line)
                label = from_json(row["label"])
                yield (str(label["id"]), _span(row, label, "query")), (number, offset)
            except (ValueError, KeyError, TypeError):
                pass  # half-written, or another program's
            offset += len(line)


def _span(row: dict[str, Any], label: dict[str, Any], name: str) -> str:
    """The part of a rendered prompt that its label calls `name`."""
    return str(row["input"][slice(*label[name])])
