"""The documents of responses that were published without them: rows of an sft file, joined by idx."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from longreward.rows.criteria import NAMES as CRITERIA
from longreward.rows.identity import row_id
from longreward.rows.reading import read_with_offsets


class Contexts:
    """The rows of an sft file (idx, context, query) by their idx. Of plain JSON lines only the places are held, as the
    texts may be some GB."""

    def __init__(self, source: Path | None, broken: list[str]) -> None:
        """Reads the file; None: there is none. Rows that no response can be joined with go to `broken`, as
        `file:line: why`. InputError where it cannot be read."""
        self._source = source
        self._places: dict[str, int | dict[str, Any] | None] = {}
        self._row = lru_cache(1)(self._found)  # responses to a document mostly stand together
        self.joins = 0
        self.others = 0
        """Of the responses joined, those with another question than the row has."""
        if source is not None:
            self._read(source, broken)

    def joined(self, row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The id of a response's document, and the response with its context; with the criteria of its question as
        well, where it has none of its own.

        The id is what stands before the last dash of the response's idx, as 11 in 11-7; a model's name may stand before
        it, as in llama-11-7, where the question is that document's. A response with a context of its own needs no
        sample number. ValueError says why there is no context.
        """
        whole = row_id(row, None)
        document, _, sampled = whole.rpartition("-")
        numbered = bool(document) and sampled.isdecimal()
        if row.get("context") is not None:
            return (document if numbered else whole), row
        if not numbered:
            raise ValueError(f"idx {whole!r} is not document-sample, as 11-7, and the row has no context")
        name, found = self._of(document, row.get("query"))
        if found is None:
            where = f"in {self._source}" if self._source else "as no sft file is given"
            raise ValueError(f"no context for document {document!r} {where}")
        joined = row | {"context": found["context"]}
        self.joins += 1
        self.others += isinstance(row.get("query"), str) and found.get("query") not in (None, row["query"])
        if found.get("query") == row.get("query") and all(row.get(each) is None for each in CRITERIA):
            joined |= {each: found.get(each) for each in CRITERIA}
        return name, joined

    def _of(self, document: str, query: Any) -> tuple[str, dict[str, Any] | None]:
        """The document's id in the sft file, and its row. What stands before a dash may be a model's name: then the
        question must be that row's, as it may as well be a part of another document's id."""
        if (row := self._row(document)) is not None:
            return document, row
        name = document
        while "-" in name:
            name = name.partition("-")[2]
            if (row := self._row(name)) is not None and row.get("query") == query:
                return name, row
        return document, None

    def _read(self, source: Path, broken: list[str]) -> None:
        contexts: dict[str, int] = {}
        for number, place, row in read_with_offsets(source, broken):
            try:
                identity, context = row_id(row, None), text_in(row, "context")
                if contexts.setdefault(identity, hash(context)) != hash(context):
                    self._places[identity] = None
                    raise ValueError(f"idx {identity!r} stands for another document before; give each its own")
                if identity in self._places:
                    raise ValueError(f"there is an idx {identity!r} before")
                kept = {name: row.get(name) for name in ("context", "query", *CRITERIA)}
                self._places[identity] = kept if place is None else place
            except ValueError as error:
                broken.append(f"{source}:{number}: {error}; no response is joined with it")

    def _found(self, identity: str) -> dict[str, Any] | None:
        place = self._places.get(identity)
        if self._source is None or not isinstance(place, int):
            return place if isinstance(place, dict) else None
        with self._source.open("rb") as file:
            file.seek(place)
            row: dict[str, Any] = json.loads(file.readline())
            return row


def text_in(row: dict[str, Any], name: str) -> str:
    """ValueError where the row's field `name` is not text."""
    text = row.get(name)
    if not isinstance(text, str):
        raise ValueError(f"{name} must be text")
    return text
