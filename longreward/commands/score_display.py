"""What a person sees of scoring: progress, the judge's warnings, the summary, what it took."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from longreward.commands.accounts import Account, table
from longreward.config import JudgeConfig, RewardConfig
from longreward.errors import JudgeError, Reason
from longreward.preflight.estimate import Estimate
from longreward.schema import ScoredAnswer, Usage
from longreward.text.amounts import caps, duration, money, rounded

_PLAIN_PROGRESS_S = 10  # seconds between progress lines where there is no terminal


@contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[Account], None]]:
    """Show progress: a bar on a terminal, otherwise a line every ten seconds. Yields a function to be called after each
    answer, with the account of all that are scored so far."""
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    bar = Progress(*columns, *times, console=console, disable=not console.is_terminal)
    task, last = bar.add_task("scoring", total=total, note=""), time.monotonic()

    def show(account: Account) -> None:
        nonlocal last
        scored, cost = account.rows - account.void, account.usage.cost
        notes = [f"reward {account.sum / scored:.2f}"] if scored else []
        notes += [f"cost {money(cost)}"] if cost else []
        bar.update(task, advance=1, note=" ".join([*notes, f"[red]{account.void} void" if account.void else ""]))
        if not console.is_terminal and time.monotonic() - last >= _PLAIN_PROGRESS_S:
            last = time.monotonic()
            console.print(", ".join([f"scored {account.rows} of {total}", f"{account.void} void", *notes]))

    with bar:
        yield show


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
        why = Counter(row.void_reasons[name] for row in rows if name in row.void_reasons)
        reasons = ", ".join(f"{reason} {count}" for reason, count in why.most_common())
        usage = account.usage if name == "total" else account.dimensions[name]
        cells = [f"{sum(values) / len(values):.2f}" if values else "-", str(len(rows) - len(values))]
        cells += [f"{usage.calls:,}", rounded(usage.tokens), money(usage.cost)][: len(headings) - 2]
        summary.add_row(name, *cells, reasons, style="bold" if name == "total" else None)
    console.print(summary)
    if account.free:
        console.print(account.free, highlight=False, soft_wrap=True)
    if thinking := [row.thought_chars for row in rows if row.thought_chars]:
        left_out = (
            f"thoughts left out of {len(thinking):,} answers, {sum(thinking) / len(thinking):,.0f} characters each"
        )
        console.print(f"{left_out}; strip_thoughts=false judges them too", highlight=False, soft_wrap=True)
    console.print(f"scores: {out}", highlight=False, soft_wrap=True)


def warning_of_cap(expected: Usage, config: RewardConfig) -> str:
    """A warning if less is left of `judge.spend` than is expected to be used; empty otherwise."""
    for name, cap, amount, words in caps(config.judge, expected):
        if amount > cap:
            keep = "" if config.cache.path else " (give cache.path=..., or answers cut short are paid twice)"
            return f"; judge.spend.{name} has {words(cap)} left, so the run will end before that{keep}"
    return ""


def compared(account: Account, expected: Estimate, judge: JudgeConfig) -> str:
    """What scoring took, each amount with how far it is from what was expected."""
    usage, cached = account.usage, account.sources["cache"]
    parts = [f"{usage.calls:,} calls ({_off_by(usage.calls, expected.calls)})"]
    if usage.calls and not usage.tokens:
        parts = [f"{parts[0]}; the endpoint reports no tokens"]
    else:
        parts += [f"{rounded(usage.tokens)} tokens ({_off_by(usage.tokens, expected.tokens)})"]
        parts += [f"cost {money(usage.cost)} ({_off_by(usage.cost, expected.cost)})"] if judge.knows_prices else []
    why = f"; {cached:,} verdicts were in the cache" if cached else ""
    return f"against the estimate: {', '.join(parts)}{why}"


def _off_by(actual: float, expected: float) -> str:
    return f"{100 * (actual / expected - 1):+.0f}%" if expected else "nothing expected"
