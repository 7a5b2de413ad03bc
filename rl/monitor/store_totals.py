"""What a run's store adds up to, over all its parts: the workers' own counts begin anew when one is restarted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longreward import jsonlines
from longreward.schema import Usage


@dataclass
class Totals:
    """Scored answers, held-out ones included, and what they cost."""

    answers: int = 0
    void: Counter[str] = field(default_factory=Counter)
    """Void answers by reason."""
    usage: Usage = field(default_factory=Usage)

    @property
    def void_rate(self) -> float:
        """0..1, of all answers."""
        return self.void.total() / max(1, self.answers)


def of_store(folder: Path) -> Totals:
    """Read all records in the run's `store/`. An answer that was scored twice because its worker died counts once, what
    it cost twice."""
    totals = Totals()
    reasons: dict[tuple[str | None, str | None], str] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for _, record in jsonlines.read(path, broken=[]):
            totals.usage += _usage(record)
            void = (d["status"] for d in record["dimensions"].values() if d.get("score") is None)
            reason = next(void, "unknown") if record.get("total") is None else ""
            answer = record.get("rollout"), record.get("query")
            # Judged again, it is what it was found to be then.
            reasons[answer] = reason and reasons.get(answer, reason)
    totals.answers = len(reasons)
    totals.void.update(reason for reason in reasons.values() if reason)
    return totals


def _usage(record: dict[str, Any]) -> Usage:
    calls = [c for d in record["dimensions"].values() for c in _calls(d)]
    return sum((Usage(**call["usage"]) for call in calls if call.get("usage")), Usage())


def _calls(dimension: dict[str, Any]) -> list[dict[str, Any]]:
    return [*dimension.get("calls", []), *(statement["call"] for statement in dimension.get("statements", []))]
