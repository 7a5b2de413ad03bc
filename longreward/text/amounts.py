"""Amounts in words, one form of each for the whole project: usage, money, counts, durations, clocks, file sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from longreward.config import JudgeConfig
from longreward.schema import Usage


def in_words(usage: Usage, judge: JudgeConfig) -> str:
    """What the judge was asked, as "1,480 calls, 2.1M tokens, cost 3.20"; without the cost where it has no price."""
    asked = f"{usage.calls:,} calls, {rounded(usage.tokens)} tokens"
    return f"{asked}, cost {money(usage.cost)}" if judge.knows_prices else asked


def caps(judge: JudgeConfig, used: Usage) -> Iterator[tuple[str, float, float, Callable[[float], str]]]:
    """The spend caps that are set: name below judge.spend, cap, what counts against it, how to say such an amount."""
    if judge.spend.max_cost is not None:
        yield "max_cost", judge.spend.max_cost, used.cost, money
    if judge.spend.max_tokens is not None:
        yield "max_tokens", judge.spend.max_tokens, used.tokens, rounded


def rounded(number: float) -> str:
    """A count in at most four digits: 9,999 or 12.3k or 4.56M."""
    if number < 10_000:
        return f"{number:,.0f}"
    for unit, one in (("k", 1e3), ("M", 1e6)):
        if number < 999.5 * one:  # 999,500 rounds to 1M, not to 1000k
            return f"{number / one:.3g}{unit}"
    return f"{number / 1e9:,.4g}B"


def money(amount: float) -> str:
    """An amount without its currency, which is that of `judge.price`: 3.20, 0.0012, "under 0.0001"."""
    if not amount or amount >= 0.1:
        return f"{amount:,.2f}"
    # Small amounts keep two digits that are not zero.
    return f"{amount:.{1 - math.floor(math.log10(amount))}f}" if amount >= 0.0001 else "under 0.0001"


def duration(seconds: float) -> str:
    """A length of time in at most two units: 0.5 s, 2 min 28 s, 2 h 1 min, 3.5 days."""
    if seconds < 59.5:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit, below, one, smaller in (("min", 3600, 60, "s"), ("h", 2 * 86400, 3600, "min")):
        if seconds < below:
            whole, rest = divmod(round(seconds * 60 / one), 60)
            return f"{whole} {unit} {rest} {smaller}" if rest else f"{whole} {unit}"
    return f"{seconds / 86400:,.1f} days"


def clock(seconds: float) -> str:
    """A length of time as a running clock shows it: 4:05 or 1:15:00."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def file_size(number: float) -> str:
    """A number of bytes in powers of ten: 0.9 kB, 7.27 MB, 112 GB."""
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= one:
            return f"{number / one:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"
