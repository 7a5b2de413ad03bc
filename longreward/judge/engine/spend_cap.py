"""What the judge has cost, and what it may still cost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple

from longreward.config import JudgeConfig
from longreward.model_config import PriceConfig
from longreward.schema import Usage


class Amount(NamedTuple):
    """Money (in the currency of `judge.price`) and tokens."""

    cost: float = 0.0
    tokens: float = 0.0

    @classmethod
    def unlimited(cls) -> Amount:
        return cls(math.inf, math.inf)

    def plus(self, other: Amount) -> Amount:
        return Amount(self.cost + other.cost, self.tokens + other.tokens)

    def at_most(self, other: Amount) -> Amount:
        return Amount(min(self.cost, other.cost), min(self.tokens, other.tokens))

    def minus(self, other: Amount) -> Amount:
        return Amount(self.cost - other.cost, self.tokens - other.tokens)

    def fits(self, other: Amount) -> bool:
        """Whether no part of it is more than `other`'s."""
        return self.cost <= other.cost and self.tokens <= other.tokens


def amount(price: PriceConfig, prompt_tokens: float, completion_tokens: float) -> Amount:
    """What these tokens come to."""
    return Amount(price.cost(prompt_tokens, completion_tokens), prompt_tokens + completion_tokens)


def priced(usage: Usage, price: PriceConfig) -> Usage:
    """The usage with its cost."""
    cost = price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    return usage.model_copy(update={"cost": cost}) if cost else usage


class Spend:
    """Counts what was used, reserves what requests under way may cost at most, and lets nothing past the cap.

    The allowance is the cap, unless the count is kept on disk, as in training. Then the allowance stays below the cap,
    and `grant` raises it each time after that amount has been written down. So a process that is killed has never spent
    more than the file says. `asked` is set while a request waits for such a grant.
    """

    def __init__(self, cap: Amount, used: Amount | None = None, *, pauses: bool = False) -> None:
        """`used` was spent by an earlier part of the run. `pauses`: calls wait at the cap, instead of failing."""
        self.cap, self.pauses = cap, pauses
        self.used = used or Amount()
        self.allowance = cap
        """The most that `used` and `reserved` may come to now."""
        self.reserved = Amount()
        self.wanted: Amount | None = None
        """What the request in front of the queue would need, while it has to wait for the allowance."""
        self.asked = asyncio.Event()
        self.reached = False
        """The cap is reached: what is left does not pay for another call."""
        self.listeners: list[Callable[[], None]] = []
        """Called when requests that wait may go on, or have to end: each model has a queue of its own."""

    @property
    def paused(self) -> bool:
        """The cap is reached, and calls wait for it to be raised."""
        return self.reached and self.pauses

    @property
    def refuses(self) -> bool:
        """The cap is reached, and calls fail."""
        return self.reached and not self.pauses

    def set_cap(self, cap: Amount) -> None:
        """Another cap, counted from the run's start like the one before. More may be used once it is granted."""
        if cap != self.cap:
            self.cap, self.allowance, self.reached = cap, self.allowance.at_most(cap), False
            self.changed()

    def grant(self, allowance: Amount) -> None:
        """From now on so much may be used, `used` included."""
        self.allowance = allowance
        self.changed()

    def changed(self) -> None:
        """Tell all that wait."""
        for listener in self.listeners:
            listener()

    def reserve(self, most: Amount) -> bool:
        """Set `most` aside; False, and nothing is, where it would go past the allowance."""
        if self.spare(most):
            self.wanted = None
            return True
        self.wanted = most
        if self.used.plus(self.reserved).plus(most).fits(self.cap):
            self.asked.set()
        return False

    def spare(self, most: Amount) -> bool:
        """Set `most` aside for a request that need not be made: nothing waits for it, and no allowance is asked for."""
        if self.used.plus(self.reserved).plus(most).fits(self.allowance):
            self.reserved = self.reserved.plus(most)
            return True
        return False

    def pays_for(self, most: Amount) -> bool:
        """Whether the cap has room for a request of `most` once nothing else is under way."""
        return self.used.plus(most).fits(self.cap)

    def settle(self, reserved: Amount, used: Amount) -> None:
        """The request is over: give back what was reserved, keep what it used."""
        self.reserved = self.reserved.minus(reserved)
        self.used = self.used.plus(used)


def cap_of(config: JudgeConfig) -> Amount:
    """`judge.spend`, infinity where there is no cap."""
    return Amount(config.spend.max_cost or math.inf, config.spend.max_tokens or math.inf)


class TokenEstimate:
    """How many tokens a request will take, from its bytes and from what earlier ones took."""

    _SMOOTHING = 0.05

    def __init__(self) -> None:
        self._bytes_per_token = 3.5  # low, so that the first guesses are on the safe side
        self._fewest_bytes_per_token = self._bytes_per_token
        self._completion: dict[str, float] = {}

    def prompt(self, size: int) -> float:
        """Tokens of a prompt of `size` bytes in UTF-8."""
        return size / self._bytes_per_token

    def completion(self, kind: str) -> float:
        return self._completion.get(kind, 200.0)

    def most_for_prompt(self, size: int) -> float:
        """An upper bound: two fifths above the most that prompts of this size have taken until now."""
        return size / (0.7 * self._fewest_bytes_per_token)

    def observe(self, kind: str, size: int, usage: Usage) -> None:
        """Learn from a reply; endpoints that report no usage teach nothing."""
        if usage.prompt_tokens:
            seen = max(0.5, size / usage.prompt_tokens)
            self._bytes_per_token += self._SMOOTHING * (seen - self._bytes_per_token)
            self._fewest_bytes_per_token = min(self._fewest_bytes_per_token, seen)
        if usage.completion_tokens:
            known = self.completion(kind)
            self._completion[kind] = known + self._SMOOTHING * (usage.completion_tokens - known)
