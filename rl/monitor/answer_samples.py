"""Some answers of the latest training step with their verdicts, for a person to read in TensorBoard and W&B.

They are read from the run's store, which the judge workers append to. Documents are left out: a page would be nothing
else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from longreward import store
from longreward.files import jsonlines
from longreward.schema import OK, ScoredAnswer

# Characters that are shown of each text.
_QUESTION, _ANSWER, _JUDGE, _STATEMENT, _EVIDENCE = 500, 2000, 400, 300, 300
_STATEMENTS_SHOWN = 20
_BACKWARDS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SPECIAL = {ord(sign): f"&#{ord(sign)};" for sign in "\\`*_{}[]()<>#+-=!|&~$^@"}
_SUPPORT = {1.0: "full", 0.5: "partial", 0.0: "none"}


class _Figures(store.Fields, kw_only=True):
    """What decides whether an answer is shown."""

    id: str
    split: str
    total: float | None
    rollout: str = ""
    time: float = 0.0
    seconds: float = 0.0


class _InStore(NamedTuple):
    """Where a scored answer stands, as the texts of a step's answers may be some 100 MB."""

    path: Path
    offset: int
    total: float | None
    ended: float
    """When its scoring was done, in seconds since 1970."""

    def read(self) -> ScoredAnswer:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return store.parse(file.readline(), ScoredAnswer)


class Samples:
    """The training answers that were scored last, as many as a step has."""

    def __init__(self, folder: Path, answers_per_step: int) -> None:
        """What is in the run's store `folder` already is passed over."""
        self._folder, self._at_most = folder, answers_per_step
        self._tails = {path: jsonlines.Tail(path, path.stat().st_size) for path in store.files(folder)}
        self._latest: dict[str, _InStore] = {}

    def read(self) -> None:
        """Take in what was scored since the last time."""
        for path in store.files(self._folder):
            for offset, found in self._new(path):
                if found.split != "train":
                    continue
                # One that was scored twice, because its worker died, is there once.
                key = found.rollout or f"{path.name}:{offset}"
                this = _InStore(path, offset, found.total, found.time + found.seconds)
                self._latest[key] = max(this, self._latest.get(key, this), key=lambda a: store.rank(a.total, a.ended))
        newest = sorted(self._latest.items(), key=lambda item: item[1].ended)
        self._latest = dict(newest[-self._at_most :])

    def choose(self, count: int) -> list[ScoredAnswer]:
        """The best of them, the worst, and others spread between; void ones only where there are too few others."""
        chosen = sorted((a for a in self._latest.values() if a.total is not None), key=lambda a: -(a.total or 0))
        if len(chosen) > count:
            last = len(chosen) - 1
            chosen = [chosen[round(place * last / max(1, count - 1))] for place in range(count)]
        else:
            chosen += [a for a in self._latest.values() if a.total is None][: count - len(chosen)]
        return [place.read() for place in chosen]

    def _new(self, path: Path) -> Iterator[tuple[int, _Figures]]:
        """The records since the last time, each with its offset."""
        for offset, line in self._tails.setdefault(path, jsonlines.Tail(path)).new():
            with suppress(ValueError):  # cut by a kill, or the rest of one that was being written when we began
                yield offset, store.parse(line, _Figures)


def markdown(answers: Sequence[ScoredAnswer]) -> str:
    """The answers one below the other, for TensorBoard. Nothing that an answer holds is taken for Markdown or HTML."""
    return "\n\n".join(_section(answer, place(number, answers)) for number, answer in enumerate(answers))


def rows(step: int, answers: Sequence[ScoredAnswer], dimensions: Sequence[str]) -> list[list[Any]]:
    """The answers as rows of `columns(dimensions)`, for a W&B table."""
    found = []
    for index, answer in enumerate(answers):
        scores = [answer.dimensions[name].score if name in answer.dimensions else None for name in dimensions]
        judge = "\n".join(": ".join(cells) for cells in _dimension_rows(answer))
        statements = list(enumerate(_statement_rows(answer), 1))
        facts = "\n".join(f"{number}. {support}: {text}" for number, (text, support, *_) in statements)
        evidence = "\n\n".join(f"{number}. {said}{passages}" for number, (*_, said, passages) in statements)
        texts = [readable(answer.id, _QUESTION), readable(answer.query, _QUESTION), readable(answer.answer, _ANSWER)]
        found.append([step, place(index, answers), *texts, answer.total, *scores, judge, facts, evidence])
    return found


