"""The table of a reproduction: each row's figures beside the paper's, as Markdown and for the report."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from longreward import store
from longreward.evaluation.intervals import MeanEstimate, paired_change
from longreward.files import jsonlines
from longreward.report.reading.sources import REPRODUCTION
from longreward.text.markdown import table
from rl.paper.config import ReproductionConfig
from rl.paper.figures import COLUMNS, PUBLISHED
from rl.paper.steps import evaluation_of


class _Call(msgspec.Struct):
    source: str = "judge"


class _Statement(msgspec.Struct):
    call: _Call | None = None


class _Dimension(msgspec.Struct):
    calls: list[_Call] = []
    statements: list[_Statement] = []


class _Answer(store.Fields, kw_only=True):
    id: str
    split: str
    rollout: str
    query: str = ""
    total: float | None = None
    time: float = 0.0
    dimensions: dict[str, _Dimension] = msgspec.field(default_factory=dict)


@dataclass
class Row:
    """What is known of a row's policy. Empty where its evaluation has not ended."""

    name: str
    columns: dict[str, Any] = field(default_factory=dict)
    """Of COLUMNS: mean, interval and n, as summary.json has them."""
    heldout: dict[tuple[str, str], float] = field(default_factory=dict)
    """The mean LongReward of the held-out answers to each prompt, 0..10."""
    short: dict[str, Any] = field(default_factory=dict)
    """The share of short instructions on which it wins against the row compared with, ties as half: mean, interval,
    n."""
    answers: int = 0
    """Answers that were judged for its training."""
    calls: int = 0
    """Questions that the judge was asked about them."""


def rows(config: ReproductionConfig) -> list[Row]:
    """All rows whose evaluation has ended."""
    found = []
    for name in config.rows:
        directory = evaluation_of(config, name)
        summary = jsonlines.read_json(directory / "summary.json")
        if summary is None:
            continue
        row = Row(name)
        for part in ("paper", "facts"):
            for figures in list((summary.get(part) or {}).values())[-1:]:  # the policy compared with comes first
                row.columns |= {column: figure for column, figure in figures.items() if column in COLUMNS}
        row.short = (summary.get("short") or {}).get("score_of_b") or {}
        prompts: dict[tuple[str, str], list[float]] = {}
        answers = store.counting(_records(directory, "heldout"), lambda one: (one.rollout, one.query))
        for answer in answers.values():
            if answer.total is not None:
                prompts.setdefault((answer.id, answer.query), []).append(answer.total)
        row.heldout = {prompt: statistics.fmean(totals) for prompt, totals in prompts.items()}
        row.answers, row.calls = asked(config.directory / name)
        found.append(row)
    return found


def asked(run: Path) -> tuple[int, int]:
    """How many answers were judged for a run's training, and how many questions the judge was asked about them, those
    about answers that ended void and were judged again included."""
    names, calls = set[tuple[str, str]](), 0
    for answer in _records(run, "train"):
        names.add((answer.rollout, answer.query))
        for dimension in answer.dimensions.values():
            every = [*dimension.calls, *(one.call for one in dimension.statements if one.call)]
            calls += sum(call.source == "judge" for call in every)
    return len(names), calls


def write(config: ReproductionConfig) -> str:
    """Write reproduction.md and reproduction.json. Returns the Markdown."""
    there = rows(config)
    against = config.against
    heads = ["row", *COLUMNS.values(), "held-out reward", f"less {against}", f"short, wins against {against}"]
    heads += ["answers judged", "judge calls"]
    first = next((row for row in there if row.name == config.against), None)
    cells = [_cells(config, row, first) for row in there]
    shown = [0, *(i for i in range(1, len(heads)) if any(row[i] != "-" for row in cells))]
    heads, cells = [heads[i] for i in shown], [[row[i] for i in shown] for row in cells]
    notes = list(_notes(config, there))
    markdown = f"# {config.name}\n\n{table(heads, cells)}\n\n" + "\n".join(notes) + "\n"
    jsonlines.write_text(config.directory / "reproduction.md", markdown)
    runs = [path.name for path in _runs(config)]
    page = {"title": config.name, "heads": heads, "rows": cells, "notes": notes, "runs": runs}
    jsonlines.write_json(config.directory / REPRODUCTION, page)
    return markdown


def _cells(config: ReproductionConfig, row: Row, first: Row | None) -> list[str]:
    published = PUBLISHED.get(config.published or "", {}).get(row.name, {})
    cells = [row.name]
    for column in COLUMNS:
        figure, paper = row.columns.get(column) or {}, published.get(column)
        cell = _estimate(figure).text(1)
        cells.append(f"{cell} [{paper:.1f}]" if paper is not None else cell)
    cells.append(f"{statistics.fmean(row.heldout.values()):.2f}" if row.heldout else "-")
    change = paired_change(first.heldout, row.heldout) if first and first is not row else None
    mean, low, high, n = change or (None, None, None, 0)
    ends = None if low is None or high is None else (low, high)
    cells.append(MeanEstimate(mean, ends, n).text(2, signed=True))
    cells.append(_estimate(row.short, 100).text(1))
    return cells + [f"{count:,}" if count else "-" for count in (row.answers, row.calls)]


def _estimate(figure: dict[str, Any], times: int = 1) -> MeanEstimate:
    """A mean of summary.json; without one where the dict is empty."""
    mean, ends, n = (figure.get(name) for name in ("mean", "interval", "n"))
    scaled = None if ends is None else (times * ends[0], times * ends[1])
    return MeanEstimate(None if mean is None else times * mean, scaled, n or 0)


def _notes(config: ReproductionConfig, there: Sequence[Row]) -> Iterator[str]:
    yield "In round brackets: 95% intervals."
    if config.published is not None:
        yield f"In square brackets: the paper's figure for {config.published} (arXiv 2410.21252), graded by GPT-4o."
    yield (
        "Held-out reward: LongReward, 0 to 10, mean over prompts. A row that pairs another row's answers has none "
        "judged of its own. Short: percent of short instructions, ties as half, by the judge in both orders."
    )
    yield "Facts are sentence-level statements here, and atomic facts in the paper."
    for column, title in COLUMNS.items():
        lacks = [name for row in there for name in (row.columns.get(column) or {}).get("missing", ())]
        if lacks:
            yield f"{title} without {', '.join(dict.fromkeys(lacks))}."
    if missing := [name for name in config.rows if name not in {row.name for row in there}]:
        yield f"Not there yet: {', '.join(missing)}."


def _records(run: Path, split: str) -> Iterator[_Answer]:
    for path in store.files(run / "store"):
        yield from (answer for _, _, answer in store.read(path, [], _Answer) if answer.split == split)


def _runs(config: ReproductionConfig) -> Iterator[Path]:
    """The directories that the report shows: evaluations first, which are compared."""
    for name in config.rows:
        if (evaluation_of(config, name) / "summary.json").is_file():
            yield evaluation_of(config, name)
    for name in config.rows:
        if store.files(config.directory / name / "store"):
            yield config.directory / name
