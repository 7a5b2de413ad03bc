"""Some answers of the latest training step with their verdicts, for a person to read in TensorBoard and W&B.

They are read from the run's store, which the judge workers append to. Documents are left out: a page would be nothing
else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longreward import store
from longreward.schema import OK, DimensionScore, ScoredAnswer, Statement

# Characters that are shown of each text.
_QUESTION, _ANSWER, _JUDGE, _STATEMENT, _EVIDENCE = 500, 2000, 400, 300, 300
_STATEMENTS_SHOWN = 20
_BACKWARDS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SPECIAL = {ord(sign): f"&#{ord(sign)};" for sign in "\\`*_{}[]()<>#+-=!|&~$^@"}
_SUPPORT = {1.0: "full", 0.5: "partial", 0.0: "none"}


@dataclass(frozen=True)
class ShownVerdict:
    """What the judge said of a dimension or a statement."""

    about: str
    """The dimension, or the statement."""
    score: float | None
    status: str
    text: str
    evidence: tuple[str, ...] = ()
    """The passages that a statement was held against."""


@dataclass(frozen=True)
class ShownAnswer:
    """A scored answer as it is shown: all texts are fit for UTF-8 and shortened."""

    id: str
    question: str
    answer: str
    tokens: int | None
    total: float | None
    dimensions: tuple[ShownVerdict, ...]
    statements: tuple[ShownVerdict, ...]
    not_shown: int
    """Statements beyond the number that is shown."""
    ended: float
    """When its scoring was done, in seconds since 1970."""

    @classmethod
    def of(cls, scored: ScoredAnswer) -> ShownAnswer:
        statements = [statement for dimension in scored.dimensions.values() for statement in dimension.statements]
        return cls(
            id=readable(scored.id, _QUESTION),
            question=readable(scored.query, _QUESTION),
            answer=readable(scored.answer, _ANSWER),
            tokens=scored.tokens,
            total=scored.total,
            dimensions=tuple(_dimension(name, dimension) for name, dimension in scored.dimensions.items()),
            statements=tuple(_statement(statement) for statement in statements[:_STATEMENTS_SHOWN]),
            not_shown=max(0, len(statements) - _STATEMENTS_SHOWN),
            ended=scored.time + scored.seconds,
        )


class Samples:
    """The training answers that were scored last, as many as a step has."""

    def __init__(self, folder: Path, answers_per_step: int) -> None:
        """What is in the run's store `folder` already is passed over."""
        self._folder, self._at_most = folder, answers_per_step
        self._read = {path: path.stat().st_size for path in store.files(folder)}
        self._latest: dict[str, ShownAnswer] = {}

    def read(self) -> None:
        """Take in what was scored since the last time."""
        for path in store.files(self._folder):
            for scored in self._new(path):
                if scored.split != "train":
                    continue
                # One that was scored twice, because its worker died, is there once.
                key = scored.rollout or f"{path.name}:{self._read[path]}"
                shown = ShownAnswer.of(scored)
                self._latest[key] = max(shown, self._latest.get(key, shown), key=lambda a: store.rank(a.total, a.ended))
                if len(self._latest) > 2 * self._at_most:
                    self._forget()
        self._forget()

    def choose(self, count: int) -> list[ShownAnswer]:
        """The best of them, the worst, and others spread between; void ones only where there are too few others."""
        valid = sorted((a for a in self._latest.values() if a.total is not None), key=lambda a: -(a.total or 0))
        if len(valid) > count:
            last = len(valid) - 1
            return [valid[round(place * last / max(1, count - 1))] for place in range(count)]
        void = [a for a in self._latest.values() if a.total is None]
        return valid + void[: count - len(valid)]

    def _forget(self) -> None:
        newest = sorted(self._latest.items(), key=lambda item: item[1].ended)
        self._latest = dict(newest[-self._at_most :])

    def _new(self, path: Path) -> Iterator[ScoredAnswer]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):
                    return  # half-written: whole the next time
                self._read[path] = self._read.get(path, 0) + len(line)
                with suppress(ValueError):  # cut by a kill, or the rest of one that was being written when we began
                    yield store.parse(line, ScoredAnswer)


