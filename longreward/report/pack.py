"""Texts into compressed blocks, of which a page loads those that it needs.

Questions are kept together in shelves of some hundred kilobytes. A shelf is three blocks: `t` the answers (what is
searched), `d` what the judge said of them, `c` the documents. A text is kept once for a shelf: siblings make the same
statements, and what was verified once is said of all of them. Statements that stand word for word in their answer, and
evidence, are kept as places.
"""

from __future__ import annotations

import base64
import json
import zlib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, BinaryIO

import msgspec
import numpy as np

from longreward.report import suspicious
from longreward.report.reading.gather import Gathered
from longreward.report.reading.stored import StoredCall, StoredDimension, StoredEvidence, StoredPoint
from longreward.report.reading.table import Column

MOST_BYTES = 95_000_000
"""The judge's replies are shortened until the texts take no more: a page of over 100 MB is slow to handle."""
ReplyLimits = tuple[int | None, int | None]
"""Characters of a judge's reply that are kept: of one about a fully supported statement, and of others; None: all."""
WHOLE: ReplyLimits = (None, None)
LIMITS: tuple[ReplyLimits, ...] = (
    WHOLE,
    *((400, None), (150, None), (150, 1000), (100, 500), (80, 300), (60, 200), (60, 160), (60, 120), (0, 60)),
)
"""The most generous first; the first that fits MOST_BYTES is taken. Replies about supported statements are cut first,
because few people read why a supported statement is supported."""
_SHELF = 500_000  # characters of answers, verdicts and documents, before they are compressed
_SAMPLE = 16  # questions that the limit is chosen by
_LEVEL = 5  # a fiftieth larger than the smallest, in half the time
_TAIL = 0.4  # of a shortened text: there a judge's reply has its verdict
_STOP = ". "


