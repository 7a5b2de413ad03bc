"""The alarms of a report: what a person should look into, found in the figures of the answers and in the curves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from longreward.report import judge_alarms
from longreward.report.alarm import Alarm, examples
from longreward.report.curves import Charts
from longreward.report.heldout import by_prompt, changes
from longreward.report.reading.sources import Source
from longreward.report.reading.table import AFTER, BEFORE, TRAINING, Column, Table
from longreward.report.suspicious import FLAGS, SIGNS, SPREADLESS

_ENDS = 0.2
"""The first and the last fifth of a run are compared: steps of some dozen answers vary too much for single ones."""
_MIN_STEPS = 10
_REWARD_RISE = 0.2
"""Points of 10 that the reward has to rise by: less is within what two runs of the quickstart differ by."""
_GROWTH = 1.5
"""Factor by which length or number of statements has grown. Better answers are longer too, but seldom by half."""
_CORRELATION = 0.5
"""Reward and length within groups: above it, length explains a quarter of what the groups differ by."""
_MIN_ANSWERS = 50  # for what is said of all answers
_SAME = 0.05
"""Standard deviation (points of 10) under which a dimension tells answers apart no more than rounding does."""
_NO_SPREAD = 0.3
"""Share of groups that teach nothing. Some are normal (easy and hopeless prompts); a third is waste."""
_MIN_GROUPS = 10
_SUSPICIOUS_SHARE = 0.01
"""A hundredth of the answers with a sign: an alarm; fewer are a note."""


def alarms(table: Table, run: int, source: Source, curves: Charts) -> list[Alarm]:
    """The alarms and notes of a run, alarms first."""
    rows = np.flatnonzero(table.of("run") == run)
    of_judge = (judge_alarms.void_in_time, judge_alarms.void_prompts)
    finders = (_growth, _flat_dimensions, _no_spread, _suspicious, _heldout_fell, *of_judge)
    found = [alarm for finder in finders for alarm in finder(table, rows, curves)]
    found += [*judge_alarms.drift(source), *judge_alarms.diverged(table, rows, source)]
    return sorted(found, key=lambda alarm: alarm.level)


def _growth(table: Table, rows: Column, curves: Charts) -> Iterator[Alarm]:
    reward = _ends(curves, "reward:total")
    if reward is None or getattr(curves.chart("reward:total"), "x", "") != "step":
        return
    before, after = reward
    if after - before < _REWARD_RISE:
        return
    correlation = _ends(curves, "length_correlation")
    for identity, what, unit in (("length", "length", "tokens"), ("statements", "number of statements", "statements")):
        ends = _ends(curves, identity)
        if ends is None or ends[0] <= 0 or ends[1] < _GROWTH * ends[0]:
            continue
        figures = [f"reward {before:.2f} -> {after:.2f}", f"{what} {ends[0]:.1f} -> {ends[1]:.1f} {unit}"]
        if correlation is not None:
            strong = ", which is high" if correlation[1] > _CORRELATION else ""
            figures.append(f"correlation of reward and length within groups: {correlation[1]:.2f}{strong}")
        figures.append("the first fifth of the steps compared with the last fifth")
        column = "tokens" if identity == "length" else identity
        mine = rows[table.of("part", rows) == TRAINING]
        longest = mine[np.argsort(-table.of(column, mine).astype(float), kind="stable")]
        yield Alarm(
            f"growth-{identity}",
            f"The reward rises while the {what} grows",
            f"The answers' {what} has grown {ends[1] / ends[0]:.1f}-fold while the reward rose. The reward may "
            "pay for more text rather than for better text.",
            "Read the longest answers of the last steps beside shorter siblings. If the short ones are as good, limit "
            "rollout.max_new_tokens, weight completeness less (reward.weights), or penalise length.",
            figures,
            {"part": "training", "sort": f"-{column}"},
            examples(longest),
            ["reward:total", identity, "length_correlation"],
        )


def _flat_dimensions(table: Table, rows: Column, _: Charts) -> Iterator[Alarm]:
    for name in table.dimensions:
        values = table.of(f"score:{name}", rows)
        valid = rows[np.isfinite(values)]
        if len(valid) < _MIN_ANSWERS:
            continue
        scores = table.of(f"score:{name}", valid)
        if scores.std() >= _SAME:
            continue
        yield Alarm(
            f"flat-{name}",
            f"{name.capitalize()} never varies",
            f"All answers get the same {name}. It adds a constant to the reward, teaches nothing and costs calls.",
            "Read what the judge said. Either it does not understand the question, or the answers do not differ in "
            "this. Change the judge, or set the weight of this dimension to 0 (reward.weights).",
            [f"{len(valid):,} answers, mean {scores.mean():.2f}, standard deviation {scores.std():.3f}"],
            {"sort": f"score:{name}"},
            examples(valid),
            [f"reward:{name}"],
        )


def _no_spread(table: Table, rows: Column, _: Charts) -> Iterator[Alarm]:
    rows = rows[(table.of("part", rows) == TRAINING) & np.isfinite(table.of("total", rows))]
    count = np.unique(table.of("group", rows), return_counts=True)[1]
    several = int((count >= 2).sum())
    alike = rows[table.of("flags", rows) & SPREADLESS > 0]
    same = len(np.unique(table.of("group", alike)))
    if several < _MIN_GROUPS or same < _NO_SPREAD * several:
        return
    yield Alarm(
        "no-spread",
        "In many groups all answers got the same reward",
        "The advantages in such a group are 0. Its answers cost generation and judging, and teach nothing.",
        "If their reward is high, the prompts are too easy: remove them. If it is low, they are too hard, or the judge "
        "cannot tell the answers apart. reward.min_group_spread masks such groups in training.",
        [
            f"{same:,} of {several:,} groups ({same / several:.0%})",
            f"mean reward in them {table.of('total', alike).mean():.2f}",
        ],
        {"part": "training", "flag": FLAGS[-1]},
        examples(alike[np.argsort(table.of("total", alike), kind="stable")]),
        ["no_spread"],
    )


def _suspicious(table: Table, rows: Column, _: Charts) -> Iterator[Alarm]:
    found = table.of("flags", rows)
    for bit, name in enumerate(FLAGS[:-1]):
        mine = rows[(found >> bit) & 1 == 1]
        if not len(mine):
            continue
        share = len(mine) / len(rows)
        title, meaning, action = SIGNS[name]
        totals = table.of("total", mine)
        figures = [f"{len(mine):,} of {len(rows):,} answers ({share:.1%})"]
        if np.isfinite(totals).any():
            everyone = np.nanmean(table.of("total", rows))
            figures.append(f"mean reward {np.nanmean(totals):.2f}; of all answers {everyone:.2f}")
        best_first = mine[np.argsort(-np.nan_to_num(totals, nan=-1), kind="stable")]
        yield Alarm(
            f"suspicious-{name}",
            f"Answers that {title}",
            meaning,
            action,
            figures,
            {"flag": name, "sort": "-total"},
            examples(best_first),
            level="alarm" if share >= _SUSPICIOUS_SHARE else "note",
        )


def _heldout_fell(table: Table, rows: Column, _: Charts) -> Iterator[Alarm]:
    part = table.of("part", rows)
    before, after = (by_prompt(table, rows[part == code]) for code in (BEFORE, AFTER))
    found = changes(before, after).get("total")
    if found is None or found[2] is None or found[2] >= 0:
        return
    mean, low, high, n = found
    last = rows[part == AFTER]
    yield Alarm(
        "heldout-fell",
        "The held-out reward fell",
        "On prompts that it was not trained on, the policy is worse than before, whatever the training curves show.",
        "Compare the answers before and after on the same prompts; an earlier checkpoint may be the better policy.",
        [f"change {mean:+.2f}, 95% interval {low:+.2f} to {high:+.2f}, {n} prompts"],
        {"part": "held-out after", "sort": "total"},
        examples(last[np.argsort(np.nan_to_num(table.of("total", last), nan=99), kind="stable")]),
        ["reward:total", "kl"],
    )


def _ends(curves: Charts, identity: str) -> tuple[float, float] | None:
    """Means of a curve's first and last fifth; None where it is too short."""
    chart = curves.chart(identity)
    values = [value for value in chart.lines[0].y if value is not None] if chart is not None and chart.lines else []
    if len(values) < _MIN_STEPS:
        return None
    size = max(1, int(_ENDS * len(values)))
    return sum(values[:size]) / size, sum(values[-size:]) / size
