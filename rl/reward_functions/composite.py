"""`reward.name: composite`: several reward functions at once, their weighted mean, some of them as gates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from longreward.config import Section
from longreward.schema import DimensionScore, Reward
from rl.data.prompts import TrainingSample
from rl.reward_functions.base import RewardFunction


class PartSection(Section):
    weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    """Weight in the mean. 0: only a gate."""
    gate: float | None = Field(None, allow_inf_nan=False)
    """An answer that gets less than this from the function has a total of 0."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments, for a function from an installed package."""


class CompositeSection(Section):
    parts: dict[str, PartSection] = Field(default_factory=dict)
    """The reward functions by name. Each has the settings of its own section."""

    @field_validator("parts")
    @classmethod
    def _parts_make_a_mean(cls, value: dict[str, PartSection]) -> dict[str, PartSection]:
        if value and not any(part.weight for part in value.values()):
            raise ValueError(f"one of {', '.join(value)} needs a weight above 0")
        if "composite" in value:
            raise ValueError("composite cannot be a part of itself")
        return value


class Composite:
    """All parts score an answer at the same time; it is void where one of them is."""

    def __init__(self, functions: Mapping[str, RewardFunction], section: CompositeSection) -> None:
        self._functions, self._parts = dict(functions), section.parts

    def prepare(self, context: str, query: str) -> None:
        for function in self._functions.values():
            function.prepare(context, query)

    async def score(self, sample: TrainingSample) -> Reward:
        """`total`, and as dimensions each part's total under its name beside what the part consists of."""
        started = time.monotonic()
        rewards = await asyncio.gather(*(function.score(sample) for function in self._functions.values()))
        found = dict(zip(self._functions, rewards, strict=True))
        dimensions: dict[str, DimensionScore] = {}
        for name, reward in found.items():
            dimensions |= reward.dimensions
            if reward.total is not None:
                dimensions.setdefault(name, DimensionScore(score=reward.total))
        return Reward(
            id=sample.id,
            total=self._total({name: reward.total for name, reward in found.items()}),
            dimensions=dimensions,
            seconds=time.monotonic() - started,
        )

    def stats(self) -> dict[str, float]:
        return {name: value for function in self._functions.values() for name, value in function.stats().items()}

    async def aclose(self) -> None:
        for function in self._functions.values():
            await function.aclose()

    def _total(self, totals: Mapping[str, float | None]) -> float | None:
        weighted = 0.0
        shut = False
        for name, total in totals.items():
            if total is None:
                return None
            part = self._parts[name]
            shut |= part.gate is not None and total < part.gate
            weighted += part.weight * total
        return 0.0 if shut else weighted / sum(self._parts[name].weight for name in totals)
