"""What an alarm of a report is."""

from __future__ import annotations

from dataclasses import dataclass, field

from longreward.report.reading.table import Column

EXAMPLES = 8


@dataclass
class Alarm:
    """`level` is `alarm` or `note`. `filter` opens the answers page with these answers; `examples` are rows."""

    id: str
    title: str
    meaning: str
    action: str
    figures: list[str]
    filter: dict[str, str] = field(default_factory=dict)
    examples: list[int] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    level: str = "alarm"


def examples(rows: Column) -> list[int]:
    return [int(row) for row in rows[:EXAMPLES]]
