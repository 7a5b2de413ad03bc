"""Texts into compressed blocks, of which a page loads those that it needs.

Prompts are kept together in shelves of some hundred kilobytes. A shelf is three blocks: `t` the answers (what is
searched), `d` what the judge said of them, `c` the documents. Sentences are kept once for a shelf: siblings say much
the same, and so does their judge. Evidence is kept as places in the document.
"""

from __future__ import annotations

import base64
import json
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from longreward.report import processes, suspicious
from longreward.report.gather import Gathered
from longreward.report.table import Column, Prompt

MOST_BYTES = 95_000_000
"""Of the texts in a report, if shortening what the judge said can help it: beyond 100 MB pages get unwieldy."""
Limits = tuple[int | None, int | None]
"""Characters of a judge's reply that are kept: about a statement that is fully supported, and else; None: all."""
WHOLE: Limits = (None, None)
LIMITS: tuple[Limits, ...] = (
    WHOLE,
    *((400, None), (150, None), (150, 1000), (100, 500), (80, 300), (60, 200), (60, 160), (60, 120), (0, 60)),
)
"""From the most generous; the first that fits MOST_BYTES is taken. Few read why a supported statement is supported."""
_SHELF = 500_000  # bytes of answers, verdicts and documents, before they are compressed
_SAMPLE = 16  # prompts that the limit is chosen by
_LEVEL = 5  # a fiftieth larger than the smallest, in half the time
_TAIL = 0.4  # of a shortened text: there a judge's reply has its verdict
_MANY = 8  # shelves, from which other processes help
_NEWLINE, _DOT, _NEXT = 0, 1, 2
_STOP = ". "


@dataclass
class Texts:
    """Texts as lists of pieces: lines and their sentences, each kept once.

    Pieces of a line are joined by ". "; 0 is a line's end, 1 a full stop at the end of one, and 2 the next piece that
    has not been named before.
    """

    pieces: dict[str, int] = field(default_factory=lambda: {"\n0": _NEWLINE, "\n1": _DOT, "\n2": _NEXT})
    texts: list[list[int]] = field(default_factory=list)
    _known: dict[str, int] = field(default_factory=dict)
    _written: tuple[int, int] = (_NEXT + 1, 0)

    def add(self, text: str) -> int:
        """1 more than the number of a text that is there already; 0 for one that gets the next number."""
        number = self._known.get(text)
        if number is not None:
            return number + 1
        self._known[text] = len(self.texts)
        pieces, ids = self.pieces, []
        for place, line in enumerate(text.split("\n")):
            if place:
                ids.append(_NEWLINE)
            body = line[:-1] if line.endswith(".") else line
            for piece in body.split(_STOP) if body else ():
                known = pieces.get(piece)
                if known is None:
                    pieces[piece] = len(pieces)
                    ids.append(_NEXT)
                else:
                    ids.append(known)
            if body is not line:
                ids.append(_DOT)
        self.texts.append(ids)
        return 0

    def new(self) -> dict[str, Any]:
        """What has been added since the last time."""
        pieces, texts = self._written
        self._written = len(self.pieces), len(self.texts)
        return {"pieces": list(self.pieces)[pieces:], "texts": self.texts[texts:]}


def shortened(text: str, limit: int | None) -> str:
    """With its middle left out where it is longer than that, between two sentences if there is a place."""
    if limit is None or len(text) <= limit:
        return text
    if not limit:
        return ""
    tail = int(limit * _TAIL)
    head, end = text[: limit - tail], text[-tail:]
    # Whole sentences are often said of siblings too, and then they are kept once.
    head = head[: head.rfind(_STOP) + 1] or head
    end = end[end.find(_STOP) + 2 :] if _STOP in end else end
    return f"{head}\n…\n{end}"


