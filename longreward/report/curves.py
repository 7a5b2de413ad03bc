"""Curves over a run's steps: from its TensorBoard files, and from its answers where there are none."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longreward.report.sources import Source
from longreward.report.table import TRAINING, Column, Table
from longreward.schema import DIMENSIONS

_POINTS = 1000  # of a curve; more are averaged in equal parts
_PARTS = 60  # of a run without steps
_LONGREWARD = "train/longreward/"
_KNOWN = (
    ("kl", "KL from the reference policy", "nats", "policy", "train/kl"),
    ("length", "Answer length", "tokens", "policy", "train/response_length"),
    ("statements", "Statements in an answer", "statements", "policy", f"{_LONGREWARD}statements"),
    ("truncated", "Answers cut at the length limit", "share", "policy", "train/truncated"),
    (
        "length_correlation",
        "Reward and length within groups",
        "correlation",
        "policy",
        "train/longreward/length_correlation",
    ),
    ("no_spread", "Groups in which all answers got the same", "share", "policy", f"{_LONGREWARD}no_spread"),
    ("left_out", "Answers left out of training", "share", "judge", f"{_LONGREWARD}left_out"),
    ("judge_seconds", "Time to score an answer", "s", "judge", f"{_LONGREWARD}judge_seconds"),
    ("judge_calls", "Judge calls for an answer", "calls", "judge", f"{_LONGREWARD}judge_calls"),
    ("free_calls", "Judge calls that cost nothing", "share", "judge", f"{_LONGREWARD}free_calls"),
    ("cost", "Judge cost so far", "cost", "judge", f"{_LONGREWARD}judge_cost"),
    ("canary_total", "Canaries: mean reward", "0-10", "canaries", "watch/canary_total"),
    ("canary_drift", "Canaries: drift from the reference", "reward", "canaries", "watch/canary_drift"),
    ("canary_void", "Canaries without a reward", "canaries", "canaries", "watch/canary_void"),
)
_USED = {f"{_LONGREWARD}{name}" for name in ("judge_p50_s", "judge_p95_s")}


@dataclass
class Line:
    """`spread` is how far answers lie around a value: one standard deviation."""

    name: str
    x: list[float]
    y: list[float | None]
    spread: list[float | None] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "x": self.x, "y": self.y} | ({"spread": self.spread} if self.spread else {})


@dataclass
class Chart:
    id: str
    title: str
    unit: str
    part: str
    """`reward`, `policy`, `judge`, `canaries`, or `more`."""
    lines: list[Line]
    x: str = "step"
    """What stands on the horizontal axis."""

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"lines": [line.to_json() for line in self.lines]}


@dataclass
class Curves:
    """`note` is what a reader has to know of their origin."""

    charts: list[Chart] = field(default_factory=list)
    note: str = ""
    ends: list[tuple[float, int]] = field(default_factory=list)
    """When each step's figures were written (seconds since 1970), in the order of time, and the step's number."""

    def chart(self, identity: str) -> Chart | None:
        return next((chart for chart in self.charts if chart.id == identity), None)

    def to_json(self) -> dict[str, Any]:
        return {"note": self.note, "charts": [chart.to_json() for chart in self.charts]}


Scalars = dict[str, tuple[list[float], list[float], list[float]]]
"""By tag: steps, values, and the times they were written."""


def from_events(source: Source) -> Curves:
    """The curves of a run's TensorBoard files; none where there are no files or the package to read them is missing,
    which `note` then says."""
    folders = sorted({path.parent for path in (source.path / "tensorboard").glob("*/events*")}) if source.is_run else []
    if not folders:
        return Curves()
    if importlib.util.find_spec("tensorboard") is None:
        return Curves(note="The package tensorboard is not installed: KL and other figures of the trainer are missing.")
    scalars: Scalars = {}
    for folder in folders:
        for tag, found in _scalars(folder).items():
            scalars.setdefault(tag, found)
    steps = {
        step: at
        for tag, (xs, _, times) in scalars.items()
        if tag.startswith("train/")
        for step, at in zip(xs, times, strict=True)
    }
    ends = sorted((at, int(step)) for step, at in steps.items())
    return Curves(list(_of_scalars(scalars)), ends=ends)


def _scalars(folder: Path) -> Scalars:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 1, "images": 1, "histograms": 1})
    try:
        events.Reload()
    except Exception:  # a damaged file: whatever its reader trips over
        return {}
    found: Scalars = {}
    for tag in events.Tags()["scalars"]:
        points = {event.step: event for event in events.Scalars(tag)}  # what a resumed run did again counts
        ordered = [points[step] for step in sorted(points)]
        found[tag] = [float(e.step) for e in ordered], [e.value for e in ordered], [e.wall_time for e in ordered]
    return found


def known_chart(identity: str, line: Line) -> Chart:
    """One of the charts that the trainer's figures make too, of a line from elsewhere."""
    title, unit, part = next((t, u, p) for i, t, u, p, _ in _KNOWN if i == identity)
    return Chart(identity, title, unit, part, [line])


