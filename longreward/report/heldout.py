"""Held-out scores before and after training, with intervals over the prompts."""

from __future__ import annotations

from typing import Any

import numpy as np

from longreward.evaluation.intervals import Interval, mean_and_interval, paired_change
from longreward.report.reading.sources import Source
from longreward.report.reading.table import AFTER, BEFORE, HELDOUT, Column, Table

ByPrompt = dict[str, dict[int, float]]
"""Dimension (`total` first) -> prompt -> mean of its answers that have a score."""


def by_prompt(table: Table, rows: Column) -> ByPrompt:
    """The mean score of each prompt over these rows, by dimension. A prompt whose answers are all void is missing."""
    prompts = table.of("prompt", rows)
    columns = {"total": table.of("total", rows)}
    columns |= {name: table.of(f"score:{name}", rows) for name in table.dimensions}
    # As the run itself does: an answer without a total counts nowhere.
    valid = np.isfinite(columns["total"])
    found: ByPrompt = {}
    for name, values in columns.items():
        known = valid & np.isfinite(values)
        each, where = np.unique(prompts[known], return_inverse=True)
        means = np.bincount(where, values[known]) / np.maximum(np.bincount(where), 1)
        if len(each):
            found[name] = {int(prompt): float(mean) for prompt, mean in zip(each, means, strict=True)}
    return found


def changes(before: ByPrompt, after: ByPrompt) -> dict[str, Interval]:
    """The mean of after minus before over the prompts that both have, with its interval, by dimension. A dimension
    without such prompts is missing."""
    found = {name: paired_change(first, after.get(name, {})) for name, first in before.items()}
    return {name: change for name, change in found.items() if change is not None}


def last_scores(table: Table, run: int) -> ByPrompt:
    """Held-out scores of a run's last policy: those after training, or else those that exist."""
    mine, part = table.of("run") == run, table.of("part")
    for wanted in (AFTER, HELDOUT):
        if (mine & (part == wanted)).any():
            return by_prompt(table, np.flatnonzero(mine & (part == wanted)))
    return {}


def summary(table: Table, run: int, source: Source) -> dict[str, Any] | None:
    """Held-out scores of a run: from the answers in its store, or from summary.json if the answers are gone. None for a
    run without held-out scores."""
    mine, part = table.of("run") == run, table.of("part")
    first, last = _names(source)
    columns, scores = [], {}
    for code, name in ((BEFORE, first), (AFTER, last), (HELDOUT, "held-out")):
        rows = np.flatnonzero(mine & (part == code))
        if len(rows):
            scores[name] = by_prompt(table, rows)
            void = int(np.isnan(table.of("total", rows)).sum())
            means = {dimension: mean_and_interval(list(each.values())) for dimension, each in scores[name].items()}
            columns.append({"name": name, "answers": len(rows), "void": void, "means": means})
    if not columns:
        return _told(source)
    change = changes(scores.get(first, {}), scores.get(last, {}))
    return {"columns": columns, "change": change}


def _names(source: Source) -> tuple[str, str]:
    """The names of the two sets of scores that are compared: one policy before and after training, or two policies."""
    if len(source.policies) > 1:
        (first, _), (last, _), *_ = source.policies
        return first, last
    return "before", "after"


def _told(source: Source) -> dict[str, Any] | None:
    """Held-out scores as the run itself wrote them down, for a run whose answers are gone."""
    told = source.summary or {}
    columns = []
    for key, name in zip(("before", "after"), _names(source), strict=True):
        found = told.get(key)
        if isinstance(found, dict):
            numbers = {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}
            n = int(numbers.get("n", 0))
            means = {k: (v, None, None, n) for k, v in numbers.items() if k not in ("n", "answers", "void")}
            void, answers = int(numbers.get("void", 0)), int(numbers.get("answers", 0))
            columns.append({"name": name, "answers": answers, "void": void, "means": means})
    gain, change = told.get("gain"), {}
    if isinstance(gain, dict) and isinstance(gain.get("interval"), list) and len(gain["interval"]) == 2:
        change["total"] = (gain.get("total"), *gain["interval"], gain.get("n"))
    return {"columns": columns, "change": change} if columns else None