class Packer:
    """Writes shelves of prompts, whose answers are `rows` of the table: sorted by prompt, and complete."""

    def __init__(self, gathered: Gathered, limits: Limits) -> None:
        self._gathered, self._limits = gathered, limits
        prompt = gathered.table.of("prompt")
        self._begin = np.searchsorted(prompt, np.arange(len(gathered.prompts)), side="left")
        self._end = np.searchsorted(prompt, np.arange(len(gathered.prompts)), side="right")

    def shelves(self) -> list[range]:
        """The prompts of each shelf: as many as it takes to fill it."""
        found, begin, size = [], 0, 0
        for number, prompt in enumerate(self._gathered.prompts):
            rows = slice(self._begin[number], self._end[number])
            size += int(self._gathered.table.of("size", rows).sum())
            size += sum(material.document[2] for material in prompt.material.values() if material.document is not None)
            if size >= _SHELF:
                found.append(range(begin, number + 1))
                begin, size = number + 1, 0
        if begin < len(self._gathered.prompts):
            found.append(range(begin, len(self._gathered.prompts)))
        return found

    def pack(self, prompts: Iterable[int]) -> tuple[dict[str, bytes], list[int]]:
        """The blocks `t`, `d` and `c` of a shelf, and the flags of its answers."""
        texts, documents = Texts(), list[str]()
        shelf = [(number, *self._load(number)) for number in prompts]
        answers = [texts.add(answer) for *_, loaded in shelf for answer, _ in loaded]
        answered = texts.new() | {"answers": answers}
        details: list[Any] = []
        about: list[Any] = []
        flags: list[int] = []
        for number, own, evidence, loaded in shelf:
            about.append({run: [p if p < 0 else p + len(documents), spans] for run, (p, spans) in evidence.items()})
            documents += own
            details += [[self._dimension(texts, d) for d in dimensions] for _, dimensions in loaded]
            flags += self._flags(number, "\0".join(own), [answer for answer, _ in loaded])
        judged = texts.new() | {"answers": details}
        parts = {"t": answered, "d": judged, "c": {"documents": documents, "prompts": about}}
        return {kind: block(part) for kind, part in parts.items()}, flags

    def _load(self, number: int) -> tuple[list[str], dict[int, tuple[int, list[Any]]], list[tuple[str, Any]]]:
        """Documents, by run the place of its document (-1: none) and its evidence, and the answers."""
        gathered, prompt = self._gathered, self._gathered.prompts[number]
        documents: list[str] = []
        evidence: dict[int, tuple[int, list[Any]]] = {}
        chunks: dict[int, dict[tuple[int, int, str], int]] = {}  # of each run
        numbers: dict[tuple[int, int], list[int]] = {}  # of a shard's chunks among its run's
        for key, material in prompt.material.items():
            document, run = gathered.document(material), key[1]
            if document is not None and document not in documents:
                documents.append(document)
            known = chunks.setdefault(run, {})
            evidence.setdefault(run, (-1 if document is None else documents.index(document), []))
            found = [gathered.spool.get(*place) for place in material.places]
            numbers[key] = [known.setdefault(each, len(known)) for each in found]
        for run, known in chunks.items():
            place = evidence[run][0]
            evidence[run] = place, _spans(documents[place] if place >= 0 else None, list(known))
        rows = slice(self._begin[number], self._end[number])
        shard_of, columns = (
            gathered.spool.shard_of,
            [gathered.table.of(n, rows).tolist() for n in ("offset", "size", "run")],
        )
        answers = []
        for offset, size, run in zip(*columns, strict=True):
            answer, dimensions = gathered.spool.get(offset, size)
            renumbered = numbers[shard_of(offset), run]
            for *_, facts in dimensions:
                facts[:] = [(text, support, [renumbered[n] for n in few], call) for text, support, few, call in facts]
            answers.append((answer, dimensions))
        return documents, evidence, answers

    def _flags(self, number: int, document: str, answers: list[str]) -> list[int]:
        known: dict[str, bool] = {}

        def in_document(sentence: str) -> bool:
            if sentence not in known:
                known[sentence] = sentence in document
            return known[sentence]

        totals = self._gathered.table.of("total", slice(self._begin[number], self._end[number])).tolist()
        return [
            suspicious.flags(answer, None if total != total else total, in_document)
            for answer, total in zip(answers, totals, strict=True)
        ]

    def _dimension(self, texts: Texts, dimension: tuple[Any, ...]) -> list[Any]:
        name, score, status, detail, calls, facts = dimension
        supported, other = self._limits
        return [
            name,
            score if score is None else round(score, 4),
            status,
            texts.add(shortened(detail, other)),
            [_call(texts, call, other) for call in calls],
            [
                [texts.add(text), support, chunks, _call(texts, call, supported if support == 1 else other)]
                for text, support, chunks, call in facts
            ],
        ]


