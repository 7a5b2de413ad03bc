"""What scoring has cost, as rows of scores tell it, and such amounts in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.table import Table

from longreward.config import JudgeConfig, PriceConfig
from longreward.judge.requests import VerifyStatements
from longreward.schema import Usage
from longreward.text.amounts import money, rounded


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
            own = {call.get("text") for call in calls if call["kind"] == VerifyStatements.kind}
            for call in [*calls, *(statement["call"] for statement in detail.get("statements", []))]:
                self.dimensions[name] += _usage(call, "usage", self._price)
                in_own_call = call["kind"] == VerifyStatements.kind and call.get("text") in own
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
        yield "max_tokens", judge.spend.max_tokens, used.tokens, rounded


def _usage(holder: dict[str, Any], name: str, price: PriceConfig) -> Usage:
    """Priced now where it had no price then."""
    usage = Usage.model_validate(holder.get(name, {}))
    if not usage.cost and price.known:
        usage.cost = price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    return usage


def table(title: str, left: str, right: Sequence[str]) -> Table:
    """A table without lines, which fits 80 columns and reads the same where there is no terminal."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(left, no_wrap=True)
    for heading in right:
        made.add_column(heading, justify="right")
    return made
