"""What the judge has cost and what it may still cost."""

from __future__ import annotations

import math
from typing import NamedTuple

from longreward.config import PriceConfig, SpendConfig
from longreward.schema import Usage


class Amount(NamedTuple):
    """Money (in the currency of `judge.price`) and tokens."""

    cost: float = 0.0
    tokens: float = 0.0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.cost + other.cost, self.tokens + other.tokens)

    def minus(self, other: Amount) -> Amount:
        return Amount(self.cost - other.cost, self.tokens - other.tokens)

    def fits(self, other: Amount) -> bool:
        """Whether no part of it is more than `other`'s."""
        return self.cost <= other.cost and self.tokens <= other.tokens


class Spend:
    """Counts what was used, reserves what requests under way may cost at most, and lets nothing past the allowance.

    The allowance is the cap itself, or in training this worker's part of it, which changes with time.
    """

    def __init__(self, price: PriceConfig, cap: SpendConfig) -> None:
        self.price = price
        self.allowance = Amount(cap.max_cost or math.inf, cap.max_tokens or math.inf)
        self.used = Amount()
        self.used_by_all = Amount()
        """By all processes that share the limits, as far as this one has been told."""
        self.reserved = Amount()
        self.wanted: Amount | None = None
        """What the request in front of the queue would need, while it has to wait for the allowance."""
        self.reached = False
        """No more calls: what is left does not pay for another one."""

    def amount(self, prompt_tokens: float, completion_tokens: float) -> Amount:
        return Amount(self.price.cost(prompt_tokens, completion_tokens), prompt_tokens + completion_tokens)

    def reserve(self, most: Amount) -> bool:
        """Set `most` aside; False, and nothing is, where it would go past the allowance."""
        if not self.used.plus(self.reserved).plus(most).fits(self.allowance):
            self.wanted = most
            return False
        self.wanted = None
        self.reserved = self.reserved.plus(most)
        return True

    def settle(self, reserved: Amount, used: Amount) -> None:
        """The request is over: give back what was reserved, keep what it used."""
        self.reserved = self.reserved.minus(reserved)
        self.used = self.used.plus(used)

    def priced(self, usage: Usage) -> Usage:
        """The usage with its cost."""
        cost = self.price.cost(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        return usage.model_copy(update={"cost": cost}) if cost else usage


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
