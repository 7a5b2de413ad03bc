"""What labelled pairs and labelled claims have in common on the screen and in files."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from longreward.commands.score import Run
from longreward.errors import InputError
from longreward.evaluation.people.agreement import CONFIDENCE
from longreward.fingerprint import fingerprint
from longreward.schema import Usage

LOST = (
    "without --out nothing is kept: a run that ends early is paid again from the start; give --out SCORED.jsonl, or "
    "cache.path=..., to continue where it stopped"
)


def check_writable(file: Path, others: Sequence[Path | None]) -> None:
    """InputError where a file of JSON cannot be written, before anything is paid for."""
    if any(other is not None and file.resolve() == other.resolve() for other in others):
        raise InputError(f"--json {file} would overwrite that file of labels or scores; choose another --json")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = not file.exists()
        file.open("ab").close()
        if new:
            file.unlink()
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; choose another --json") from None


def about_judge(scoring: Run, headline: str, beside: Usage, complete: bool) -> dict[str, Any]:
    """The beginning of the JSON: who judged, and what it took. `beside`: used for other questions than the scores."""
    judge = scoring.config.judge
    return {
        "judge": {"kind": judge.kind, "model": judge.model},
        "config": fingerprint(scoring.config),
        "confidence": CONFIDENCE,
        "headline": headline,
        "usage": (scoring.earlier + scoring.account.usage + beside).model_dump(),
        "complete": complete and not scoring.stopped,
    }


def print_files(console: Console, options: argparse.Namespace) -> None:
    for file, what in ((options.out, "scores"), (options.json, "agreement as JSON")):
        if file is not None:
            console.print(f"{what}: {file}", highlight=False, markup=False, soft_wrap=True)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def span(interval: tuple[float, float] | None) -> str:
    """An interval of shares in percent."""
    return "-" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}%"


def reasons(void: Counter[str]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in void.most_common())
