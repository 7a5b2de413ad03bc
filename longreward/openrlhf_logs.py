"""What OpenRLHF logs of a scored answer: the same keys for every answer, as OpenRLHF drops or mixes others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from longreward.errors import Reason
from longreward.schema import Reward

PREFIX = "longreward/"
"""All keys begin with it. Without it they could shadow OpenRLHF's own metrics."""
_JUDGE = {"p50_s": "p50_s", "p95_s": "p95_s", "cost": "run_cost"}


@dataclass(frozen=True)
class AnswerFigures:
    """The figures of a scored answer that a trainer needs. Its texts are in the store."""

    scores: dict[str, float] | None
    """`total` and each dimension, 0..10; None: void."""
    reasons: tuple[str, ...] = ()
    """Why it is void: those of its dimensions without a score, each once."""
    seconds: float = 0.0
    """Wall time of scoring it."""
    statements: int = 0
    thought_chars: int = 0
    """Characters of the answer that were left out as thoughts."""
    copied: float = 0.0
    """0..1: how much of the answer is copied from the document; 0 where that is not looked at."""
    calls: int = 0
    """Questions to the judge that it took."""
    free_calls: int = 0
    """Those that cost nothing: from the cache, shared with another answer, or read off the document."""
    noise: dict[str, float] = field(default_factory=dict)
    """The judge's own noise within groups by now, by the names of `scores`; empty where it is not measured."""
    judge: dict[str, float] = field(default_factory=dict)
    """The judge's `p50_s` and `p95_s` (seconds per call, lately) and the run's `cost` so far."""

    @classmethod
    def of(cls, reward: Reward, stats: Mapping[str, float], noise: dict[str, float] | None = None) -> AnswerFigures:
        """`stats` are the judge's own."""
        calls = reward.calls
        return cls(
            scores=reward.scores,
            reasons=tuple(dict.fromkeys(reward.void_reasons.values())),
            seconds=reward.seconds,
            statements=sum(len(d.statements) for d in reward.dimensions.values()),
            thought_chars=reward.thought_chars,
            copied=reward.copied,
            noise=noise or {},
            calls=len(calls),
            free_calls=sum(call.source != "judge" for call in calls),
            judge={name: stats.get(f"judge/{key}", 0.0) for name, key in _JUDGE.items()},
        )

    @property
    def reason(self) -> str:
        """The first reason why it is void; empty where it is not."""
        return next(iter(self.reasons), "")


def logs(
    figures: AnswerFigures, scores: Mapping[str, float], names: Sequence[str], reasons: Iterable[Reason] = Reason
) -> dict[str, float]:
    """One answer's logs. `scores` are those of `names` to train on: its own, or what stands for those of a void one.
    `reasons`: the reasons that have a key."""
    found: dict[str, float] = {name: scores[name] for name in names}
    found |= {"void": figures.scores is None}
    found |= {f"void_{reason}": reason in figures.reasons for reason in reasons}
    found |= {"judge_seconds": figures.seconds, "statements": figures.statements, "judge_calls": figures.calls}
    found |= {"thought_chars": figures.thought_chars, "copied": figures.copied}
    found |= {"free_calls": figures.free_calls / max(1, figures.calls)}
    found |= {f"judge_{name}": figures.judge.get(name, 0.0) for name in _JUDGE}
    return {PREFIX + name: float(value) for name, value in found.items()}


def void_reason(logs: Mapping[str, float]) -> str:
    """Why an answer is void, by its logs; empty where they do not tell."""
    return next((str(reason) for reason in Reason if logs.get(f"{PREFIX}void_{reason}")), "")
