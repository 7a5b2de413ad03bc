"""The answers that were scored, whatever was written for each, with their documents and criteria."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from longreward import store
from longreward.commands.rows import Rows
from longreward.errors import InputError
from longreward.report.reading.gather import OpenFiles, Place, criteria_at, document_at, documents_of, keep
from longreward.report.reading.sources import Source
from longreward.schema import ScoredAnswer


class Light(store.Fields):
    """What tells which record of an answer counts."""

    id: str = ""
    idx: str = ""
    split: str = ""
    rollout: str = ""
    key: str = ""
    query: str = ""
    time: float = 0.0
    total: float | None = None


@dataclass
class Answers:
    """The answers of a source, each by the record that counts."""

    source: Source
    files: OpenFiles
    input: Rows | None
    """The rows that were scored, where the source does not hold their documents."""
    folder: Path
    broken: list[str] = field(default_factory=list)

    @cached_property
    def places(self) -> dict[str, Place]:
        """By the answer's key, in the order of their first records. InputError where there is none."""
        best: dict[str, tuple[tuple[bool, float], Place]] = {}
        for path in self.source.files():
            number = self.files.add(path.open("rb"))
            for line, offset, light in store.read(path, self.broken, Light):
                name = (light.id or light.idx, light.query, light.split, light.rollout or light.key or str(line))
                # In a file of scores the key that its rows have, so that the same command can go on with it.
                key = light.key or hashlib.sha256("\0".join(name).encode("utf-8", "surrogatepass")).hexdigest()[:16]
                rank = store.rank(light.total, light.time)
                if key not in best or rank >= best[key][0]:
                    best[key] = (rank, (number, offset))
        if not best:
            first = f"; first problem: {self.broken[0]}" if self.broken else ""
            raise InputError(f"{self.source.path} holds no scored answer{first}")
        return {key: place for key, (_, place) in best.items()}

    def row(self, key: str) -> dict[str, Any]:
        """The record as in a run's store."""
        line = self.files.line(self.places[key])
        try:
            row: dict[str, Any] = msgspec.json.decode(line)
        except ValueError:  # half a surrogate pair
            row = {}
        if not row.get("version"):
            row = store.parse(line, ScoredAnswer).model_dump(mode="json", exclude_defaults=True)
        row["id"] = str(row.pop("idx", row.get("id", "")))
        row["dimensions"] = row.pop("detail", row.get("dimensions"))
        for name in ("scores", "status", "usage"):
            row.pop(name, None)
        return row

    @cached_property
    def _documents(self) -> dict[Any, Place]:
        if self.input is not None:
            found: dict[Any, Place] = dict(keep(self.input.by_any_key(), self.files, self.folder))
            return found
        return dict(documents_of(self.source, self.files))

    def _place(self, row: dict[str, Any]) -> Place | None:
        """Where the row or the prompt of an answer is."""
        return self._documents.get(row.get("key") if self.input is not None else (row["id"], row.get("query", "")))

    def criteria(self, row: dict[str, Any]) -> list[Any]:
        """What an answer is judged by. InputError where it has no criteria."""
        place = self._place(row)
        found = [] if place is None else criteria_at(self.files, place)
        if not found:
            where = self.source.path if self.input is None else self.input.source
            raise InputError(f"the answer {row['id']!r} has no criteria in {where}; set weights without criteria")
        return found

    def document(self, row: dict[str, Any]) -> str:
        """The document of an answer. InputError where it is not at hand."""
        place = self._place(row)
        text = None if place is None else document_at(self.files, place)
        if text is None:
            where, hint = "in the run" if self.source.is_run else "known", "the rows that were scored"
            if self.input is not None:
                where, hint = f"in {self.input.source}", "the file whose rows were scored"
            raise InputError(f"the document of the answer {row['id']!r} is not {where}; give {hint} as --input")
        return text