def _call(texts: Texts, call: tuple[Any, ...], limit: int | None) -> list[Any]:
    """What is usual is left out at the end: most calls have neither detail nor usage of their own."""
    kind, status, source, text, detail, attempts, seconds, shrunk, usage = call
    said = texts.add(shortened(text, limit))
    told = texts.add(shortened(detail, limit)) + 1 if detail else 0
    figures = [status, attempts, round(seconds, 3), int(shrunk), told, *usage[:3], float(f"{usage[3]:.4g}")]
    usual = ["ok", 1 if source == "judge" else 0, 0, 0, 0, 0, 0, 0, 0]
    while figures and figures[-1] == usual[len(figures) - 1]:
        figures.pop()
    return [kind, source, said, *figures]


def _spans(document: str | None, chunks: list[tuple[int, int, str]]) -> list[list[Any]]:
    """[start, end] of each chunk, in JavaScript's UTF-16 units; with its text where the document does not hold it."""
    unit = _utf16(document or "")
    return [
        [unit(start), unit(end)] if document is not None and document[start:end] == text else [start, end, text]
        for start, end, text in chunks
    ]


def _utf16(text: str) -> Callable[[int], int]:
    """From offsets in characters to those in UTF-16 units."""
    if text.isascii() or max(text, default="") <= "\uffff":
        return lambda offset: offset
    wide = [place for place, character in enumerate(text) if character > "\uffff"]
    return lambda offset: offset + bisect_left(wide, offset)


def limits_for(gathered: Gathered, most: int = MOST_BYTES) -> Limits:
    """How much of each judge's reply can be kept, judged by some prompts spread over all of them."""
    count = len(gathered.prompts)
    if gathered.spool.size <= most:  # as it is read, not compressed
        return WHOLE
    sample = sorted({count * i // _SAMPLE for i in range(_SAMPLE)})

    def fits(limits: Limits) -> bool:
        packer = Packer(gathered, limits)
        size = sum(len(part) for number in sample for part in packer.pack([number])[0].values())
        return size * count <= most * len(sample)

    # Shorter is smaller: the first that fits is found by halving.
    return LIMITS[min(bisect_left(LIMITS, True, key=fits), len(LIMITS) - 1)]


def block(data: Any) -> bytes:
    """JSON or bytes, compressed, as base64: nothing in it can end a script element."""
    if not isinstance(data, bytes):
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        try:
            data = text.encode()
        except UnicodeEncodeError:  # lone surrogates have no UTF-8 form
            data = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(zlib.compress(data, _LEVEL))


def element(name: str, content: bytes) -> bytes:
    return b'<script type="text/plain" id="block-' + name.encode() + b'">' + content + b"</script>\n"


def write_shelves(packer: Packer, out: BinaryIO) -> tuple[list[int], Column]:
    """Write all texts. How many prompts each shelf has, and the flags of all answers."""
    shelves, flags = packer.shelves(), list[int]()
    done = processes.each(packer, Packer.pack, shelves) if len(shelves) >= _MANY else _here(packer, shelves)
    for number, (_, (blocks, found)) in enumerate(done):
        flags += found
        for kind, content in blocks.items():
            out.write(element(f"{kind}{number}", content))
    return [len(shelf) for shelf in shelves], np.array(flags, "u1")


def _here(packer: Packer, shelves: Sequence[range]) -> Iterator[tuple[range, tuple[dict[str, bytes], list[int]]]]:
    return ((shelf, packer.pack(shelf)) for shelf in shelves)


def columns(columns: dict[str, Column], names: dict[str, str]) -> tuple[bytes, list[list[Any]]]:
    """All columns in one block of bytes, and [name, type, offset] of each. Types are numpy's; the widest come first, so
    that each begins where its type may."""
    found, places, offset = [], [], 0
    for name, kind in sorted(names.items(), key=lambda item: -int(item[1][1:])):
        raw = np.ascontiguousarray(columns[name], dtype=f"<{kind}").tobytes()
        places.append([name, kind, offset])
        found.append(raw)
        offset += len(raw)
    return b"".join(found), places


def prompts_block(prompts: Sequence[Prompt]) -> dict[str, list[str]]:
    return {"ids": [prompt.id for prompt in prompts], "queries": [prompt.query for prompt in prompts]}