def columns(dimensions: Sequence[str]) -> list[str]:
    """Headings of `rows`."""
    return ["step", "place", "id", "question", "answer", "total", *dimensions, "judge", "statements", "evidence"]


def place(number: int, answers: Sequence[ScoredAnswer]) -> str:
    """`best`, `worst`, `void`, or `between`, of an answer among those chosen."""
    if answers[number].total is None:
        return "void"
    valid = sum(answer.total is not None for answer in answers)
    return "best" if number == 0 else "worst" if number == valid - 1 else "between"


def readable(text: object, limit: int) -> str:
    """Any text as UTF-8 can hold it, less what would garble a page, with its middle left out beyond `limit`."""
    words = str(text)
    if len(words) > limit:
        # The end stays: there a judge's text has its verdict.
        tail = limit // 3
        words = f"{words[: limit - tail]} … {words[-tail:]}"
    words = "\n".join(words.encode("utf-8", "replace").decode().splitlines())
    return "".join("\ufffd" if _garbles(sign) else sign for sign in words)


def inert(text: str) -> str:
    """`text` in one line of Markdown that shows it as it is."""
    return "<br>".join(line.translate(_SPECIAL) for line in text.split("\n"))


def _garbles(sign: str) -> bool:
    return sign in _BACKWARDS or (unicodedata.category(sign) == "Cc" and sign not in "\n\t")


def _section(answer: ScoredAnswer, where: str) -> str:
    total = "void" if answer.total is None else f"{where}: {answer.total:.2f}"
    length = "" if answer.tokens is None else f" ({answer.tokens} tokens)"
    parts = [
        f"### {total}",
        f"**id** {inert(readable(answer.id, _QUESTION))}",
        f"**question** {inert(readable(answer.query, _QUESTION))}",
        f"**answer**{length} {inert(readable(answer.answer, _ANSWER))}",
        _table(("dimension", "score", "judge"), _dimension_rows(answer)),
    ]
    if statements := _statement_rows(answer):
        parts.append(_table(("statement", "support", "judge"), [row[:3] for row in statements]))
    if more := sum(len(dimension.statements) for dimension in answer.dimensions.values()) - len(statements):
        parts.append(f"and {more} more statements")
    return "\n\n".join(parts)


def _table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([inert(cell) for cell in row] for row in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _dimension_rows(answer: ScoredAnswer) -> list[tuple[str, str, str]]:
    """Of each dimension its name, its score, and what the judge said of it."""
    rows = []
    for name, scored in answer.dimensions.items():
        # Statements are listed below it, with what was said of each.
        said = scored.calls[-1].text if scored.calls and not scored.statements else ""
        said = scored.detail if scored.status != OK or not said else said
        score = _void(scored.status) if scored.score is None else f"{scored.score:.2f}"
        rows.append((readable(name, _STATEMENT), score, readable(said, _JUDGE)))
    return rows


def _statement_rows(answer: ScoredAnswer) -> list[tuple[str, str, str, str]]:
    """Of each statement that is shown its text, its support, what the judge said of it, and the passages that it was
    held against, each on a line of its own."""
    rows = []
    statements = [statement for dimension in answer.dimensions.values() for statement in dimension.statements]
    for statement in statements[:_STATEMENTS_SHOWN]:
        call, support = statement.call, statement.support
        given = _void(call.status) if support is None else _SUPPORT.get(support, f"{support:g}")
        passages = "".join(f"\n- {readable(chunk.text, _EVIDENCE)}" for chunk in statement.evidence)
        rows.append((readable(statement.text, _STATEMENT), given, readable(call.text or call.detail, _JUDGE), passages))
    return rows


def _void(status: str) -> str:
    return f"void ({readable(status, _STATEMENT)})"
