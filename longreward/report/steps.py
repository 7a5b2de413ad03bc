"""Which training step an answer belongs to, what it was scored for, and which answers are its siblings.

The store does not say any of this. An answer's part follows from the order in time: held-out answers before the first
training answer are `held-out before`, those after the last one are `held-out after`. If two policies were evaluated,
the answers of the first are `held-out before`, those of the other `held-out after`.

There are two ways to find the step:

- A synchronous run with TensorBoard files: an answer belongs to the first step whose figures were written after the
  answer was scored. All answers of a step exist before the step trains, and the next ones are generated after that. So
  this is right for void answers, resumed runs and incomplete batches too.
- Other runs (without such files, or asynchronous, where steps overlap): by counting. The answers to a prompt, in the
  order of their time, make groups of `rollout.n_samples_per_prompt`. The groups, in the order in which they were
  complete, make steps of `rollout.batch_size` groups.

Answers that were scored for a step that has not ended yet have the next step's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from longreward.report.reading.sources import Source
from longreward.report.reading.table import AFTER, BEFORE, DURING, HELDOUT, SCORED, TRAINING, Column, Table


def place_all(table: Table, sources: Sequence[Source], ends: Sequence[Sequence[tuple[float, int]]]) -> None:
    """Add the columns `part` (of table.PARTS), `step` (0: none) and `group` (siblings share it). `ends` has for each
    source the times at which a step's figures were written, and its number."""
    size = len(table.of("run"))
    part, step = np.full(size, SCORED, "u1"), np.zeros(size, "i4")
    for run, source in enumerate(sources):
        rows = np.flatnonzero(table.of("run") == run)
        if source.is_run:
            part[rows] = _parts(table, rows, source)
            training = rows[part[rows] == TRAINING]
            step[training] = _steps(table, training, source, ends[run])
    table.columns |= {"part": part, "step": step}
    identity = np.stack([table.of(name).astype(np.int64) for name in ("run", "prompt", "part", "step")])
    table.columns["group"] = np.unique(identity, axis=1, return_inverse=True)[1].astype("u4").reshape(-1)


def _parts(table: Table, rows: Column, source: Source) -> Column:
    time, heldout = table.of("time", rows), table.of("is_heldout", rows) == 1
    found = np.where(heldout, HELDOUT, TRAINING)
    training = time[~heldout]
    if len(training):
        found[heldout & (time < training.min())] = BEFORE
        found[heldout & (time >= training.min())] = DURING
        found[heldout & (time > training.max())] = AFTER
    elif len(source.policies) > 1:
        found = np.where(time < source.policies[1][1], BEFORE, AFTER)
    return found


def _steps(table: Table, rows: Column, source: Source, ends: Sequence[tuple[float, int]]) -> Column:
    """Zeros for a run that has no steps, as DPO while it collects answers."""
    flags = source.setting("openrlhf")
    flags = flags if isinstance(flags, dict) else {}
    if source.setting("collect") is not None:
        return np.zeros(len(rows), "i4")
    ended = table.of("time", rows) + table.of("seconds", rows)
    if ends and flags.get("train.async_enable") is not True:
        times, steps = np.array([at for at, _ in ends]), np.array([number for _, number in ends])
        at = np.searchsorted(times, ended)
        return np.where(at < len(steps), steps[np.minimum(at, len(steps) - 1)], steps[-1] + 1)
    per_group, per_step = _positive(flags, "rollout.n_samples_per_prompt"), _positive(flags, "rollout.batch_size")
    if per_group is None or per_step is None:
        return np.zeros(len(rows), "i4")
    return _counted(table.of("prompt", rows), ended, per_group, per_step)


def _counted(prompt: Column, ended: Column, per_group: int, per_step: int) -> Column:
    order = np.lexsort((ended, prompt))
    prompts = prompt[order]
    first = np.concatenate([[True], prompts[1:] != prompts[:-1]])
    place = np.arange(len(order)) - np.flatnonzero(first)[np.cumsum(first) - 1]
    begins = first | (place % per_group == 0)
    group = np.cumsum(begins) - 1
    complete = np.zeros(group[-1] + 1 if len(group) else 0)
    np.maximum.at(complete, group, ended[order])
    rank = np.empty(len(complete), int)
    rank[np.argsort(complete, kind="stable")] = np.arange(len(complete))
    found = np.empty(len(order), "i4")
    found[order] = rank[group] // per_step + 1
    return found


def _positive(flags: dict[str, Any], name: str) -> int | None:
    value = flags.get(name)
    return value if isinstance(value, int) and value > 0 else None
