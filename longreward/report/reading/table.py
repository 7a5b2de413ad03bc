"""The figures of all answers, a column each."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np

from longreward.report.reading.stored import StoredAnswer
from longreward.schema import OK

PARTS = ("training", "held-out before", "held-out during", "held-out after", "held-out", "scored")
"""What an answer was scored for. `held-out` alone: nothing was trained; `scored`: a file of answers."""
TRAINING, BEFORE, DURING, AFTER, HELDOUT, SCORED = range(len(PARTS))

MOST_DIMENSIONS = 16  # LongReward has four, composite rewards a few more
_MOST_STATUSES = 255
KINDS = {
    "run": "u1",
    "prompt": "u4",
    "is_heldout": "u1",
    "time": "f8",
    "seconds": "f4",
    "tokens": "i4",  # -1: not known
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
    "said": "u4",  # characters of the judge's replies, of the statements and of the points
    "file": "u4",  # with the next one, the answer's place
    "offset": "u8",
}
_MOST = {name: 256 ** int(kind[1]) - 1 for name, kind in KINDS.items() if kind in ("u2", "u4")}

Column = np.ndarray[Any, Any]


class TableBuilder:
    """Answers as they come in, for a `Table`. No text is kept but the names of dimensions and statuses."""

    def __init__(self) -> None:
        self._statuses = {OK: 0}
        self._columns: dict[str, Any] = {name: array(np.dtype(kind).char) for name, kind in KINDS.items()}
        self._scores: dict[str, array[float]] = {}
        self._call_answer, self._call_seconds = array("I"), array("f")

    def __len__(self) -> int:
        return len(self._columns["run"])

    def add(self, answer: StoredAnswer, *, run: int, prompt: int, file: int, offset: int) -> int:
        """One more answer, which stands at `offset` of the file with this number. Returns its row."""
        row = len(self)
        statements = [statement for d in answer.dimensions.values() for statement in d.statements]
        calls = [call for d in answer.dimensions.values() for call in d.calls]
        calls += [statement.call for statement in statements]
        # Of the three kinds the nearest, as the page shows it: the offline judge uses all numbers from 0 to 1.
        supports = [s.support if s.support is None else math.floor(2 * s.support + 0.5) / 2 for s in statements]
        figures: dict[str, float] = {
            "run": run,
            "prompt": prompt,
            "is_heldout": answer.split == "heldout",
            "time": answer.time,
            "seconds": answer.seconds,
            "tokens": -1 if answer.tokens is None else answer.tokens,
            "characters": len(answer.answer),
            "truncated": answer.truncated is True,
            "total": np.nan if answer.total is None else answer.total,
            # Beyond the most statuses that a byte tells apart, all others share the last one.
            "status": self._statuses.setdefault(answer.status, min(len(self._statuses), _MOST_STATUSES - 1)),
            "statements": len(statements),
            "supported": supports.count(1.0),
            "unsupported": supports.count(0.0),
            "partly": sum(support is not None and 0 < support < 1 for support in supports),
            "said": sum(len(call.text) for call in calls)
            + sum(len(statement.text) for statement in statements)
            + sum(len(point.text) + len(point.quote) for d in answer.dimensions.values() for point in d.points),
            "file": file,
            "offset": offset,
            "calls": len(calls),
            "free": sum(call.source != "judge" for call in calls),
            "judge_tokens": sum(call.usage.prompt_tokens + call.usage.completion_tokens for call in calls),
            "cost": sum(call.usage.cost for call in calls),
            "shrunk": any(call.shrunk for call in calls),
        }
        for name, column in self._columns.items():
            column.append(min(figures[name], _MOST[name]) if name in _MOST else figures[name])
        for name, dimension in answer.dimensions.items():
            if name not in self._scores and len(self._scores) < MOST_DIMENSIONS:
                self._scores[name] = array("f", [np.nan]) * row
            if name in self._scores:
                self._scores[name].append(np.nan if dimension.score is None else dimension.score)
        for scores in self._scores.values():
            if len(scores) == row:
                scores.append(np.nan)
        made = [call.seconds for call in calls if call.seconds > 0 and call.source == "judge"]
        self._call_answer.extend([row] * len(made))
        self._call_seconds.extend(made)
        return row

    def table(self, rows: Sequence[int]) -> Table:
        """The table of some of the rows, in their order."""
        columns = {name: np.frombuffer(column, KINDS[name]) for name, column in self._columns.items()}
        columns |= {f"score:{name}": np.frombuffer(scores, "f4") for name, scores in self._scores.items()}
        calls = np.asarray(self._call_answer, np.int64), np.asarray(self._call_seconds, "f4")
        made = Table(columns, calls, list(self._statuses)[:_MOST_STATUSES], list(self._scores))
        made.select(np.asarray(rows, np.int64))
        return made


class Table:
    """The figures of answers, sorted in one way for all columns."""

    def __init__(
        self, columns: dict[str, Column], calls: tuple[Column, Column], statuses: list[str], dimensions: list[str]
    ) -> None:
        self.columns, self.calls, self.statuses, self.dimensions = columns, calls, statuses, dimensions
        """`columns` by name; the score of a dimension is `score:NAME`, NaN where void. `calls`: for each judge call
        that was made, the row of its answer and its seconds."""

    def __len__(self) -> int:
        return len(self.columns["run"])

    def of(self, name: str, rows: Column | slice = slice(None)) -> Column:
        """A column, or some rows of it."""
        return self.columns[name][rows]

    def select(self, rows: Column) -> None:
        """Keep these rows, in this order, and the calls of their answers."""
        place = np.full(len(self), -1, np.int64)
        place[rows] = np.arange(len(rows))
        self.columns = {name: column[rows] for name, column in self.columns.items()}
        answers, seconds = self.calls
        answers = place[answers]
        self.calls = answers[answers >= 0], seconds[answers >= 0]