def markdown(answers: Sequence[ShownAnswer]) -> str:
    """The answers one below the other, for TensorBoard. Nothing that an answer holds is taken for Markdown or HTML."""
    return "\n\n".join(_section(answer, place(number, answers)) for number, answer in enumerate(answers))


def rows(step: int, answers: Sequence[ShownAnswer], dimensions: Sequence[str]) -> list[list[Any]]:
    """The answers as rows of `columns(dimensions)`, for a W&B table."""
    found = []
    for number, answer in enumerate(answers):
        scores = {verdict.about: verdict.score for verdict in answer.dimensions}
        judge = "\n".join(f"{v.about}: {_value(v)}: {v.text}" for v in answer.dimensions)
        facts = "\n".join(f"{fact}. {_support(v)}: {v.about}" for fact, v in enumerate(answer.statements, 1))
        evidence = "\n\n".join(_held_against(fact, v) for fact, v in enumerate(answer.statements, 1))
        row = [step, place(number, answers), answer.id, answer.question, answer.answer, answer.total]
        found.append([*row, *(scores.get(name) for name in dimensions), judge, facts, evidence])
    return found


def columns(dimensions: Sequence[str]) -> list[str]:
    """Headings of `rows`."""
    return ["step", "place", "id", "question", "answer", "total", *dimensions, "judge", "statements", "evidence"]


def place(number: int, answers: Sequence[ShownAnswer]) -> str:
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


def _dimension(name: str, scored: DimensionScore) -> ShownVerdict:
    # Statements are listed below it, with what was said of each.
    said = scored.calls[-1].text if scored.calls and not scored.statements else ""
    said = scored.detail if scored.status != OK or not said else said
    about, status = readable(name, _STATEMENT), readable(scored.status, _STATEMENT)
    return ShownVerdict(about, scored.score, status, readable(said, _JUDGE))


def _statement(statement: Statement) -> ShownVerdict:
    call = statement.call
    return ShownVerdict(
        readable(statement.text, _STATEMENT),
        statement.support,
        readable(call.status, _STATEMENT),
        readable(call.text or call.detail, _JUDGE),
        tuple(readable(chunk.text, _EVIDENCE) for chunk in statement.evidence),
    )


def _section(answer: ShownAnswer, where: str) -> str:
    total = "void" if answer.total is None else f"{where}: {answer.total:.2f}"
    length = "" if answer.tokens is None else f" ({answer.tokens} tokens)"
    parts = [
        f"### {total}",
        f"**id** {inert(answer.id)}",
        f"**question** {inert(answer.question)}",
        f"**answer**{length} {inert(answer.answer)}",
        _table(("dimension", "score", "judge"), [(v.about, _value(v), v.text) for v in answer.dimensions]),
    ]
    if answer.statements:
        parts.append(
            _table(("statement", "support", "judge"), [(v.about, _support(v), v.text) for v in answer.statements])
        )
    if answer.not_shown:
        parts.append(f"and {answer.not_shown} more statements")
    return "\n\n".join(parts)


def _table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([inert(cell) for cell in row] for row in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _held_against(number: int, verdict: ShownVerdict) -> str:
    """The passages of a statement and what the judge made of them, under the number that the statement has."""
    return "\n".join([f"{number}. {verdict.text}", *(f"- {passage}" for passage in verdict.evidence)])


def _value(verdict: ShownVerdict) -> str:
    return f"void ({verdict.status})" if verdict.score is None else f"{verdict.score:.2f}"


def _support(verdict: ShownVerdict) -> str:
    if verdict.score is None:
        return f"void ({verdict.status})"
    return _SUPPORT.get(verdict.score, f"{verdict.score:g}")