class Texts:
    """The texts of a shelf, each kept once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._written = 0

    def add(self, text: str) -> int:
        """1 more than the number of a text that is there already; 0 for one that gets the next number: most do, and
        zeros pack smaller than numbers that all differ."""
        number = self._numbers.get(text)
        if number is not None:
            return number + 1
        self._numbers[text] = len(self._numbers)
        return 0

    def new(self) -> list[str]:
        """What has been added since the last time."""
        begin, self._written = self._written, len(self._numbers)
        return list(self._numbers)[begin:]


def shortened(text: str, limit: int | None) -> str:
    """The text without its middle if it is longer than `limit`; cut between two sentences if possible."""
    if limit is None or len(text) <= limit:
        return text
    if not limit:
        return ""
    tail = int(limit * _TAIL)
    head, end = text[: limit - tail], text[-tail:]
    head = head[: head.rfind(_STOP) + 1] or head
    end = end[end.find(_STOP) + 2 :] if _STOP in end else end
    return f"{head}\n…\n{end}"


class Packer:
    """Packs shelves of questions, whose answers are rows of the table: sorted by question, and complete."""

    def __init__(self, gathered: Gathered, limits: ReplyLimits) -> None:
        self._gathered, self._limits = gathered, limits
        numbers = np.arange(len(gathered.questions) + 1)
        self._begin = np.searchsorted(gathered.table.of("prompt"), numbers).tolist()
        """The first row of each question, and the end of all rows."""

    def shelves(self) -> list[range]:
        """The questions of each shelf: as many as it takes to fill it."""
        found, begin, size, table = [], 0, 0, self._gathered.table
        for number, question in enumerate(self._gathered.questions):
            rows = slice(self._begin[number], self._begin[number + 1])
            size += int(table.of("characters", rows).sum() + table.of("said", rows).sum())
            size += sum(len(self._gathered.files.line(place)) for place in question.documents.values())
            if size >= _SHELF or number + 1 == len(self._gathered.questions):
                found.append(range(begin, number + 1))
                begin, size = number + 1, 0
        return found

    def pack(self, shelf: range) -> tuple[dict[str, bytes], list[int]]:
        """The blocks `t`, `d` and `c` of a shelf, and the flags of its answers."""
        rows = range(self._begin[shelf.start], self._begin[shelf.stop])
        column = self._gathered.table.of
        where = slice(rows.start, rows.stop)
        prompts, runs, totals = (column(name, where).tolist() for name in ("prompt", "run", "total"))
        answers = [self._gathered.answer(row) for row in rows]
        texts, documents = Texts(), [self._documents(number) for number in shelf]
        said = [texts.add(answer.answer) for answer in answers]
        parts: dict[str, Any] = {"t": {"texts": texts.new(), "answers": said}}
        evidence: dict[tuple[int, int], dict[StoredEvidence, int]] = {}
        """By question and run: each piece of evidence, and its number."""
        judged = []
        for answer, prompt, run in zip(answers, prompts, runs, strict=True):
            numbers = evidence.setdefault((prompt, run), {})
            dimensions = answer.dimensions.items()
            judged.append([self._dimension(texts, answer.answer, numbers, *each) for each in dimensions])
        parts["d"] = {"texts": texts.new(), "answers": judged}
        parts["c"] = _about(shelf, documents, evidence)
        # Siblings often say the same sentence: each is looked up once.
        held = [cache("\0".join(by_run.values()).__contains__) for by_run in documents]
        flags = [
            suspicious.flags(answer.answer, None if total != total else total, held[prompt - shelf.start])
            for answer, prompt, total in zip(answers, prompts, totals, strict=True)
        ]
        return {kind: block(part) for kind, part in parts.items()}, flags

    def _documents(self, number: int) -> dict[int, str]:
        """The document of a question by run; a run whose document is not known is missing."""
        places = self._gathered.questions[number].documents
        found = {run: self._gathered.document(place) for run, place in places.items()}
        return {run: document for run, document in found.items() if document is not None}

    def _dimension(
        self, texts: Texts, answer: str, evidence: dict[StoredEvidence, int], name: str, dimension: StoredDimension
    ) -> list[Any]:
        supported, other = self._limits
        unit = _utf16(answer) if dimension.statements else None
        statements = []
        for statement in dimension.statements:
            at, text = answer.find(statement.text), statement.text
            place = texts.add(text) if at < 0 or unit is None else [unit(at), unit(at + len(text))]
            numbers = [evidence.setdefault(each, len(evidence)) for each in statement.evidence]
            limit = supported if statement.support == 1 else other
            packed: list[Any] = [place, statement.support, numbers, _call(texts, statement.call, limit)]
            statements.append(packed + _rounded(statement.deviation))
        score = None if dimension.score is None else round(dimension.score, 4)
        detail = texts.add(shortened(dimension.detail, other))
        calls = [_call(texts, call, other) for call in dimension.calls]
        packed = [name, score, dimension.status, detail, calls, statements]
        if not dimension.points:
            return packed + _rounded(dimension.deviation)
        deviation = None if dimension.deviation is None else round(dimension.deviation, 4)
        return [*packed, deviation, [_point(texts, point) for point in dimension.points]]


def _point(texts: Texts, point: StoredPoint) -> list[Any]:
    covered = None if point.covered is None else round(point.covered, 4)
    deviation = None if point.deviation is None else round(point.deviation, 4)
    return [texts.add(point.text), covered, deviation, texts.add(point.quote), point.in_answer]


def _rounded(deviation: float | None) -> list[float]:
    """Nothing where there is none, as for most judges."""
    return [] if deviation is None else [round(deviation, 4)]


def _about(
    shelf: range, by_run: Sequence[dict[int, str]], evidence: dict[tuple[int, int], dict[StoredEvidence, int]]
) -> dict[str, Any]:
    """The documents of a shelf, each once, and for each question by run: the number of its document (-1: none), and
    where its evidence is."""
    documents: dict[str, int] = {}
    about = []
    for number, texts in zip(shelf, by_run, strict=True):
        runs = {run for prompt, run in evidence if prompt == number}
        found = {}
        for run in sorted(runs):
            text = texts.get(run)
            place = -1 if text is None else documents.setdefault(text, len(documents))
            found[run] = [place, _spans(text, evidence[number, run])]
        about.append(found)
    return {"documents": list(documents), "prompts": about}


def _call(texts: Texts, call: StoredCall, limit: int | None) -> list[Any]:
    """A call as a list. Usual values at its end are left out: most calls have no detail and no usage of their own."""
    said = texts.add(shortened(call.text, limit))
    detail = texts.add(shortened(call.detail, limit)) + 1 if call.detail else 0
    usage = call.usage
    tokens = usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
    figures = [call.status, call.attempts, round(call.seconds, 3), int(call.shrunk), detail, *tokens, usage.cost]
    usual = ["ok", 1 if call.source == "judge" else 0, 0, 0, 0, 0, 0, 0, 0]
    while figures and figures[-1] == usual[len(figures) - 1]:
        figures.pop()
    return [call.kind, call.source, said, *figures]


def _spans(document: str | None, evidence: dict[StoredEvidence, int]) -> list[list[Any]]:
    """[start, end] of each piece, in JavaScript's UTF-16 units; with its text where the document does not hold it."""
    unit = _utf16(document or "")
    return [
        [unit(each.start), unit(each.end)]
        if document is not None and document[each.start : each.end] == each.text
        else [each.start, each.end, each.text]
        for each in evidence
    ]


