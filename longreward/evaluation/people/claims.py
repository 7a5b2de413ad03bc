"""How well a judge's support tells claims apart that people call supported or not, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from longreward.evaluation.people.agreement import CONFIDENCE

Values = npt.NDArray[np.float64]

EVEN = 0.5
"""The threshold that nobody had to choose."""
BANDS = ((0.4, 0.6), (0.25, 0.75))
"""Supports, both ends included, of which a judge can be called unsure."""
_RESAMPLES = 1_000
_SEED = 0
_DIGITS = 9  # closer supports are equal


class JudgedClaim(NamedTuple):
    """A claim that people have labelled, with the judge's support, 0..1; None where it is void."""

    context: str
    """The document, or a name of it: claims about one document are drawn together."""
    supported: bool
    support: float | None
    reason: str = ""
    """Why the support is void."""


class Figure(NamedTuple):
    """A value and its interval at `CONFIDENCE`; None where there is none."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Chosen:
    """The threshold with the best balanced accuracy on one half of the contexts, looked at on the other half."""

    threshold: float
    claims: int
    """Those of the other half, of which both figures are."""
    accuracy: Figure
    at_even: Figure
    """The same claims at `EVEN`."""


@dataclass(frozen=True)
class Discrimination:
    """How the judge's support of claims agrees with people's labels. Void claims count in `void` alone."""

    claims: int
    supported: int
    """Those of `claims` that people call supported."""
    contexts: int
    auc: Figure
    """How often a supported claim has more support than another one, 0..1; equal supports (ties) count half."""
    ties: float | None
    """The share of equal supports among the pairs of a supported claim and another one."""
    accuracy: Figure
    """Balanced accuracy, 0..1, where a support of `EVEN` or more says supported."""
    chosen: Chosen | None
    unsure: dict[tuple[float, float], float]
    """For each of `BANDS`, the share of claims whose support lies in it."""
    void: Counter[str] = field(default_factory=Counter)
    """Claims without a support, by reason."""

    def summary(self) -> dict[str, Any]:
        """As plain data for JSON; null where there is nothing to tell."""
        chosen = self.chosen and {
            "threshold": self.chosen.threshold,
            "claims": self.chosen.claims,
            "balanced_accuracy": _plain(self.chosen.accuracy),
            "at_0.5": _plain(self.chosen.at_even),
        }
        return {
            "claims": self.claims,
            "supported": self.supported,
            "contexts": self.contexts,
            "auc": _plain(self.auc),
            "ties": _rounded(self.ties),
            "balanced_accuracy_at_0.5": _plain(self.accuracy),
            "chosen_on_one_half": chosen,
            "unsure": [
                {"low": low, "high": high, "share": _rounded(each)} for (low, high), each in self.unsure.items()
            ],
            "void": {"n": self.void.total(), "reasons": dict(self.void.most_common())},
        }


def auc(scores: Sequence[float], labels: Sequence[bool]) -> float:
    """How often a score with a true label is above one with a false label, 0..1; equal scores count half. ValueError
    where all labels are the same."""
    if len(set(map(bool, labels))) < 2:
        raise ValueError("an AUC compares scores of both labels, and all of these are the same")
    return _Ranked.of(scores, labels, [""] * len(labels)).auc()


def discrimination(claims: Iterable[JudgedClaim]) -> Discrimination:
    """The figures of these claims, each label counting as it comes. Their intervals are percentiles over resampled
    contexts; the same claims always give the same ones."""
    known, void = list[JudgedClaim](), Counter[str]()
    for claim in claims:
        if claim.support is None:
            void[claim.reason] += 1
        else:
            known.append(claim)
    ranked = _ranked(known)
    area, accuracy = ranked.figures(_Ranked.auc, lambda one: one.accuracy(EVEN))
    return Discrimination(
        claims=len(known),
        supported=sum(claim.supported for claim in known),
        contexts=ranked.contexts,
        auc=area,
        ties=ranked.ties() if ranked.decides() else None,
        accuracy=accuracy,
        chosen=_chosen(known),
        unsure={band: _share_within(known, *band) for band in BANDS} if known else {},
        void=void,
    )


def _chosen(claims: Sequence[JudgedClaim]) -> Chosen | None:
    """None where a half has not both labels."""
    # By their hashes: the halves do not depend on the order of the rows.
    contexts = sorted({claim.context for claim in claims}, key=_hash)
    first = set(contexts[: len(contexts) // 2])
    chooses, tells = (_ranked([c for c in claims if (c.context in first) is here]) for here in (True, False))
    if not chooses.decides() or not tells.decides():
        return None
    between = (chooses.values[1:] + chooses.values[:-1]) / 2
    threshold = max(between, key=lambda each: (round(chooses.accuracy(each), _DIGITS), -abs(each - EVEN)), default=EVEN)
    figures = tells.figures(lambda one: one.accuracy(threshold), lambda one: one.accuracy(EVEN))
    return Chosen(float(threshold), tells.claims, *figures)


@dataclass(frozen=True)
class _Ranked:
    """Claims by their support, each with a weight."""

    values: Values
    """The different supports, rising."""
    place: npt.NDArray[np.intp]
    """Of each claim, where its support stands in `values`."""
    label: npt.NDArray[np.bool_]
    context: npt.NDArray[np.intp]
    weight: Values

    @classmethod
    def of(cls, supports: Sequence[float], labels: Sequence[bool], contexts: Sequence[str]) -> _Ranked:
        values, place = np.unique(np.round(np.asarray(supports, dtype=float), _DIGITS), return_inverse=True)
        _, context = np.unique(np.asarray(contexts, dtype=object), return_inverse=True)
        return cls(values, place, np.asarray(labels, dtype=bool), context, np.ones(len(supports)))

    @property
    def claims(self) -> int:
        return len(self.place)

    @property
    def contexts(self) -> int:
        return int(self.context.max(initial=-1)) + 1

    def decides(self) -> bool:
        """Whether there are claims of both labels."""
        return 0 < self.weight[self.label].sum() < self.weight.sum()

    def auc(self) -> float:
        yes, no = self._by_value()
        return float((yes * (np.cumsum(no) - no / 2)).sum() / (yes.sum() * no.sum()))

    def ties(self) -> float:
        yes, no = self._by_value()
        return float((yes * no).sum() / (yes.sum() * no.sum()))

    def accuracy(self, threshold: float) -> float:
        """Balanced: the mean of the shares that are told right of both labels."""
        yes, no = self._by_value()
        first = int(np.searchsorted(self.values, round(threshold, _DIGITS)))
        return float((yes[first:].sum() / yes.sum() + no[:first].sum() / no.sum()) / 2)

    def figures(self, *measures: Callable[[_Ranked], float]) -> list[Figure]:
        """What each says of these claims, and of resampled ones: contexts are drawn, each with all of its claims."""
        if not self.decides():
            return [Figure(None, None)] * len(measures)
        rng, n, found = np.random.default_rng(_SEED), self.contexts, list[list[float]]()
        for _ in range(_RESAMPLES if n > 1 else 0):
            times = np.bincount(rng.integers(n, size=n), minlength=n)
            drawn = replace(self, weight=times[self.context].astype(float))
            if drawn.decides():
                found.append([measure(drawn) for measure in measures])
        values = [measure(self) for measure in measures]
        if not found:
            return [Figure(value, None) for value in values]
        ends = np.quantile(found, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2), axis=0).T.tolist()
        return [Figure(value, (low, high)) for value, (low, high) in zip(values, ends, strict=True)]

    def _by_value(self) -> tuple[Values, Values]:
        """The weights of supported claims and of the others, by their places."""
        size = len(self.values)
        yes = np.bincount(self.place, self.weight * self.label, size).astype(float)
        return yes, np.bincount(self.place, self.weight, size) - yes


def _ranked(claims: Sequence[JudgedClaim]) -> _Ranked:
    supports = [claim.support or 0.0 for claim in claims]
    return _Ranked.of(supports, [c.supported for c in claims], [c.context for c in claims])


def _share_within(claims: Sequence[JudgedClaim], low: float, high: float) -> float:
    inside = [claim.support is not None and low <= round(claim.support, _DIGITS) <= high for claim in claims]
    return sum(inside) / len(inside)


def _hash(context: str) -> bytes:
    return blake2b(context.encode("utf-8", "surrogatepass")).digest()


def _plain(figure: Figure) -> dict[str, Any]:
    interval = None if figure.interval is None else [_rounded(end) for end in figure.interval]
    return {"value": _rounded(figure.value), "interval": interval}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
