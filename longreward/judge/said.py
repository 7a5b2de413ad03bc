"""What a judge said to one question, and what is read from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Odds = dict[str, float]
"""What a verdict may be -> the judge's probability that it is; together 1."""


@dataclass(frozen=True, slots=True)
class Said:
    """All that a value is read from, and all that a cache keeps of a reply."""

    text: str
    others: tuple[str, ...] = ()
    """Further replies to the same question, where there are votes."""
    odds: tuple[Odds, ...] = ()
    """Of each verdict in the reply, where the judge's distribution counts."""

    @property
    def shown(self) -> str:
        """The reply for people; where there are votes, all of them."""
        texts = (self.text, *self.others)
        return "\n\n".join(f"({i}) {text}" for i, text in enumerate(texts, 1)) if self.others else self.text

    def kept(self) -> dict[str, Any]:
        """As JSON, for a cache."""
        more = {"others": list(self.others), "odds": list(self.odds)}
        return {"text": self.text} | {name: value for name, value in more.items() if value}

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Said | None:
        """What `kept` made; None where it is damaged."""
        text, others, odds = kept.get("text"), kept.get("others", []), kept.get("odds", [])
        if not isinstance(text, str) or not isinstance(others, list) or not isinstance(odds, list):
            return None
        if not all(isinstance(other, str) for other in others) or not all(map(_are_odds, odds)):
            return None
        return cls(text, tuple(others), tuple(odds))


def first_vote(shown: str) -> str:
    """Of several replies as `Said.shown` has them the first."""
    return shown.removeprefix("(1) ").partition("\n\n(2) ")[0]


def _are_odds(found: Any) -> bool:
    if not isinstance(found, dict) or not all(type(share) in (int, float) and share >= 0 for share in found.values()):
        return False
    return math.isclose(sum(found.values()), 1, abs_tol=1e-3)


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """A value, and how sure the judge is of it."""

    value: T
    deviations: tuple[float, ...] = ()
    """The standard deviation of each verdict in the reply, in its own units, by the judge's distribution or its votes;
    empty where it was asked for neither."""
