"""The figures of all answers, a column each, and the prompts they answer."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longreward.schema import OK, ScoredAnswer

PARTS = ("training", "held-out before", "held-out during", "held-out after", "held-out", "scored")
"""What an answer was scored for. `held-out` alone: nothing was trained; `scored`: a file of answers."""
TRAINING, BEFORE, DURING, AFTER, HELDOUT, SCORED = range(len(PARTS))

MOST_DIMENSIONS = 16  # LongReward has four, composite rewards a few more
KINDS = {
    "run": "u1",
    "prompt": "u4",
    "order": "u4",
    "is_heldout": "u1",
    "time": "f8",
    "seconds": "f4",
    "tokens": "i4",  # -1: not told
    "characters": "u4",
    "truncated": "u1",
    "total": "f4",
    "status": "u1",
    "statements": "u2",
    "supported": "u2",
    "partly": "u2",
    "unsupported": "u2",
    "calls": "u2",
    "free": "u2",
    "judge_tokens": "u4",
    "cost": "f4",
    "shrunk": "u1",
    "offset": "u8",  # in the spool
    "size": "u4",
}
_CODES = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i4": "i", "f4": "f", "f8": "d"}
_MOST = {name: 2**16 - 1 for name, kind in KINDS.items() if kind == "u2"} | {"judge_tokens": 2**32 - 1}

Column = np.ndarray[Any, Any]
Place = tuple[Path | None, int, int]
"""A prompt file (None: the spool), an offset in bytes, and how many of them."""


@dataclass
class Prompt:
    """A question about a document. Several runs may ask the same, of documents that were cut differently."""

    id: str
    query: str
    material: dict[tuple[int, int], Material] = field(default_factory=dict)
    """By the number of the shard that read it, and its run."""


@dataclass
class Material:
    """What one shard knows of a prompt's document."""

    document: Place | None = None
    """The rendered prompt, or the document itself in the spool; None where there is none."""
    chunks: dict[tuple[Any, Any, int], int] = field(default_factory=dict)
    """(start, end, hash of the text) of each piece of evidence -> its number."""
    places: list[tuple[int, int]] = field(default_factory=list)
    """Where each chunk is in the spool, and how long it is there."""


class Builder:
    """Answers as they come in, for a `Table`. Nothing that is text is kept here, but for the names of dimensions and
    statuses."""

    def __init__(self) -> None:
        self.statuses = [OK]
        self.dimensions: list[str] = []
        self.columns: dict[str, Any] = {name: array(_CODES[kind]) for name, kind in KINDS.items()}
        self.scores: list[array[float]] = []
        """Of each dimension."""
        self.call_answer, self.call_seconds = array("I"), array("f")

    def __len__(self) -> int:
        return len(self.columns["run"])

    def add(self, answer: ScoredAnswer, *, run: int, prompt: int, offset: int, size: int, order: int) -> None:
        """One more answer, whose texts are at `offset` of the spool; `order` is its place in its file."""
        number, calls = len(self), answer.calls
        supports = [statement.support for dimension in answer.dimensions.values() for statement in dimension.statements]
        figures: dict[str, float] = {
            "run": run,
            "prompt": prompt,
            "order": order,
            "is_heldout": answer.split == "heldout",
            "time": answer.time,
            "seconds": answer.seconds,
            "tokens": -1 if answer.tokens is None else min(max(answer.tokens, -1), 2**31 - 1),
            "characters": len(answer.answer),
            "truncated": answer.truncated is True,
            "total": np.nan if answer.total is None else answer.total,
            "status": self._status(answer.status),
            "statements": len(supports),
            "supported": supports.count(1.0),
            "unsupported": supports.count(0.0),
            "partly": sum(support is not None and 0 < support < 1 for support in supports),
            "calls": len(calls),
            "free": sum(call.source != "judge" for call in calls),
            "judge_tokens": sum(call.usage.tokens for call in calls),
            "cost": sum(call.usage.cost for call in calls),
            "shrunk": any(call.shrunk for call in calls),
            "offset": offset,
            "size": size,
        }
        for name, most in _MOST.items():
            figures[name] = min(max(figures[name], 0), most)
        for name, column in self.columns.items():
            column.append(figures[name])
        for name in answer.dimensions:
            if name not in self.dimensions and len(self.dimensions) < MOST_DIMENSIONS:
                self.dimensions.append(name)
                self.scores.append(array("f", [np.nan]) * number)
        for name, scores in zip(self.dimensions, self.scores, strict=True):
            score = answer.score_of(name) if name in answer.dimensions else None
            scores.append(np.nan if score is None else score)
        for call in calls:
            if call.seconds > 0 and call.source == "judge":
                self.call_answer.append(number)
                self.call_seconds.append(call.seconds)

    def _status(self, name: str) -> int:
        return _number_of(name, self.statuses)


class Table:
    """The figures of answers, sorted in one way for all columns."""

    def __init__(self, parts: Sequence[tuple[Builder, Sequence[int], Sequence[int]]]) -> None:
        """Of each part: the answers, the numbers that its prompts have here, and the answers that count."""
        self.statuses = [OK]
        self.dimensions: list[str] = []
        self.columns: dict[str, Column] = {}
        """By name; dimensions as `score:NAME`, NaN where void."""
        pieces: dict[str, list[Column]] = {name: [] for name in KINDS}
        answers, seconds, done = [], [], 0
        for builder, _, _ in parts:
            self.dimensions += [name for name in builder.dimensions if name not in self.dimensions]
        pieces |= {f"score:{name}": [] for name in self.dimensions}
        for builder, prompts, kept in parts:
            rows = np.asarray(kept, dtype=np.int64)
            found = {name: np.frombuffer(column, KINDS[name]) for name, column in builder.columns.items()}
            statuses = np.array([_number_of(name, self.statuses) for name in builder.statuses], "u1")
            renumbered = np.asarray(prompts, "u4")
            found |= {"status": statuses[found["status"]], "prompt": renumbered[found["prompt"]]}
            scores = dict(zip(builder.dimensions, builder.scores, strict=True))
            nothing = np.full(len(builder), np.nan, "f4")
            for name in self.dimensions:
                found[f"score:{name}"] = np.frombuffer(scores[name], "f4") if name in scores else nothing
            for name, values in found.items():
                pieces[name].append(values[rows])
            place = np.full(len(builder), -1, dtype=np.int64)
            place[rows] = np.arange(done, done + len(rows))
            of_calls = place[np.asarray(builder.call_answer, dtype=np.int64)]
            answers.append(of_calls[of_calls >= 0])
            seconds.append(np.asarray(builder.call_seconds, "f4")[of_calls >= 0])
            done += len(rows)
        self.columns = {name: np.concatenate(values) for name, values in pieces.items()}
        self.calls: tuple[Column, Column] = np.concatenate(answers), np.concatenate(seconds)
        """Every judge call that was made: the row of its answer, and its seconds."""

    def __len__(self) -> int:
        return len(self.columns["run"])

    def of(self, name: str, rows: Column | slice = slice(None)) -> Column:
        """A column, or some rows of it."""
        return self.columns[name][rows]

    def sort(self, keys: Sequence[Column]) -> None:
        """By the last of the keys, then by the one before it, and so on."""
        order = np.lexsort(keys)
        self.columns = {name: column[order] for name, column in self.columns.items()}
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        answers, seconds = self.calls
        self.calls = place[answers], seconds


def _number_of(name: str, names: list[str]) -> int:
    """Its place among the names, among which it is from then on; beyond 255 they share the last one's."""
    if name not in names:
        if len(names) == 255:
            return 254
        names.append(name)
    return names.index(name)
