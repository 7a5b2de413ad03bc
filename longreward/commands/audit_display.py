"""What a person sees of an audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from longreward.commands.accounts import table
from longreward.config import RewardConfig
from longreward.evaluation.audit import Audit, fall_difference
from longreward.evaluation.faults import FEWEST, of_dimensions, of_orders
from longreward.evaluation.flaws import AGAIN, FLAWS, HARMLESS
from longreward.evaluation.intervals import Interval
from longreward.evaluation.orders import Orders
from longreward.evaluation.people.agreement import CONFIDENCE, Proportion
from longreward.schema import ScoredAnswer, Usage
from longreward.text.amounts import in_words


@dataclass(frozen=True)
class Audited:
    """What came of auditing a judge."""

    judge: str
    """What people call it."""
    config: RewardConfig
    audit: Audit
    orders: Orders
    left_out: Counter[str]
    """Answers without a place for a flaw, by its name."""
    rows: Sequence[ScoredAnswer]
    usage: Usage
    """Of all runs into the same files, the comparisons' included."""
    out: Path
    whole: bool
    """Something could be scored, and no spend cap ended it."""


def print_audit(console: Console, done: Audited) -> None:
    """The tables, and the verdict in words."""
    spent = f"; {in_words(done.usage, done.config.judge)} in all" if done.usage.calls else ""
    title = f"{done.judge}: {len(done.rows):,} versions scored, {2 * done.orders.n:,} comparisons"
    console.print(f"\n{title}{spent}", style="bold", highlight=False, markup=False)
    _print_flaws(console, done, "what must lower a score", "lowers", "falls")
    _print_flaws(console, done, "what must not raise a score", "never_raises", "rises")
    _print_harmless(console, done.audit)
    _print_changes(console, done.audit)
    if why := Counter(f"{name} {reason}" for row in done.rows for name, reason in row.void_reasons.items()):
        voids = ", ".join(f"{reason} {count:,}" for reason, count in why.most_common())
        console.print(f"void, in no figure: {voids}", highlight=False, markup=False)
    if done.orders.void:
        console.print(f"comparisons without a verdict, in no figure: {done.orders.void:,}", highlight=False)
    console.print(f"\nwhat {done.judge} is worth here", style="bold", highlight=False, markup=False)
    findings = [*of_dimensions(done.audit), of_orders(done.orders)]
    for finding in findings:
        console.print(f"{finding.about}: {finding.sentence}", highlight=False, markup=False)
    faults = [f"{finding.about} ({finding.fault})" for finding in findings if finding.fault]
    console.print(f"at fault: {'; '.join(faults) or 'nothing'}", style="bold", highlight=False, markup=False)
    if unsure := [finding.about for finding in findings if not finding.is_sure]:
        few = f"fewer than {FEWEST} cases, too few to tell: {', '.join(unsure)}"
        console.print(few, highlight=False, markup=False)
    console.print(f"scores: {done.out}", highlight=False, markup=False)


def print_difference(console: Console, one: Audited, other: Audited) -> None:
    """How often two judges see each flaw, side by side."""
    headings = ["dimension", one.judge, other.judge, "difference"]
    shown = table("\nhow often the score falls", "flaw", headings)
    for flaw in FLAWS:
        for name in flaw.lowers:
            moves = [each.audit.moves(flaw.name, name) for each in (one, other)]
            if all(each.changes for each in moves):
                cells = [_percent(each.falls) for each in moves]
                shown.add_row(flaw.name, name, *cells, _with_interval(fall_difference(*moves)))
    console.print(shown)


def _print_flaws(console: Console, done: Audited, title: str, wanted: str, share: str) -> None:
    headings = ["dimension", "cases", "left out", share, f"{CONFIDENCE:.0%}", "by", "ties"]
    shown = table(f"\n{title}", "flaw", headings)
    for flaw in FLAWS:
        for name in getattr(flaw, wanted):
            if name not in done.audit.dimensions:
                continue
            moves, left_out = done.audit.moves(flaw.name, name), f"{done.left_out[flaw.name]:,}"
            found: Proportion = getattr(moves, share)
            ends = found.interval
            interval = "-" if ends is None else f"{100 * ends[0]:.0f}-{100 * ends[1]:.0f}%"
            by = "-" if moves.change is None else f"{moves.change[0]:+.2f}"
            cells = [f"{len(moves.changes):,}", left_out, _percent(found), interval, by, _percent(moves.ties)]
            shown.add_row(flaw.name, name, *cells)
    console.print(shown)


def _print_harmless(console: Console, audit: Audit) -> None:
    shown = table("\nwhat must not move a score: how often it does, and how far on average", "change", audit.dimensions)
    for version in (*(each.name for each in HARMLESS), AGAIN):
        moves = [audit.moves(version, name) for name in audit.dimensions]
        cells = ["-" if each.size is None else f"{_percent(each.moved)}, {each.size:.2f}" for each in moves]
        shown.add_row(version, *cells)
    noise = [audit.again(name).deviation for name in audit.dimensions]
    shown.add_row("noise (deviation)", *("-" if each is None else f"{each:.2f}" for each in noise))
    console.print(shown)


def _print_changes(console: Console, audit: Audit) -> None:
    shown = table("\nmean change of every dimension (* must fall, ^ must not rise)", "version", audit.dimensions)
    for flaw in (*FLAWS, *HARMLESS):
        cells = []
        for name in audit.dimensions:
            mark = "*" if name in flaw.lowers else "^" if name in flaw.never_raises else " "
            change = audit.moves(flaw.name, name).change
            cells.append("- " if change is None else f"{change[0]:+.2f}{mark}")
        shown.add_row(flaw.name, *cells)
    console.print(shown)


def _percent(share: Proportion) -> str:
    return "-" if share.value is None else f"{share.value:.0%}"


def _with_interval(found: Interval | None) -> str:
    if found is None:
        return "-"
    mean, low, high, _ = found
    return f"{mean:+.0%}" + ("" if low is None else f" ({low:+.0%} to {high:+.0%})")
