"""Reward functions by name: `reward.name` in a run's configuration picks one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from longreward import LongReward, Reward, Sample
from longreward.document import TokenSpans
from longreward.errors import ConfigError
from rl.config import RewardSection

if TYPE_CHECKING:
    from longreward.judge.endpoints import Endpoints


class RewardFunction(Protocol):
    """What a judge worker needs of a reward. `LongReward` is one."""

    @property
    def endpoints(self) -> Endpoints | None:
        """Where it sends judge calls, so that the workers can share limits; None where it sends none."""
        ...

    def prepare(self, context: str, query: str) -> None:
        """Begin the work that all answers about this document share. Must return at once."""

    async def score(self, sample: Sample) -> Reward:
        """Score one answer, 0..10 in all; a failure is a `Reward` whose total is None, not an exception."""
        ...

    def stats(self) -> dict[str, float]:
        """Counts and gauges for logs."""
        ...

    async def aclose(self) -> None:
        """Give back what was opened."""


def _longreward(config: RewardSection, token_spans: TokenSpans) -> RewardFunction:
    return LongReward(config, token_spans=token_spans)


REWARDS: dict[str, Callable[[RewardSection, TokenSpans], RewardFunction]] = {"longreward": _longreward}


def check(name: str) -> None:
    """ConfigError for a name that is not registered, with those that are."""
    if name not in REWARDS:
        raise ConfigError(f"reward.name {name!r} is unknown; known: {', '.join(sorted(REWARDS))}")


def make(config: RewardSection, token_spans: TokenSpans) -> RewardFunction:
    """The reward function that `config.name` names."""
    check(config.name)
    return REWARDS[config.name](config, token_spans)