def _utf16(text: str) -> Callable[[int], int]:
    """A function from an offset in characters to one in UTF-16 units, as JavaScript counts."""
    if text.isascii() or max(text, default="") <= "\uffff":
        return lambda offset: offset
    wide = [place for place, character in enumerate(text) if character > "\uffff"]
    return lambda offset: offset + bisect_left(wide, offset)


def limits_for(gathered: Gathered, most: int = MOST_BYTES) -> ReplyLimits:
    """How much of the judge's replies fits on the page, estimated from questions spread evenly over all of them."""
    count, table = len(gathered.questions), gathered.table
    # Compressed and in base64, texts take about half of this.
    if table.of("characters").sum() + table.of("said").sum() <= most:
        return WHOLE
    sample = sorted({count * i // _SAMPLE for i in range(_SAMPLE)})

    def fits(limits: ReplyLimits) -> bool:
        packer = Packer(gathered, limits)
        size = sum(len(part) for number in sample for part in packer.pack(range(number, number + 1))[0].values())
        return size * count <= most * len(sample)

    # Shorter is smaller: the first that fits is found by halving.
    return LIMITS[min(bisect_left(LIMITS, True, key=fits), len(LIMITS) - 1)]


def block(data: Any) -> bytes:
    """Bytes, or else data as JSON (null for a number that is not finite), compressed, as base64: nothing in it can
    end a script element."""
    if not isinstance(data, bytes):
        try:
            data = msgspec.json.encode(data)
        except UnicodeEncodeError:  # lone surrogates have no UTF-8 form
            plain = json.loads(json.dumps(msgspec.to_builtins(data)), parse_constant=lambda _: None)
            data = json.dumps(plain, separators=(",", ":")).encode()
    return base64.b64encode(zlib.compress(data, _LEVEL))


def element(name: str, content: bytes) -> bytes:
    return b'<script type="text/plain" id="block-' + name.encode() + b'">' + content + b"</script>\n"


def write_shelves(packer: Packer, out: BinaryIO) -> tuple[list[int], Column]:
    """Write all texts. Returns the number of questions on each shelf, and the flags of all answers."""
    shelves, flags = packer.shelves(), list[int]()
    for number, shelf in enumerate(shelves):
        blocks, found = packer.pack(shelf)
        flags += found
        for kind, content in blocks.items():
            out.write(element(f"{kind}{number}", content))
    return [len(shelf) for shelf in shelves], np.array(flags, "u1")


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
