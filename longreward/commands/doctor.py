"""`longreward doctor`: ask the judge, look at keys and limits, and say what will not work before it is used."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from longreward.commands.options import SETTINGS, add_judge, reward_config
from longreward.commands.rows import Rows
from longreward.config import JudgeConfig, RewardConfig
from longreward.judge.own_server.local import served
from longreward.preflight import cache_check, judge_checks, settings_checks
from longreward.preflight.estimate import Estimate, estimate, throughput
from longreward.preflight.finding import Finding, Severity
from longreward.text.amounts import duration, in_words

_ABOUT = 7  # characters of the longest topic
_STYLES = {Severity.OK: "green", Severity.NOTE: "yellow", Severity.PROBLEM: "bold red"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Ask every endpoint of the judge each kind of question, about right and wrong answers, and whether it reads an "
        "extraction of full size, and look at keys and limits: 17 calls per endpoint. Exit code 1 where there is a "
        "problem. A training configuration has a doctor of its own: python rl/doctor.py."
    )
    command.epilog = SETTINGS
    add_judge(command)
    about = "rows to be scored: can they be read, what will they cost, and how long will it take with this judge"
    command.add_argument("--input", type=Path, metavar="IN.jsonl", help=about)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Print what is found out about a reward's configuration and, with --input, about scoring these rows with it.

    Returns 0, or 1 where there is a problem. InputError where --input holds nothing to score.
    """
    config = reward_config(options, overrides)
    out, rows, expected = Console(), None, Estimate()
    if options.input is not None:
        rows = Rows(options.input)
        with out.status(f"reading {options.input}"):
            expected = estimate(rows.to_estimate(), config)
    with served(config) as asked:
        findings, latency_s = check_judge(out, asked)
        findings += show(out, list(cache_check.findings(config)))
    if rows is not None:
        findings += show(out, [*_about_input(rows), *_about_scoring(expected, config.judge, latency_s)])
    return verdict(out, findings)


def check_judge(out: Console, config: RewardConfig, section: str = "") -> tuple[list[Finding], float | None]:
    """Ask the judge and show what comes of it, then its keys and limits. Returns that and the seconds of a call.

    `section` is where the reward's settings stand in the configuration: "reward." in a training run's.
    """
    judge = config.judge
    with out.status("asking the judge"):
        check = asyncio.run(judge_checks.check_judge(config))
    findings = list(check.findings)
    if check.usage.calls:
        findings.append(Finding.ok("judge", f"this check took {in_words(check.usage, judge)}"))
    findings += [*settings_checks.keys(judge), *settings_checks.limits(judge)]
    return show(out, [finding.within(section) for finding in findings]), check.latency_s


def show(out: Console, findings: Sequence[Finding]) -> list[Finding]:
    """Print findings as a table on a terminal, one line each elsewhere, and return them."""
    if out.is_terminal:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=len(Severity.PROBLEM))
        table.add_column(no_wrap=True, min_width=_ABOUT)
        table.add_column(overflow="fold")
        for finding in findings:
            text = Text(finding.sentence)
            if finding.action:
                text.append(f"\n-> {finding.action}", style="dim")
            table.add_row(Text(finding.severity, style=_STYLES[finding.severity]), Text(finding.about), text)
        out.print(table)
    else:
        for finding in findings:
            action = f" -> {finding.action}" if finding.action else ""
            line = f"{finding.severity:<{len(Severity.PROBLEM)}}  {finding.about:<{_ABOUT}}  {finding.sentence}{action}"
            out.print(line, highlight=False, markup=False, soft_wrap=True)
    return list(findings)


def verdict(out: Console, findings: Sequence[Finding]) -> int:
    """Print the sum of it. Returns 0, or 1 where there is a problem."""
    found = [finding.severity for finding in findings]
    problems, notes = found.count(Severity.PROBLEM), found.count(Severity.NOTE)
    counted = f"{problems or 'no'} problem{'s' * (problems != 1)}, {notes or 'no'} note{'s' * (notes != 1)}"
    out.print(counted, style=_STYLES[Severity.PROBLEM if problems else Severity.OK], highlight=False)
    return 1 if problems else 0


def _about_input(rows: Rows) -> Iterator[Finding]:
    if rows.broken:
        sentence = f"{len(rows.broken):,} of its rows cannot be read; the first: {rows.broken[0]}"
        yield Finding.note("input", sentence, "fix them, or they are skipped")
    prompts = f", {rows.prompts:,} prompts without an answer" if rows.prompts else ""
    yield Finding.ok("input", f"{rows.source}: {rows.answers:,} answers{prompts}")


def _about_scoring(expected: Estimate, judge: JudgeConfig, latency_s: float | None) -> Iterator[Finding]:
    if not judge.asks_endpoints:
        return
    yield Finding.ok("cost", f"scoring them takes about {in_words(expected, judge)}")
    yield from settings_checks.spend(expected, judge)
    if latency_s is not None:
        found = throughput(expected, judge, latency_s)
        yield Finding.ok("pace", f"at {latency_s:.2g} s a call at least {duration(found.seconds)}, by {found.limit}")
