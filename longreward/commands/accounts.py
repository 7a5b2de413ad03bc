"""What scoring has cost, summed up over scored answers, and the form of the tables that show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from rich.table import Table

from longreward.config import RewardConfig
from longreward.judge.requests import VerifyStatements
from longreward.model_config import PriceConfig
from longreward.schema import OK, ScoredAnswer, Usage


class Account:
    """Sums up scored answers: usage per dimension, and where the verdicts came from."""

    def __init__(self, config: RewardConfig) -> None:
        self._config = config
        self.rows = self.void = 0
        self.sum = 0.0
        """The sum of the totals (0..10 each); void answers add nothing."""
        self.dimensions: defaultdict[str, Usage] = defaultdict(Usage)
        self.sources: Counter[str] = Counter()
        self.earlier = Usage()
        """What earlier attempts at these answers used, which ended void."""

    @property
    def usage(self) -> Usage:
        return sum(self.dimensions.values(), Usage())

    def add(self, answer: ScoredAnswer) -> None:
        self.rows += 1
        self.void += answer.total is None
        self.sum += answer.total or 0.0
        self.earlier += _earlier(answer, self._config)
        for name, dimension in answer.dimensions.items():
            # A verdict of the answer's own call about several statements is not one that others paid for.
            own = {call.text for call in dimension.calls if call.kind == VerifyStatements.kind}
            for call in dimension.all_calls:
                self.dimensions[name] += _priced(call.usage, self._config.model_for(call.kind).price)
                in_own_call = call.kind == VerifyStatements.kind and call.text in own
                if call.status == OK and not (call.source == "shared" and in_own_call):
                    self.sources[call.source] += 1

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


def used_for(answer: ScoredAnswer, config: RewardConfig) -> Usage:
    """All that scoring an answer has used, earlier attempts included."""
    calls = (_priced(call.usage, config.model_for(call.kind).price) for call in answer.calls)
    return sum(calls, _earlier(answer, config))


def _earlier(answer: ScoredAnswer, config: RewardConfig) -> Usage:
    """What earlier attempts used. Which models, is not known: it is priced now only where there is but one."""
    price = PriceConfig() if config.judge.routes else config.judge.price
    return _priced(answer.earlier_usage, price)


def _priced(usage: Usage, price: PriceConfig) -> Usage:
    """Priced now where it had no price then."""
    if usage.cost or not price.known:
        return usage
    cost = price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    return usage.model_copy(update={"cost": cost})


def table(title: str, left: str, right: Sequence[str]) -> Table:
    """A table without lines, which fits 80 columns and reads the same where there is no terminal."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    made.add_column(left, no_wrap=True)
    for heading in right:
        made.add_column(heading, justify="right")
    return made
