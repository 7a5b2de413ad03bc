"""The charts of a run: what they are called and how they are drawn. Their curves come from the trainer's TensorBoard
files (trainer_curves.py) or from the answers (answer_curves.py)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from longreward.report.reading.table import Column
from longreward.schema import EVERY_DIMENSION

_POINTS = 1000  # of a curve; more are averaged in equal parts
LONGREWARD = "train/longreward/"
KNOWN = (
    ("kl", "KL from the reference policy", "nats", "policy", "train/kl"),
    ("length", "Answer length", "tokens", "policy", "train/response_length"),
    ("statements", "Statements in an answer", "statements", "policy", f"{LONGREWARD}statements"),
    ("truncated", "Answers cut at the length limit", "share", "policy", "train/truncated"),
    ("length_correlation", "Reward and length in groups", "correlation", "policy", f"{LONGREWARD}length_correlation"),
    ("no_spread", "Groups in which all answers got the same", "share", "policy", f"{LONGREWARD}no_spread"),
    ("left_out", "Answers masked in training", "share", "judge", f"{LONGREWARD}left_out"),
    ("void", "Void answers, by reason", "share", "judge", ""),
    ("latency", "Latency of a judge call", "s", "judge", ""),
    ("judge_seconds", "Time to score an answer", "s", "judge", f"{LONGREWARD}judge_seconds"),
    ("judge_wait", "From the last token to the last reward", "s", "judge", "longreward/judge_wait_s"),
    (
        "judge_wait_share",
        "Share of a step that waits for rewards",
        "share",
        "judge",
        "longreward/judge_wait_share",
    ),
    ("judge_calls", "Judge calls for an answer", "calls", "judge", f"{LONGREWARD}judge_calls"),
    ("free_calls", "Judge calls that cost nothing", "share", "judge", f"{LONGREWARD}free_calls"),
    ("cost", "Judge cost so far", "cost", "judge", f"{LONGREWARD}judge_cost"),
    ("signal", "Spread in groups that is not the judge's noise", "share", "judge", "watch/signal_total"),
    ("shadow", "Reward and shadow judge, of the same answers", "0-10", "judge", ""),
    ("canary_total", "Canaries: mean reward", "0-10", "canaries", "watch/canary_total"),
    ("canary_drift", "Canaries: drift from the reference", "reward", "canaries", "watch/canary_drift"),
    ("canary_void", "Canaries without a reward", "canaries", "canaries", "watch/canary_void"),
)


class Curve(msgspec.Struct, omit_defaults=True):
    """A curve; `spread` is the standard deviation of the answers around each value."""

    name: str
    x: list[float]
    y: list[float | None]
    spread: list[float | None] | None = None


@dataclass
class Chart:
    id: str
    title: str
    unit: str
    part: str
    """`reward`, `policy`, `judge`, `canaries`, or `more`."""
    lines: list[Curve]
    x: str = "step"
    """The name of the horizontal axis."""


@dataclass
class Charts:
    """The charts of a run. `note` says where they come from, if the reader has to know it."""

    charts: list[Chart] = field(default_factory=list)
    note: str = ""
    ends: list[tuple[float, int]] = field(default_factory=list)
    """When each step's figures were written (seconds since 1970), in the order of time, and the step's number."""

    def chart(self, identity: str) -> Chart | None:
        return next((chart for chart in self.charts if chart.id == identity), None)


def known_chart(identity: str, *lines: Curve) -> Chart:
    """A chart that the trainer's figures or the answers can have. A line without a name gets the title of the chart."""
    title, unit, part = next((t, u, p) for i, t, u, p, _ in KNOWN if i == identity)
    for line in lines:
        line.name = line.name or title
    return Chart(identity, title, unit, part, list(lines))


def in_order(names: Iterable[str]) -> list[str]:
    """The names in their order on the page: the total and LongReward's own dimensions first."""
    usual = ["total", *EVERY_DIMENSION]
    return sorted(names, key=lambda name: (usual.index(name) if name in usual else len(usual), name))


def reward_chart(name: str, lines: list[Curve]) -> Chart:
    return Chart(f"reward:{name}", "Reward" if name == "total" else name.capitalize(), "0-10", "reward", lines)


def thinned(name: str, x: Column, y: Column, spread: Column | None = None) -> Curve:
    if len(x) > _POINTS:
        edges = np.linspace(0, len(x), _POINTS + 1).astype(int)[:-1]
        sizes = np.diff([*edges, len(x)])
        x, y = x[edges], np.add.reduceat(y, edges) / sizes
        spread = None if spread is None else np.add.reduceat(spread, edges) / sizes
    return Curve(name, _rounded(x), _rounded(y), None if spread is None else _rounded(spread))


def _rounded(values: Column) -> list[Any]:
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]


def merged(events: Charts, answers: Charts) -> Charts:
    """The trainer's own curves, and those of the answers where it has none."""
    known = {chart.id for chart in events.charts}
    more = [chart for chart in answers.charts if chart.id not in known]
    note = events.note
    if more and not note and not any(chart.part != "more" for chart in events.charts):
        note = "Worked out from the stored answers: the trainer has written no figures of them."
    return Charts([*events.charts, *more], note, events.ends)
