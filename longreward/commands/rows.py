"""The rows of a data set: idx (or id), context, query and, where there is one already, answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from longreward import store
from longreward.schema import Sample

_SHOWN = 10  # unreadable rows that are named


class Rows:
    """The answers and prompts of a JSON-lines file, one at a time, with keys made of their content.

    An identical row comes once. Rows that cannot be read are passed over and noted in `broken`, as `file:line: why`.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.broken: list[str] = []
        self.answers = 0
        self.prompts = 0
        """Rows without an answer."""

    def samples(self, *, unanswered: bool = False) -> Iterator[tuple[str, Sample, bool]]:
        """Yield (key, sample, whether it has an answer). A row without an answer is one more broken row, unless
        `unanswered`."""
        seen: set[str] = set()
        for number, row in store.read(self.source, self.broken):
            identity = row.get("idx", row.get("id"))
            fields = {name: row.get(name) for name in ("context", "query", "answer")}
            answered = fields["answer"] is not None
            if unanswered and not answered:
                fields["answer"] = ""
            try:
                sample = Sample.model_validate({"id": str(number) if identity is None else identity, **fields})
            except ValidationError as error:
                self.broken.append(f"{self.source}:{number}: {_wrong(error)}")
                continue
            key = _key(sample)
            if key in seen:
                continue
            seen.add(key)
            self.answers += answered
            self.prompts += not answered
            yield key, sample, answered

    @property
    def first_problem(self) -> str:
        """For the end of a sentence; empty if there was none."""
        return f"; first problem: {self.broken[0]}" if self.broken else ""

    def report(self, console: Console) -> None:
        """Name the rows that were passed over."""
        for problem in self.broken[:_SHOWN]:
            console.print(f"skipped {problem}", style="red", markup=False, highlight=False)
        if self.broken:
            were, them = ("row was", "it") if len(self.broken) == 1 else ("rows were", "them")
            sentence = f"{len(self.broken):,} {were} skipped; mend {them} and run the same command again"
            console.print(sentence, style="red")


def read_samples(source: Path, broken: list[str]) -> dict[str, Sample]:
    """The answers of a JSON-lines file by their keys; what cannot be read goes to `broken`."""
    rows = Rows(source)
    samples = {key: sample for key, sample, _ in rows.samples()}
    broken += rows.broken
    return samples


def _wrong(error: ValidationError) -> str:
    return ", ".join(f"{e['loc'][0]} must be text, found {type(e['input']).__name__}" for e in error.errors())


def _key(sample: Sample) -> str:
    return hashlib.sha256(json.dumps(sample.model_dump(), sort_keys=True).encode()).hexdigest()[:16]
