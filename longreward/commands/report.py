"""`longreward report`: runs or scored files in, one page that opens from disk out."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.console import Console

from longreward.commands.options import add_contexts, scored_rows
from longreward.errors import ConfigError, InputError
from longreward.report.build import Built, build
from longreward.report.reading import sources
from longreward.text.amounts import duration, file_size

_NAME = "report.html"


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Write one self-contained page, which opens from disk: curves, every answer with the verdicts and evidence "
        "behind its reward, alarms; several runs stand side by side. A run need not have ended."
    )
    command.add_argument(
        "paths", type=Path, nargs="+", metavar="RUN", help="run directories, files of scores, or a reproduction"
    )
    where = "the page (default report.html in the first RUN, or beside it)"
    command.add_argument("--out", type=Path, metavar="FILE", help=where)
    kept = "keep everything the judge said; otherwise its replies are shortened if the page would exceed 100 MB"
    command.add_argument("--whole", action="store_true", help=kept)
    rows = "the rows that were scored: a file of scores does not hold their documents"
    command.add_argument("--input", type=Path, metavar="IN.jsonl", help=rows)
    add_contexts(command)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Write the report of runs and scored files to --out, by default into the first run directory or beside the first
    file. Returns 0. InputError where a path is neither, --out cannot be written, or there is nothing to show."""
    if overrides:
        raise ConfigError(f"report takes no settings, found {' '.join(overrides)}; leave them out")
    paths: list[Path] = options.paths
    table = sources.reproduction(paths[0])
    if table is not None:
        runs = [paths[0] / name for name in table.runs]
        if gone := [run for run in runs if not run.is_dir()]:
            raise InputError(
                f"{paths[0] / sources.REPRODUCTION} names {gone[0]}, which is gone; run rl/reproduce.py again"
            )
        paths = runs + paths[1:]
    if not paths:
        raise InputError(f"{options.paths[0]} has no row yet; wait for rl/reproduce.py to evaluate one")
    opened = sources.named_apart([sources.opened(path) for path in paths])
    first, out = opened[0], options.out
    if out is None and table is not None:
        out = options.paths[0] / _NAME
    elif out is None:
        out = first.path / _NAME if first.is_run else first.path.with_name(f"{first.path.stem}.{_NAME}")
    if any(out.resolve() == source.path.resolve() for source in opened) or out.is_dir():
        raise InputError(f"--out {out} is a directory or one of the files to read; choose another --out")
    scored = scored_rows(options)
    console, started = Console(soft_wrap=True), time.monotonic()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        samples = () if scored is None else scored.by_any_key()
        built = build(opened, out, samples, whole=options.whole, reproduction=table)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}; choose another --out") from None
    if not len(built.gathered.table) and not any(source.is_run for source in opened):
        out.unlink()
        first_problem = f"; first problem: {first.broken[0]}" if first.broken else ""
        raise InputError(
            f"{first.path} holds no scored answer; give a file that `longreward score --out` wrote{first_problem}"
        )
    for line in _told(built, out, time.monotonic() - started):
        console.print(line, highlight=False, markup=False)
    console.print(f"report: {out}", highlight=False, markup=False)
    return 0


def _told(built: Built, out: Path, seconds: float) -> list[str]:
    gathered, alarms = built.gathered, len(built.alarms)
    lines = [
        f"{len(gathered.table):,} answers to {len(gathered.questions):,} prompts in {duration(seconds)}, "
        f"{file_size(out.stat().st_size)}; {alarms or 'no'} alarm{'s' * (alarms != 1)}"
    ]
    if broken := sum(source.broken_lines for source in gathered.sources):
        lines.append(f"skipped: {broken:,} lines that hold no scored answer (half-written, or not JSON)")
    if gathered.repeated:
        lines.append(f"scored again: {gathered.repeated:,} records, of which the last one with a score counts")
    supported, other = built.limits
    if supported is not None:
        words = f"{supported} characters about supported statements"
        words += "" if other is None else f" and {other} elsewhere"
        lines.append(f"judge replies are shortened to {words}, to keep the page small; --whole keeps them")
    return lines
