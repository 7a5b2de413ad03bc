"""Curves of a run from its trainer's TensorBoard files."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from longreward.report import curves
from longreward.report.curves import LONGREWARD, Chart, Charts, Curve
from longreward.report.reading.sources import Source

_LATENCY = {"median": f"{LONGREWARD}judge_p50_s", "95th percentile": f"{LONGREWARD}judge_p95_s"}
_SHADOW = {"reward": "watch/shadowed_total", "shadow": "watch/shadow_total"}
Scalars = dict[str, tuple[list[float], list[float], list[float]]]
"""By tag: steps, values, and the times (seconds since 1970) at which they were written."""


def from_events(source: Source) -> Charts:
    """The curves of a run's TensorBoard files. Without such files there are none, and without the package that reads
    them `note` says so."""
    folders = sorted({path.parent for path in (source.path / "tensorboard").glob("*/events*")}) if source.is_run else []
    if not folders:
        return Charts()
    if importlib.util.find_spec("tensorboard") is None:
        return Charts(note="The package tensorboard is not installed: KL and other figures of the trainer are missing.")
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
    return Charts(list(_of_scalars(scalars)), ends=ends)


def _scalars(folder: Path) -> Scalars:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 1, "images": 1, "histograms": 1})
    try:
        events.Reload()
    except Exception:  # a damaged file can make its reader raise anything
        return {}
    found: Scalars = {}
    for tag in events.Tags()["scalars"]:
        points = {event.step: event for event in events.Scalars(tag)}  # what a resumed run did again counts
        ordered = [points[step] for step in sorted(points)]
        found[tag] = [float(e.step) for e in ordered], [e.value for e in ordered], [e.wall_time for e in ordered]
    return found


def _of_scalars(scalars: Scalars) -> Iterator[Chart]:
    used = {tag for *_, tag in curves.KNOWN} | {*_LATENCY.values(), *_SHADOW.values()}
    spread = [tag.removesuffix("_spread") for tag in scalars if tag.startswith(LONGREWARD) and tag.endswith("_spread")]
    names = [tag.removeprefix(LONGREWARD) for tag in spread if tag in scalars]
    for name in curves.in_order(names):
        tag = LONGREWARD + name
        used |= {tag, f"{tag}_spread"}
        yield curves.reward_chart(name, [_line("mean", scalars[tag], scalars[f"{tag}_spread"])])
    for identity, *_, tag in curves.KNOWN:
        if tag in scalars:
            yield curves.known_chart(identity, _line("", scalars[tag]))
    for identity, tags in (("latency", _LATENCY), ("shadow", _SHADOW)):
        if scalars.keys() >= set(tags.values()):
            yield curves.known_chart(identity, *(_line(name, scalars[tag]) for name, tag in tags.items()))
    void = {tag for tag in scalars if tag == f"{LONGREWARD}void" or tag.startswith(f"{LONGREWARD}void_")}
    if void:
        used |= void
        lines = [_line(_reason(tag), scalars[tag]) for tag in sorted(void)]
        yield curves.known_chart("void", *(line for line in lines if line.name == "all" or any(line.y)))
    for tag in sorted(scalars.keys() - used):
        yield Chart(tag, tag.removeprefix("train/"), "", "more", [_line(tag, scalars[tag])])


def _reason(tag: str) -> str:
    return tag.removeprefix(f"{LONGREWARD}void").removeprefix("_") or "all"


def _line(name: str, points: tuple[list[float], list[float], list[float]], spread: Any = None) -> Curve:
    x, y = np.array(points[0]), np.array(points[1], float)
    around = np.array(spread[1], float) if spread is not None and len(spread[1]) == len(y) else None
    return curves.thinned(name, x, y, around)
