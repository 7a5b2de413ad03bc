"""Builds report.html: reads the sources, works out what their figures mean, writes the page."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import Any

import numpy as np

from longreward.files import jsonlines
from longreward.report import alarms, answer_curves, curves, heldout, html, pack, steps, trainer_curves
from longreward.report.alarm import Alarm
from longreward.report.reading.gather import Gathered, OpenFiles, gather
from longreward.report.reading.sources import Reproduction, Source
from longreward.report.reading.table import HELDOUT, KINDS, PARTS, SCORED, TRAINING, Table
from longreward.report.suspicious import FLAGS, spreadless
from longreward.schema import Sample

_SHOWN = {name: kind for name, kind in KINDS.items() if name not in ("is_heldout", "said", "file", "offset")}
_SHOWN |= {"part": "u1", "step": "i4", "group": "u4", "flags": "u1"}
"""Columns that the page filters and sorts by."""


@dataclass(frozen=True)
class Built:
    """What a report contains, to be told to the user."""

    gathered: Gathered
    alarms: list[Alarm]
    """Of all runs, without the notes."""
    limits: pack.ReplyLimits


def build(
    sources: Sequence[Source],
    out: Path,
    samples: Iterable[tuple[str, Sample]] = (),
    *,
    whole: bool = False,
    reproduction: Reproduction | None = None,
) -> Built:
    """Write the report of the sources to `out`, or leave what is there. `samples` are the rows, each with its key, that
    scored files are about. `whole`: with all that the judge said, however large the page gets. The page begins with the
    table of `reproduction`. OSError where the page cannot be written."""
    with OpenFiles() as files:
        return _write(gather(sources, samples, out.parent, files), out, whole, reproduction)


def _write(gathered: Gathered, out: Path, whole: bool, reproduction: Reproduction | None) -> Built:
    table, sources = gathered.table, gathered.sources
    events = [trainer_curves.from_events(source) for source in sources]
    steps.place_all(table, sources, [found.ends for found in events])
    # Siblings are neighbours; void answers come after all others.
    best_first = -np.nan_to_num(table.of("total"), nan=-np.inf)
    table.select(np.lexsort([best_first, *(table.of(name) for name in ("step", "part", "run", "prompt"))]))
    with tempfile.TemporaryFile(dir=out.parent) as shelves:
        limits = pack.WHOLE if whole else pack.limits_for(gathered)
        counts, flags = pack.write_shelves(pack.Packer(gathered, limits), shelves)
        alike = spreadless(table.of("group"), table.of("total"))
        table.columns["flags"] = flags | np.where(table.of("part") == TRAINING, alike, 0).astype("u1")
        runs = [_run(gathered, number, events[number]) for number in range(len(sources))]
        shown = _SHOWN | {f"score:{name}": "f4" for name in table.dimensions}
        raw, places = pack.columns(table.columns, shown)
        scores = [heldout.last_scores(table, number) for number in range(len(sources))]
        overview = {
            "built": time.time(),
            "runs": runs,
            "rows": len(table),
            "prompts": len(gathered.questions),
            "columns": places,
            "dimensions": curves.in_order(table.dimensions),
            "statuses": table.statuses,
            "parts": PARTS,
            "flags": FLAGS,
            "shelves": counts,
            "limits": limits,
            "reproduction": reproduction,
            "differences": [heldout.changes(scores[0], other) for other in scores[1:]],
        }
        asked = gathered.questions
        prompts = {"ids": [question.id for question in asked], "queries": [question.query for question in asked]}
        with jsonlines.replacing(out) as file:
            html.write_head(file, html.REPORT)
            file.write(pack.element("overview", pack.block(overview)))
            file.write(pack.element("columns", pack.block(raw)))
            file.write(pack.element("prompts", pack.block(prompts)))
            shelves.seek(0)
            copyfileobj(shelves, file, 2**20)
            file.write(html.END)
    return Built(gathered, [alarm for run in runs for alarm in run["alarms"] if alarm.level == "alarm"], limits)


def _run(gathered: Gathered, number: int, events: curves.Charts) -> dict[str, Any]:
    table, source = gathered.table, gathered.sources[number]
    drawn = curves.merged(events, answer_curves.from_answers(table, number, spends=_has_price(source, table, number)))
    if source.canary_rounds and drawn.chart("canary_drift") is None:
        drifts = [(float(row.get("step") or 0), float(row["drift"])) for row in source.canary_rounds]
        line = curves.Curve("drift", [step for step, _ in drifts], [drift for _, drift in drifts])
        drawn.charts.append(curves.known_chart("canary_drift", line))
    return {
        "name": source.name,
        "path": str(source.path),
        "is_run": source.is_run,
        "kind": _kind(source),
        "state": source.state(time.time()),
        "config": source.config_text,
        "command": source.command,
        "summary": source.summary,
        "counts": _counts(table, number),
        "broken": {"lines": source.broken_lines, "first": source.broken},
        "curves": {"note": drawn.note, "charts": drawn.charts},
        "heldout": heldout.summary(table, number, source),
        "alarms": alarms.alarms(table, number, source, drawn),
    }


def _counts(table: Table, run: int) -> dict[str, Any]:
    rows = np.flatnonzero(table.of("run") == run)
    part, total = table.of("part", rows), table.of("total", rows)
    time, seconds = table.of("time", rows), table.of("seconds", rows)
    known = time > 0
    reasons = np.bincount(table.of("status", rows), minlength=len(table.statuses))
    return {
        "answers": len(rows),
        "training": int(((part == TRAINING) | (part == SCORED)).sum()),
        "heldout": int(((part > TRAINING) & (part <= HELDOUT)).sum()),
        "void": int(np.isnan(total).sum()),
        "reasons": {name: int(n) for name, n in zip(table.statuses[1:], reasons[1:], strict=True) if n},
        "prompts": len(np.unique(table.of("prompt", rows))),
        "mean": float(np.nanmean(total)) if np.isfinite(total).any() else None,
        "steps": int(table.of("step", rows).max(initial=0)),
        "calls": int(table.of("calls", rows).sum()),
        "free": int(table.of("free", rows).sum()),
        "shrunk": int(table.of("shrunk", rows).sum()),
        "tokens": int(table.of("judge_tokens", rows).sum()),
        "cost": float(table.of("cost", rows).sum()),
        "from": float(time[known].min()) if known.any() else None,
        "to": float((time + seconds)[known].max()) if known.any() else None,
    }


def _kind(source: Source) -> str:
    """The kind of run: `grpo`, `dpo` and so on."""
    if not source.is_run:
        return "scored file"
    told = (source.summary or {}).get("kind")
    if isinstance(told, str):
        return told
    if source.setting("collect") is not None:
        return "dpo"
    estimator = str(source.setting("openrlhf", "algo.advantage.estimator") or "training")
    return {"gae": "ppo", "group_norm": "grpo"}.get(estimator, estimator)  # as rl/run/online_training.py names them


def _has_price(source: Source, table: Table, run: int) -> bool:
    price = source.setting("reward", "judge", "price")
    told = price.values() if isinstance(price, dict) else ()
    return any(isinstance(value, int | float) and value > 0 for value in told) or bool(
        table.of("cost")[table.of("run") == run].sum() > 0
    )