def _of_scalars(scalars: Scalars) -> Iterator[Chart]:
    used = {tag for *_, tag in _KNOWN} | _USED
    spread = [tag.removesuffix("_spread") for tag in scalars if tag.startswith(_LONGREWARD) and tag.endswith("_spread")]
    names = [tag.removeprefix(_LONGREWARD) for tag in spread if tag in scalars]
    for name in in_order(names):
        tag = _LONGREWARD + name
        used |= {tag, f"{tag}_spread"}
        yield _reward_chart(name, [_line("mean", scalars[tag], scalars[f"{tag}_spread"])])
    for identity, title, unit, part, tag in _KNOWN:
        if tag in scalars:
            yield Chart(identity, title, unit, part, [_line(title, scalars[tag])])
    latency = [(name, f"{_LONGREWARD}judge_{key}_s") for name, key in (("median", "p50"), ("95th percentile", "p95"))]
    if all(tag in scalars for _, tag in latency):
        yield _latency_chart([_line(name, scalars[tag]) for name, tag in latency])
    void = {tag for tag in scalars if tag == f"{_LONGREWARD}void" or tag.startswith(f"{_LONGREWARD}void_")}
    if void:
        used |= void
        lines = [_line(_reason(tag), scalars[tag]) for tag in sorted(void)]
        yield _void_chart([line for line in lines if line.name == "all" or any(line.y)])
    for tag in sorted(scalars.keys() - used):
        yield Chart(tag, tag.removeprefix("train/"), "", "more", [_line(tag, scalars[tag])])


def in_order(names: Iterable[str]) -> list[str]:
    """The total and LongReward's own dimensions first."""
    usual = ["total", *DIMENSIONS]
    return sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name))


def _reason(tag: str) -> str:
    return tag.removeprefix(f"{_LONGREWARD}void").removeprefix("_") or "all"


def _reward_chart(name: str, lines: list[Line]) -> Chart:
    return Chart(f"reward:{name}", "Reward" if name == "total" else name.capitalize(), "0-10", "reward", lines)


def _latency_chart(lines: list[Line]) -> Chart:
    return Chart("latency", "Latency of a judge call", "s", "judge", lines)


def _void_chart(lines: list[Line]) -> Chart:
    return Chart("void", "Void answers, by reason", "share", "judge", lines)


def _line(name: str, points: tuple[list[float], list[float], list[float]], spread: Any = None) -> Line:
    x, y = np.array(points[0]), np.array(points[1], float)
    around = None
    if spread is not None and len(spread[1]) == len(y):
        around = np.array(spread[1], float)
    return _thinned(name, x, y, around)


