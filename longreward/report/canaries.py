"""The canaries of a run: answers of known quality, which the run scores again and again to see its judge drift."""

from __future__ import annotations

from typing import Any

from longreward import jsonlines
from longreward.errors import InputError
from longreward.report.curves import Chart, Curve, known_chart
from longreward.report.reading.sources import Source


def drift_chart(source: Source) -> list[Chart]:
    """The canaries' rounds, for runs whose TensorBoard files have none."""
    rows = rounds(source)
    line = Curve("drift", [float(row.get("step") or 0) for row in rows], [float(row["drift"]) for row in rows])
    return [known_chart("canary_drift", line)] if rows else []


def rounds(source: Source) -> list[dict[str, Any]]:
    """The canaries' rounds in which any was scored."""
    path = source.path / "canaries.jsonl"
    if not source.is_run or not path.is_file():
        return []
    try:
        return [row for _, row in jsonlines.read(path, broken=[]) if isinstance(row.get("drift"), int | float)]
    except InputError:
        return []
