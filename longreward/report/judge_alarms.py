"""The alarms of a report that are about the judge: void answers, drift, and a shadow judge that does not agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from longreward.evaluation import divergence, second_scores
from longreward.evaluation.second_scores import SecondScore
from longreward.report.alarm import EXAMPLES, Alarm, examples
from longreward.report.curves import Charts
from longreward.report.reading.sources import Source
from longreward.report.reading.table import Column, Table

_MAX_DRIFT = 1.0  # where config.yaml has no watch.max_drift; its own default
_VOID_WINDOW, _MIN_VOID_WINDOW, _VOID_SHARE = 50, 10, 0.2
"""Answers scored one after the other, and the share of void ones: one in five is more than single failed calls."""
_VOID_PROMPT = 4
"""Answers to a prompt, all void, none scored: then it is the prompt (too long, filtered), not the moment."""


def void_in_time(table: Table, rows: Column, _: Charts) -> Iterator[Alarm]:
    window = min(_VOID_WINDOW, len(rows))
    if window < _MIN_VOID_WINDOW:
        return
    rows = rows[np.argsort(table.of("time", rows), kind="stable")]
    void = np.isnan(table.of("total", rows))
    sums = np.concatenate([[0], np.cumsum(void)])
    in_window = sums[window:] - sums[:-window]
    worst = int(np.argmax(in_window))
    share = in_window[worst] / window
    if share < _VOID_SHARE:
        return
    inside = rows[worst : worst + window][void[worst : worst + window]]
    codes = np.bincount(table.of("status", inside))
    reason = table.statuses[int(np.argmax(codes))]
    figures = [
        f"{in_window[worst]} of {window} answers in a row ({share:.0%}); in the whole run {void.mean():.1%}",
        f"most frequent reason: {reason}",
    ]
    steps = table.of("step", inside)
    chosen = {"status": "void"}
    if steps.any():
        chosen["step"] = f"{steps.min()}-{steps.max()}"
        figures.append(f"steps {steps.min()} to {steps.max()}")
    yield Alarm(
        "void-cluster",
        "Void answers come in a cluster",
        "For some time the judge failed on many answers. Void answers count nowhere, so groups had fewer siblings.",
        "Open one and read why each call failed. timeout or rate_limited: add endpoints, or lower judge.max_in_flight. "
        "parse_error: the judge does not keep to the format of the reply. Run longreward doctor.",
        figures,
        chosen,
        examples(inside),
        ["void", "latency"],
    )


def void_prompts(table: Table, rows: Column, _: Charts) -> Iterator[Alarm]:
    prompt, void = table.of("prompt", rows), np.isnan(table.of("total", rows))
    each, where, count = np.unique(prompt, return_inverse=True, return_counts=True)
    hopeless = (np.bincount(where, void) == count) & (count >= _VOID_PROMPT)
    if not hopeless.any() or void.all():
        return
    mine = rows[hopeless[where]]
    reasons = np.bincount(table.of("status", mine))
    yield Alarm(
        "void-prompts",
        "Prompts that are always void",
        "No answer to these prompts was ever scored, while answers to others were. So the prompts are the cause.",
        "context_length: the document does not fit the judge. filtered: the judge's provider refuses the material. "
        "Remove these prompts, or use a judge that accepts them.",
        [f"{hopeless.sum():,} of {len(each):,} prompts", f"most often {table.statuses[int(np.argmax(reasons))]}"],
        {"status": "void", "sort": "prompt"},
        examples(mine[np.unique(table.of("prompt", mine), return_index=True)[1]]),
    )


def drift(source: Source) -> Iterator[Alarm]:
    limit = source.setting("watch", "max_drift")
    limit = float(limit) if isinstance(limit, int | float) else _MAX_DRIFT
    far = [row for row in source.canary_rounds if abs(row["drift"]) > limit or row.get("alarm") is True]
    if not far:
        return
    worst = max(far, key=lambda row: abs(row["drift"]))
    yield Alarm(
        "drift",
        "The judge has drifted",
        "Canaries are answers of known quality. They get another reward than before. So earlier and later rewards "
        "cannot be compared, and what looks like progress may come from the judge.",
        "Find out what has changed behind reward.judge (model, server, weights). Restore the same judge, or start a "
        "new run.",
        [
            f"drift {worst['drift']:+.2f} at step {worst.get('step')} (watch.max_drift is {limit:g})",
            f"{len(far)} of {len(source.canary_rounds)} rounds over the limit",
        ],
        charts=["canary_total", "canary_drift"],
    )


def diverged(table: Table, rows: Column, source: Source) -> Iterator[Alarm]:
    shadowed = second_scores.groups(one for one in source.second_scores if one.kind == "shadow")
    groups = sorted(shadowed.values(), key=lambda members: members[0].time)
    found = divergence.find(*([_mean_total(members, which) for members in groups] for which in ("first", "second")))
    if found is None:
        return
    by_time = dict(zip(table.of("time", rows).tolist(), rows.tolist(), strict=True))
    members = [one for group in groups[found.onset :] for one in group if one.time in by_time]
    members.sort(key=lambda one: (one.second or one.first)["total"] - one.first["total"])
    figures = [f"reward {found.reward_rise:+.2f} since then, shadow {found.shadow_rise:+.2f}, of the same answers"]
    chosen = {"part": "training"}
    if steps := [int(table.of("step")[by_time[one.time]]) for one in groups[found.onset] if one.time in by_time]:
        figures.insert(0, f"since step {min(steps)}")
        chosen["step"] = f"{min(steps)}-{table.of('step', rows).max()}"
    yield Alarm(
        "divergence",
        "The reward has parted from the shadow judge",
        "The reward rises, and another judge does not find the same answers better. The policy may be learning what "
        "this judge likes instead of the task.",
        "Read the answers on which the two differ most, listed here. If the shadow is right, mend the judge or the "
        "reward (reward.gates, reward.copying, a length limit), and begin again at a checkpoint before the onset.",
        figures,
        chosen,
        [by_time[one.time] for one in members[:EXAMPLES]],
        ["shadow", "reward:total", "length"],
    )


def _mean_total(members: list[SecondScore], which: str) -> float:
    return float(np.mean([getattr(one, which)["total"] for one in members]))
