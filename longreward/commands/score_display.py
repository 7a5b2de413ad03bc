"""What a person sees of scoring: progress, the judge's warnings, the summary, what it took."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from longreward.commands.accounts import Account, table
from longreward.config import JudgeConfig, PriceConfig, RewardConfig
from longreward.errors import JudgeError, Reason
from longreward.preflight.estimate import Estimate
from longreward.schema import ScoredAnswer, Usage
from longreward.text.amounts import caps, duration, in_words, money, rounded

_PLAIN_PROGRESS_S = 10  # seconds between progress lines where there is no terminal


@dataclass
class Run:
    """Scored answers, and what it took."""

    rows: dict[str, ScoredAnswer]
    """By key, in the order of the input; without the answers that were not reached because of a spend cap."""
    others: dict[str, ScoredAnswer]
    """Rows of the output file about answers that are not in the input."""
    account: Account
    """What this run alone used."""
    earlier: Usage
    """What the runs before it used."""
    seconds: float
    stopped: bool
    """The spend cap ended the run."""
    expected: Estimate | None
    judge: JudgeConfig
    answers: int
    """The number of answers in the input."""
    kept: bool
    """The scores are in a file, so the next run goes on where this one stopped."""

    @property
    def whole(self) -> int:
        """Answers that have a total."""
        return sum(row.total is not None for row in self.rows.values())


class ProgressLine:
    """Progress: a bar on a terminal, otherwise a line every ten seconds."""

    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._last = console, total, time.monotonic()
        self._done, self._void, self._sum = 0, 0, 0.0
        columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self._bar = Progress(*columns, *times, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("scoring", total=total, note="")

    def __enter__(self) -> ProgressLine:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, total: float | None, account: Account) -> None:
        """Count one more answer, whose reward is `total` (0..10; None: void)."""
        self._done += 1
        self._void += total is None
        self._sum += total or 0.0
        scored, used = self._done - self._void, account.usage
        notes = [f"reward {self._sum / scored:.2f}"] if scored else []
        notes += [f"cost {money(used.cost)}"] if used.cost else []
        void = f"[red]{self._void} void" if self._void else ""
        self._bar.update(self._task, advance=1, note=" ".join([*notes, void]))
        if not self._console.is_terminal and time.monotonic() - self._last >= _PLAIN_PROGRESS_S:
            self._last = time.monotonic()
            self._console.print(", ".join([f"scored {self._done} of {self._total}", f"{self._void} void", *notes]))


@contextmanager
def judge_log(console: Console) -> Iterator[None]:
    """Show the judge's warnings above the progress bar, except about the spend cap: the end of the run tells that."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            arguments = record.args if isinstance(record.args, tuple) else ()
            if not any(isinstance(a, JudgeError) and a.reason is Reason.SPEND_CAP for a in arguments):
                console.print(record.getMessage(), style="yellow", markup=False, highlight=False)

    logger, handler = logging.getLogger("longreward"), Handler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def print_summary(rows: list[ScoredAnswer], account: Account, priced: bool, seconds: float, out: Path) -> None:
    console = Console()
    title = f"{len(rows):,} answers in {duration(seconds)}, {account.usage.calls:,} judge calls"
    asked = bool(account.usage.calls or account.free)
    headings = ["mean (0-10)", "void", *(["calls", "tokens"] if asked else []), *(["cost"] if asked and priced else [])]
    summary = table(title, "dimension", headings)
    summary.add_column("why")
    for name in [*rows[0].dimensions, "total"]:
        values = [score for row in rows if (score := row.score_of(name)) is not None]
        why = Counter(reason for row in rows for part, reason in row.void_reasons.items() if part == name)
        reasons = ", ".join(f"{reason} {count}" for reason, count in why.most_common())
        usage = account.usage if name == "total" else account.dimensions[name]
        cells = [f"{sum(values) / len(values):.2f}" if values else "-", str(len(rows) - len(values))]
        cells += [f"{usage.calls:,}", rounded(usage.tokens), money(usage.cost)][: len(headings) - 2]
        summary.add_row(name, *cells, reasons, style="bold" if name == "total" else None)
    console.print(summary)
    if account.free:
        console.print(account.free, highlight=False, soft_wrap=True)
    console.print(f"scores: {out}", highlight=False, soft_wrap=True)


def warning_of_cap(expected: Estimate, config: RewardConfig) -> str:
    """A warning if less is left of `judge.spend` than scoring is expected to take; empty otherwise."""
    for name, cap, amount, words in caps(config.judge, expected):
        if amount > cap:
            keep = "" if config.cache.path else " (give cache.path=..., or answers cut short are paid twice)"
            return f"; judge.spend.{name} has {words(cap)} left, so the run will end before that{keep}"
    return ""


def print_run(console: Console, run: Run) -> None:
    """Print what all runs together took, and how far this one was from its estimate or from the end."""
    price = run.judge.price
    if run.earlier.calls:
        total = in_words(run.earlier + run.account.usage, price)
        console.print(f"earlier runs: {in_words(run.earlier, price)}; all runs: {total}")
    if run.stopped:
        sentence = f"{_stopped(run)}; {run.whole:,} of {run.answers:,} answers are scored"
        console.print(sentence, style="bold red")
    elif run.expected is not None:
        cached = run.account.sources["cache"]
        why = f"; {cached:,} verdicts were in the cache" if cached else ""
        console.print(f"against the estimate: {_compared(run.account.usage, run.expected, price)}{why}")


def _stopped(run: Run) -> str:
    used = caps(run.judge, run.earlier + run.account.usage)
    name, cap, amount, words = max(used, key=lambda c: c[2] / c[1])
    before = run.earlier.cost if name == "max_cost" else run.earlier.tokens
    of_it = f", {words(before)} of it by earlier runs" if before else ""
    again = "the same command again to continue" if run.kept else "again, with --out to keep what is scored"
    return (
        f"stopped at the spend cap: {words(amount)} of judge.spend.{name}={cap:.12g} are used{of_it}, and the next "
        f"call could go past it; raise judge.spend.{name} and run {again}"
    )


def _compared(usage: Usage, expected: Usage, price: PriceConfig) -> str:
    """As `in_words`, each figure with its difference from what was expected."""
    parts = [f"{usage.calls:,} calls ({_off_by(usage.calls, expected.calls)})"]
    if usage.calls and not usage.tokens:
        return f"{parts[0]}; the endpoint reports no tokens"
    parts += [f"{rounded(usage.tokens)} tokens ({_off_by(usage.tokens, expected.tokens)})"]
    parts += [f"cost {money(usage.cost)} ({_off_by(usage.cost, expected.cost)})"] if price.known else []
    return ", ".join(parts)


def _off_by(actual: float, expected: float) -> str:
    return f"{100 * (actual / expected - 1):+.0f}%" if expected else "nothing expected"
