"""The sheet on which people compare two answers: one page that opens from disk, made of the report's pieces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from longreward.evaluation.people.blind import ASKED, Item
from longreward.files import jsonlines
from longreward.report import html, pack

SHEET = html.Page("Compare two answers", ("dom", "text", "data", "sheet"), ("page", "sheet"))


def write(out: Path, name: str, items: Sequence[Item]) -> None:
    """Write the sheet of this name to `out`, or leave what is there. Nothing but the items goes into it. OSError where
    it cannot be written."""
    documents = {document: number for number, document in enumerate(dict.fromkeys(item.document for item in items))}
    shown = [
        {
            "query": item.query,
            "answers": item.answers,
            "document": None if item.document is None else documents[item.document],
            "characters": len(item.document or ""),
        }
        for item in items
    ]
    with jsonlines.replacing(out) as file:
        html.write_head(file, SHEET)
        file.write(pack.element("sheet", pack.block({"name": name, "asked": ASKED, "items": shown})))
        for document, number in documents.items():
            if document is not None:
                file.write(pack.element(f"document{number}", pack.block(document)))
        file.write(html.END)
