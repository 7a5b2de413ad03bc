"""What a run's store adds up to, over all its parts: the workers' own counts begin anew when one is restarted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from longreward import store
from longreward.schema import OK, ScoredAnswer, Usage


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
    """Read all records in the run's `store/`. An answer that was scored twice, because its worker died, counts once;
    its cost counts twice."""
    totals = Totals()
    found: dict[tuple[str, str], tuple[tuple[bool, float], str]] = {}
    for path in store.files(folder):
        for _, _, record in store.read(path, [], ScoredAnswer):
            totals.usage += record.usage
            answer, this = (record.rollout, record.query), (store.rank(record.total, record.time), record.status)
            found[answer] = max(found.get(answer, this), this)
    totals.answers = len(found)
    totals.void.update(status for _, status in found.values() if status != OK)
    return totals
