"""Curves of a run from its scored answers, for runs whose trainer has written none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from longreward.report import curves
from longreward.report.curves import Chart, Charts, Curve
from longreward.report.reading.table import TRAINING, Column, Table

_PARTS = 60  # of a run without steps


def from_answers(table: Table, run: int, *, spends: bool) -> Charts:
    """The curves that answers alone give: over steps if they have any, else over the answers in the order of their time
    (in a scored file: of its lines). The band is the standard deviation among all answers of a step. `spends`: whether
    judge calls have a price."""
    rows = np.flatnonzero(table.of("run") == run)
    training = rows[table.of("part", rows) == TRAINING]
    rows = training if len(training) else rows
    if not len(rows):
        return Charts()
    rows = rows[np.lexsort([table.of(name, rows) for name in ("offset", "file", "time")])]
    steps = table.of("step", rows)
    if steps.any():
        rows, x = rows[np.argsort(steps, kind="stable")], np.unique(steps)
        where, name = np.searchsorted(x, table.of("step", rows)), "step"
    else:
        parts = min(_PARTS, len(rows))
        where, name = np.arange(len(rows)) * parts // len(rows), "answers scored"
        x = np.cumsum(np.bincount(where))
    charts = list(_Means(table, rows, where, x.astype(float)).charts(spends))
    for chart in charts:
        chart.x = name
    return Charts(charts)


class _Means:
    """Means over parts of the answers: `where` has the part of each row, `x` the place of each part on the axis."""

    def __init__(self, table: Table, rows: Column, where: Column, x: Column) -> None:
        self._table, self._rows, self._where, self._x = table, rows, where, x

    def charts(self, spends: bool) -> Iterator[Chart]:
        table, rows = self._table, self._rows
        scores = [("total", table.of("total", rows))]
        scores += [(name, table.of(f"score:{name}", rows)) for name in curves.in_order(table.dimensions)]
        for name, values in scores:
            if np.isfinite(values).any():
                yield curves.reward_chart(name, [self._line("mean", values, with_spread=True)])
        tokens = table.of("tokens", rows).astype(float)
        if (tokens >= 0).any():
            yield self._chart("length", np.where(tokens < 0, np.nan, tokens))
        for name in ("statements", "truncated"):
            yield self._chart(name, table.of(name, rows))
        reasons = table.of("status", rows)
        names = [(code, name) for code, name in enumerate(table.statuses) if code and (reasons == code).any()]
        void = [self._line("all", reasons != 0), *(self._line(name, reasons == code) for code, name in names)]
        yield curves.known_chart("void", *void)
        latency = self._latency()
        if latency:
            yield curves.known_chart("latency", *latency)
        yield self._chart("judge_seconds", table.of("seconds", rows))
        yield self._chart("judge_calls", table.of("calls", rows))
        calls = table.of("calls", rows).astype(float)
        free = table.of("free", rows) / np.where(calls == 0, np.nan, calls)
        yield self._chart("free_calls", free)
        if spends:
            cost = np.cumsum(np.bincount(self._where, table.of("cost", rows), len(self._x)))
            yield curves.known_chart("cost", curves.thinned("", self._x, cost))

    def _chart(self, identity: str, values: Column) -> Chart:
        return curves.known_chart(identity, self._line("", values))

    def _line(self, name: str, values: Column, *, with_spread: bool = False) -> Curve:
        values = values.astype(float)
        valid = np.isfinite(values)
        where, size = self._where[valid], len(self._x)
        count = np.bincount(where, minlength=size)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(where, values[valid], size) / count
            square = np.bincount(where, (values[valid] - mean[where]) ** 2, size) / count
        return curves.thinned(name, self._x, mean, np.sqrt(square) if with_spread else None)

    def _latency(self) -> list[Curve]:
        answers, seconds = self._table.calls
        part = np.full(len(self._table.of("run")), -1)
        part[self._rows] = self._where
        where = part[answers]
        seconds, where = seconds[where >= 0], where[where >= 0]
        if not len(seconds):
            return []
        order = np.argsort(where, kind="stable")
        found = np.split(seconds[order], np.searchsorted(where[order], np.arange(1, len(self._x))))
        shares = (("median", 0.5), ("95th percentile", 0.95))
        each = [(name, [np.quantile(s, share) if len(s) else np.nan for s in found]) for name, share in shares]
        return [curves.thinned(name, self._x, np.array(values)) for name, values in each]
