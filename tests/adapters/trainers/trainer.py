"""What the suite needs of a trainer: to hand answers over, and to say what it makes of the rewards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Row = dict[str, Any]
"""`idx`, `context`, `query` and `answer`."""


class Seen(NamedTuple):
    """What a trainer gets for an answer."""

    reward: float | None
    """0..10; None: no number."""
    void: bool
    """Whether it is told that this is no score. Where it is not, the number must be harmless."""


class Trainer(ABC):
    """One trainer's way. Use it on one event loop, and close it."""

    def __init__(self, config: dict[str, Any]) -> None:
        """`config`: the sections of a reward, and `serve` for those that a server answers."""
        self.config = config
        self.reward = {name: section for name, section in config.items() if name != "serve"}

    @abstractmethod
    async def rewards(self, rows: Sequence[Row]) -> list[Seen]:
        """Hand answers over, all at once and as the trainer does it, and wait for them."""

    @abstractmethod
    def advantages(self, seen: Sequence[Seen]) -> list[float]:
        """What the trainer makes of a group, the answers to one prompt. 0 for one that is left out."""

    async def aclose(self) -> None:  # noqa: B027 - most have nothing to end
        """End what it started."""


def normalised(values: Sequence[float], *, unbiased: bool = True, epsilon: float = 1e-6) -> list[float]:
    """GRPO's group normalisation: less the mean, by the standard deviation."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - unbiased)
    return [(value - mean) / (variance**0.5 + epsilon) for value in values]


def masked(seen: Sequence[Seen]) -> list[float]:
    """The advantages of a trainer that leaves void answers out."""
    left = iter(normalised([one.reward for one in seen if one.reward is not None and not one.void] or [0.0]))
    return [0.0 if one.void else next(left) for one in seen]


def numbers(seen: Iterable[Seen]) -> list[float]:
    """The rewards of a trainer that takes every one for a score."""
    found = [one.reward for one in seen]
    assert None not in found, "this trainer takes numbers only"
    return [float(value) for value in found if value is not None]
