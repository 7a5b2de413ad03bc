"""What a reward function is, and what those that ask no judge have in common."""

from __future__ import annotations

import math
import numbers
import sys
import time
import traceback
from contextlib import suppress
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator

from longreward.errors import JudgeError, Reason
from longreward.redaction import redacted
from longreward.schema import DimensionScore, Reward
from rl.data.prompts import TrainingSample


def _ordered(scale: tuple[float, float]) -> tuple[float, float]:
    if not -math.inf < scale[0] < scale[1] < math.inf:
        raise ValueError("write it from the lowest to the highest reward, such as [0, 1]")
    return scale


Scale = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""Lowest and highest reward that a function gives."""


class RewardFunction(Protocol):
    """What a judge worker needs of a reward. `LongReward` is one."""

    def prepare(self, context: str, query: str) -> None:
        """Begin the work that all answers about this document share. Must return at once."""

    async def score(self, sample: TrainingSample) -> Reward:
        """Score one answer, 0..10 in all; a failure is a `Reward` whose total is None, not an exception."""
        ...

    def stats(self) -> dict[str, float]:
        """Counts and gauges for logs."""
        ...

    async def aclose(self) -> None:
        """Give back what was opened."""


class RewardWithoutJudge:
    """A reward function that comes to one number, with a name, and perhaps parts of it.

    A failure is a void reward with its reason, as for the judge's: never an exception, never a number.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._told: set[str] = set()

    def prepare(self, context: str, query: str) -> None:
        """Nothing is shared between the answers about a document."""

    def stats(self) -> dict[str, float]:
        return {}

    async def aclose(self) -> None:
        """Nothing is open."""

    async def scores(self, sample: TrainingSample) -> dict[str, float]:
        """`total` and its parts, 0..10. JudgeError with a reason where there is none."""
        raise NotImplementedError

    async def score(self, sample: TrainingSample) -> Reward:
        started = time.monotonic()
        try:
            found = await self.scores(sample)
        except JudgeError as error:
            return self._void(sample, error, started)
        except Exception as error:  # of a user's code, or a library's: it must not end the run
            what = f"{self.name}: {type(error).__name__}: {error}"
            if what not in self._told:
                self._told.add(what)
                print(redacted(traceback.format_exc()), file=sys.stderr, flush=True)
            return self._void(sample, JudgeError(Reason.INTERNAL, what), started)
        parts = {name: value for name, value in found.items() if name != "total"} or {self.name: found["total"]}
        return Reward(
            id=sample.id,
            total=found["total"],
            dimensions={name: DimensionScore(score=value) for name, value in parts.items()},
            seconds=time.monotonic() - started,
        )

    def _void(self, sample: TrainingSample, error: JudgeError, started: float) -> Reward:
        void = DimensionScore(score=None, status=error.reason, detail=error.detail)
        return Reward(id=sample.id, total=None, dimensions={self.name: void}, seconds=time.monotonic() - started)


def on_scale(value: Any, scale: Scale, whose: str) -> float:
    """A reward on the scale 0..10; `scale` is where its lowest and highest lie now.

    JudgeError for a value that is not a finite number or is off the scale. It is never clamped.
    """
    number = math.nan
    if isinstance(value, numbers.Real) and not isinstance(value, bool):  # numpy's scalars as well
        with suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise JudgeError(Reason.BAD_RESPONSE, f"{whose} gave {_short(value)}, which is not a finite number")
    low, high = scale
    if not low <= number <= high:
        raise JudgeError(Reason.BAD_RESPONSE, f"{whose} gave {number:g}, which is not within {low:g} to {high:g}")
    return 10 * (number - low) / (high - low)


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) else f"a whole number of {value.bit_length()} bits"
    return text if len(text) <= 100 else f"{text[:100]}..."