def _thinned(name: str, x: Column, y: Column, spread: Column | None = None) -> Line:
    if len(x) > _POINTS:
        edges = np.linspace(0, len(x), _POINTS + 1).astype(int)[:-1]
        sizes = np.diff([*edges, len(x)])
        x, y = x[edges], np.add.reduceat(y, edges) / sizes
        spread = None if spread is None else np.add.reduceat(spread, edges) / sizes
    return Line(name, _rounded(x), _rounded(y), None if spread is None else _rounded(spread))


def _rounded(values: Column) -> list[Any]:
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]


def from_answers(table: Table, run: int, *, spends: bool) -> Curves:
    """The same curves as far as answers tell: over steps where they have any, else over the answers in the order of
    their time (of a scored file: of its lines). The spread is that among all answers of a step. `spends`: whether there
    is a price."""
    rows = np.flatnonzero(table.of("run") == run)
    training = rows[table.of("part", rows) == TRAINING]
    rows = training if len(training) else rows
    if not len(rows):
        return Curves()
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
    return Curves(charts)


class _Means:
    """Means over parts of the answers: `where` is the part of each row, `x` where it stands."""

    def __init__(self, table: Table, rows: Column, where: Column, x: Column) -> None:
        self._table, self._rows, self._where, self._x = table, rows, where, x

    def charts(self, spends: bool) -> Iterator[Chart]:
        table, rows = self._table, self._rows
        scores = [("total", table.of("total", rows))]
        scores += [(name, table.of(f"score:{name}", rows)) for name in in_order(table.dimensions)]
        for name, values in scores:
            if np.isfinite(values).any():
                yield _reward_chart(name, [self._line("mean", values, with_spread=True)])
        tokens = table.of("tokens", rows).astype(float)
        if (tokens >= 0).any():
            yield self._chart("length", np.where(tokens < 0, np.nan, tokens))
        yield self._chart("statements", table.of("statements", rows))
        yield self._chart("truncated", table.of("truncated", rows))
        reasons = table.of("status", rows)
        names = [(code, name) for code, name in enumerate(table.statuses) if code and (reasons == code).any()]
        void = [self._line("all", reasons != 0), *(self._line(name, reasons == code) for code, name in names)]
        yield _void_chart(void)
        latency = self._latency()
        if latency:
            yield _latency_chart(latency)
        yield self._chart("judge_seconds", table.of("seconds", rows))
        yield self._chart("judge_calls", table.of("calls", rows))
        calls = table.of("calls", rows).astype(float)
        free = table.of("free", rows) / np.where(calls == 0, np.nan, calls)
        yield self._chart("free_calls", free)
        if spends:
            cost = np.cumsum(np.bincount(self._where, table.of("cost", rows), len(self._x)))
            yield self._known("cost", _thinned("cost", self._x, cost))

    def _chart(self, identity: str, values: Column) -> Chart:
        return self._known(identity, self._line(identity, values))

    def _known(self, identity: str, line: Line) -> Chart:
        chart = known_chart(identity, line)
        line.name = chart.title
        return chart

    def _line(self, name: str, values: Column, *, with_spread: bool = False) -> Line:
        values = values.astype(float)
        valid = np.isfinite(values)
        where, size = self._where[valid], len(self._x)
        count = np.bincount(where, minlength=size)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(where, values[valid], size) / count
            square = np.bincount(where, (values[valid] - mean[where]) ** 2, size) / count
        return _thinned(name, self._x, mean, np.sqrt(square) if with_spread else None)

    def _latency(self) -> list[Line]:
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
        return [_thinned(name, self._x, np.array(values)) for name, values in each]


def merged(events: Curves, answers: Curves) -> Curves:
    """The trainer's own curves, and those of the answers where it has none."""
    known = {chart.id for chart in events.charts}
    more = [chart for chart in answers.charts if chart.id not in known]
    note = events.note
    if more and not note and not any(chart.part != "more" for chart in events.charts):
        note = "Worked out from the stored answers: the trainer has written no figures of them."
    return Curves([*events.charts, *more], note, events.ends)
