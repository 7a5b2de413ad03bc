"""What scoring has cost, as rows of scores tell it, and such amounts in words."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.table import Table

from longreward.config import JudgeConfig, PriceConfig
from longreward.judge.requests import VerifyStatements
from longreward.schema import Usage


class Account:
    """Sums up rows of scores: usage per dimension, and where the verdicts came from."""

    def __init__(self, price: PriceConfig) -> None:
        self._price = price
        self.rows = 0
        self.dimensions: defaultdict[str, Usage] = defaultdict(Usage)
        self.sources: Counter[str] = Counter()
        self.earlier = Usage()
        """What earlier attempts at these answers used, that ended void."""

    @property
    def usage(self) -> Usage:
        return sum(self.dimensions.values(), Usage())

    def add(self, row: dict[str, Any]) -> None:
        self.rows += 1
        self.earlier += _usage(row, "earlier_usage", self._price)
        for name, detail in row["detail"].items():
            calls = detail.get("calls", [])
            # A verdict of the answer's own call about several statements is not one that others paid for.
            own = {call.get("text") for call in calls if call["kind"] == VerifyStatements.prompt}
            for call in [*calls, *(statement["call"] for statement in detail.get("statements", []))]:
                self.dimensions[name] += _usage(call, "usage", self._price)
                in_own_call = call["kind"] == VerifyStatements.prompt and call.get("text") in own
                if "status" not in call and not (call.get("source") == "shared" and in_own_call):
                    self.sources[call.get("source", "judge")] += 1

    @property
    def free(self) -> str:
        """How many verdicts cost nothing, and why; empty if none."""
        reasons = {
            "cache": "from the cache",
            "shared": "shared with other answers",
            "document": "read off the document",
        }
        found = [f"{self.sources[source]:,} {words}" for source, words in reasons.items() if self.sources[source]]
        return f"verdicts without a call: {', '.join(found)}" if found else ""


def used_for(row: dict[str, Any], price: PriceConfig) -> Usage:
    """All that a row's answer has used, earlier attempts included."""
    return _usage(row, "usage", price) + _usage(row, "earlier_usage", price)


def caps(judge: JudgeConfig, used: Usage) -> Iterator[tuple[str, float, float, Callable[[float], str]]]:
    """The caps that are set, each with what counts against it and how to say such an amount."""
    if judge.spend.max_cost is not None:
        yield "max_cost", judge.spend.max_cost, used.cost, money
    if judge.spend.max_tokens is not None:
        yield "max_tokens", judge.spend.max_tokens, used.tokens, short


def _usage(holder: dict[str, Any], name: str, price: PriceConfig) -> Usage:
    """Priced now where it had no price then."""
    usage = Usage.model_validate(holder.get(name, {}))
    if not usage.cost and price.known:
        usage.cost = price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    return usage


def in_words(usage: Usage, price: PriceConfig) -> str:
    """ "1,480 calls, 2.1M tokens, cost 3.20"; without the cost where `price` is unset."""
    return f"{usage.calls:,} calls, {short(usage.tokens)} tokens" + (
        f", cost {money(usage.cost)}" if price.known else ""
    )


def compared(usage: Usage, expected: Usage, price: PriceConfig) -> str:
    """As `in_words`, each with how far it is from what was expected."""
    parts = [f"{usage.calls:,} calls ({off_by(usage.calls, expected.calls)})"]
    if usage.calls and not usage.tokens:
        return f"{parts[0]}; the endpoint reports no tokens"
    parts += [f"{short(usage.tokens)} tokens ({off_by(usage.tokens, expected.tokens)})"]
    parts += [f"cost {money(usage.cost)} ({off_by(usage.cost, expected.cost)})"] if price.known else []
    return ", ".join(parts)


def off_by(actual: float, expected: float) -> str:
    return f"{100 * (actual / expected - 1):+.0f}%" if expected else "nothing expected"


def short(number: float) -> str:
    """9,999 or 12.3k or 4.56M."""
    if number < 10_000:
        return f"{number:,.0f}"
    for unit, size in (("k", 1e3), ("M", 1e6)):
        if number < 999.5 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number / 1e9:,.4g}B"


def money(amount: float) -> str:
    """In whatever currency `judge.price` is meant."""
    if not amount or amount >= 0.1:
        return f"{amount:,.2f}"
    return f"{amount:.{1 - math.floor(math.log10(amount))}f}" if amount >= 0.0001 else "under 0.0001"


def duration(seconds: float) -> str:
    if seconds < 59.5:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit, of, size, smaller in (("min", 3600, 60, "s"), ("h", 2 * 86400, 3600, "min")):
        if seconds < of:
            whole, rest = divmod(round(seconds * 60 / size), 60)
            return f"{whole} {unit} {rest} {smaller}" if rest else f"{whole} {unit}"
    return f"{seconds / 86400:,.1f} days"


def clock(seconds: float) -> str:
    """4:05 or 1:15:00."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def table(title: str, left: str, right: Sequence[str]) -> Table:
    """A table without lines, which fits 80 columns and reads the same where there is no terminal."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(left, no_wrap=True)
    for heading in right:
        made.add_column(heading, justify="right")
    return made
