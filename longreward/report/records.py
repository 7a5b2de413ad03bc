"""One scored answer, from a record of a run's store or a row of a scored file. Nothing in it is trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from longreward.schema import OK

_DIMENSIONS = 12  # of one answer; LongReward has four, composite rewards a few more


class Call(NamedTuple):
    """A question to the judge; see schema.JudgeCall."""

    kind: str
    status: str
    source: str
    text: str
    detail: str
    attempts: int
    seconds: float
    shrunk: bool
    used: tuple[int, int, int, float]
    """Tokens of the prompt, those of them that were cached, of the completion, and the cost."""


class Fact(NamedTuple):
    """A statement, and how far the document supports it: 1, 0.5, 0; None where void."""

    text: str
    support: float | None
    evidence: list[dict[str, Any]]
    """As it is in the record, see `chunk`: siblings share most of it, and it is looked at once."""
    call: Call


@dataclass(slots=True)
class Dimension:
    name: str
    score: float | None
    status: str
    detail: str
    calls: list[Call]
    facts: list[Fact]


@dataclass(slots=True)
class Scored:
    """A scored answer. What the record does not tell is empty, None or 0."""

    id: str
    split: str
    rollout: str
    key: str
    """Of the row in a scored file."""
    time: float
    """When its scoring began, in seconds since 1970."""
    seconds: float
    """Wall time of scoring it."""
    tokens: int | None
    truncated: bool
    query: str
    answer: str
    total: float | None
    dimensions: list[Dimension] = field(default_factory=list)

    @property
    def status(self) -> str:
        """`ok`, or why the total is void."""
        if self.total is not None:
            return OK
        return next((d.status for d in self.dimensions if d.score is None and d.status != OK), "void")

    @property
    def calls(self) -> list[Call]:
        return [call for d in self.dimensions for call in (*d.calls, *(fact.call for fact in d.facts))]

    @property
    def facts(self) -> list[Fact]:
        return [fact for d in self.dimensions for fact in d.facts]


def scored(record: dict[str, Any]) -> Scored:
    """ValueError with a few words where `record` is no scored answer."""
    rows = record.get("dimensions", record.get("detail"))
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise ValueError("no scored answer: neither `dimensions` nor `detail`")
    scores = record.get("scores")
    total = scores.get("total") if isinstance(scores, dict) else record.get("total")
    tokens = _number(record.get("tokens"))
    return Scored(
        id=_text(record.get("id", record.get("idx", ""))),
        split=_text(record.get("split", "")),
        rollout=_text(record.get("rollout", "")),
        key=_text(record.get("key", "")),
        time=_number(record.get("time")) or 0.0,
        seconds=_number(record.get("seconds")) or 0.0,
        tokens=None if tokens is None else int(tokens),
        truncated=record.get("truncated") is True,
        query=_text(record.get("query", "")),
        answer=_text(record.get("answer", "")),
        total=_number(total),
        dimensions=[_dimension(name, row) for name, row in list(rows.items())[:_DIMENSIONS]],
    )


def _dimension(name: str, row: dict[str, Any]) -> Dimension:
    score = _number(row.get("score"))
    return Dimension(
        name,
        score,
        _text(row.get("status", OK)) if score is None else OK,
        _text(row.get("detail", "")),
        [_call(call) for call in _list(row, "calls")],
        [_fact(fact) for fact in _list(row, "statements")],
    )


def _fact(row: dict[str, Any]) -> Fact:
    call = row.get("call")
    return Fact(
        _text(row.get("text", "")),
        _number(row.get("support")),
        _list(row, "evidence"),
        _call(call if isinstance(call, dict) else {}),
    )


def chunk(row: dict[str, Any]) -> tuple[int, int, str]:
    """Where evidence begins and ends in the document, in characters, and its text."""
    return _count(row.get("start")), _count(row.get("end")), _text(row.get("text", ""))


def _call(row: dict[str, Any]) -> Call:
    usage, get = row.get("usage"), row.get
    used: tuple[int, int, int, float] = (0, 0, 0, 0.0)
    if isinstance(usage, dict) and usage:
        tokens = (_count(usage.get(name)) for name in ("prompt_tokens", "cached_tokens", "completion_tokens"))
        prompt, cached, completion = tokens
        used = prompt, cached, completion, _number(usage.get("cost")) or 0.0
    return Call(
        _text(get("kind", "")),
        _text(get("status", OK)),
        _text(get("source", "judge")),
        _text(get("text", "")),
        _text(get("detail", "")),
        _count(get("attempts", 0)),
        _number(get("seconds", 0.0)) or 0.0,
        get("shrunk") is True,
        used,
    )


def _list(row: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = row.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _number(value: Any) -> float | None:
    kind = type(value)
    if kind is not float and kind is not int:
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _count(value: Any) -> int:
    if type(value) is int and 0 <= value < 2**31:
        return value
    number = _number(value)
    return 0 if number is None else min(max(int(number), 0), 2**31 - 1)
