"""How well a judge's scores agree with human preferences between two answers, with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean
from typing import Any, NamedTuple

from longreward.evaluation.intervals import Interval, paired_change
from longreward.schema import HumanPreference

CONFIDENCE = 0.95
_ROUNDING = 1e-9  # closer scores are equal: means of the same ratings can differ in the last bit


class Judged(NamedTuple):
    """A pair that a human has labelled, with the judge's score of each answer; None where it is void."""

    human: HumanPreference
    a: float | None
    b: float | None
    reason: str = ""
    """Why a score is void."""


@dataclass(frozen=True)
class Proportion:
    """`count` of `n`, where a count may end in a half."""

    count: float
    n: int

    @property
    def value(self) -> float | None:
        """The share, 0..1; None where n is 0."""
        return self.count / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's score interval at `CONFIDENCE`; None where n is 0.

        E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927), 209-212.
        The interval is made for yes and no. Halves vary less, so with them it is a little too wide. It assumes that the
        pairs are independent; several pairs about one document are not quite.
        """
        if not self.n:
            return None
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        share, shrink = self.count / self.n, 1 + z * z / self.n
        middle = (share + z * z / (2 * self.n)) / shrink
        half = z / shrink * math.sqrt(share * (1 - share) / self.n + z * z / (4 * self.n**2))
        return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Agreement:
    """How one score of the judge agrees with the humans.

    Judge ties count half in `share`, the headline: a judge that gives both answers the same score has guessed, and
    guessing should be at 50%. Without the ties (`decided`), a judge would gain by not deciding the hard pairs; with the
    ties counted as wrong, it would lose more than by guessing. Pairs that the humans call a tie have no right answer
    and are in neither.
    """

    agree: int = 0
    """Pairs in which the judge gives more to the answer that the human prefers."""
    disagree: int = 0
    judge_ties: int = 0
    """Pairs in which the human prefers an answer and the judge gives both the same."""
    human_ties: int = 0
    gap: float | None = None
    """Mean absolute difference between the two scores, over the pairs in which the human prefers an answer."""
    gap_of_human_ties: float | None = None
    """The same where the human prefers none. It should be smaller: the answers are about equally good."""
    void: Counter[str] = field(default_factory=Counter)
    """Pairs without a score for one answer or both, by reason. They count nowhere else."""

    @property
    def share(self) -> Proportion:
        """The headline: judge ties count half."""
        return Proportion(self.agree + self.judge_ties / 2, self.agree + self.disagree + self.judge_ties)

    @property
    def decided(self) -> Proportion:
        """The share among the pairs that both the human and the judge decide."""
        return Proportion(self.agree, self.agree + self.disagree)

    @property
    def ties(self) -> Proportion:
        """Judge ties among the pairs that the human decides."""
        return Proportion(self.judge_ties, self.share.n)

    def summary(self) -> dict[str, Any]:
        """As plain data for JSON; null where there is nothing to tell."""
        return {
            "n": self.share.n,
            "agree_ties_half": _plain(self.share),
            "agree_decided": _plain(self.decided),
            "judge_ties": _plain(self.ties),
            "human_ties": {"n": self.human_ties, "gap": _rounded(self.gap_of_human_ties)},
            "gap": _rounded(self.gap),
            "void": {"n": self.void.total(), "reasons": dict(self.void.most_common())},
        }


def agreement(pairs: Iterable[Judged]) -> Agreement:
    """Count the pairs. Which of two answers is called a does not matter."""
    verdicts: Counter[str] = Counter()
    void: Counter[str] = Counter()
    gaps: dict[bool, list[float]] = {True: [], False: []}
    for pair in pairs:
        if pair.a is None or pair.b is None:
            void[pair.reason] += 1
            continue
        judge = preference(pair.a, pair.b)
        decided = pair.human != "tie"
        gaps[decided].append(abs(pair.a - pair.b))
        if decided:
            verdicts["tie" if judge == "tie" else "agree" if judge == pair.human else "disagree"] += 1
    return Agreement(
        agree=verdicts["agree"],
        disagree=verdicts["disagree"],
        judge_ties=verdicts["tie"],
        human_ties=len(gaps[False]),
        gap=fmean(gaps[True]) if gaps[True] else None,
        gap_of_human_ties=fmean(gaps[False]) if gaps[False] else None,
        void=void,
    )


def difference(one: Sequence[Judged], other: Sequence[Judged]) -> Interval | None:
    """How much more often the first agrees with the humans, -1..1, on the pairs that both judge: two judgements of each
    pair, in the same order. Ties count half. None where there is no such pair."""
    first, second = ({i: c for i, c in enumerate(map(_credit, judged)) if c is not None} for judged in (one, other))
    found = paired_change(second, first)
    if found is None or found[1] is None or found[2] is None:
        return found
    return found[0], max(-1.0, found[1]), min(1.0, found[2]), found[3]


def _credit(pair: Judged) -> float | None:
    if pair.a is None or pair.b is None or pair.human == "tie":
        return None
    judge = preference(pair.a, pair.b)
    return 0.5 if judge == "tie" else float(judge == pair.human)


def preference(a: float, b: float) -> HumanPreference:
    """Which answer has the higher score."""
    if abs(a - b) < _ROUNDING:
        return "tie"
    return "a" if a > b else "b"


def _plain(share: Proportion) -> dict[str, Any]:
    interval = share.interval
    return {
        "count": share.count,
        "n": share.n,
        "share": _rounded(share.value),
        "interval": None if interval is None else [round(end, 4) for end in interval],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
