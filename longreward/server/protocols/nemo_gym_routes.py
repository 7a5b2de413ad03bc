"""What NeMo Gym asks a resources server beside rewards: sessions, of which this one has none, and means over a run."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from longreward.server.protocols.protocol import SideRoute, validated_json

_LARGEST = 1e100  # the square of a larger one is no float


def with_rollout_id(path: str) -> tuple[str, str]:
    """The path, and the one that Gym asks instead while it observes a run."""
    return path, f"/ng-rollout/{{rollout_id}}{path}"


class Session(BaseModel):
    """Whatever Gym tells of a session. Nothing is kept of it, as every answer is scored by itself."""

    resources_session_id: str | None = None
    """Comes back, where it is given."""


class VerifiedRow(BaseModel):
    """A reply of /verify, with or without its longest fields."""

    model_config = ConfigDict(extra="allow")
    task: int = Field(0, alias="_ng_task_index")
    rollout: int = Field(0, alias="_ng_rollout_index")
    mask_sample: bool | None = None
    response: dict[str, Any] | None = None


class VerifiedRows(BaseModel):
    verify_responses: list[VerifiedRow]


class Means(BaseModel):
    """Mean, largest, smallest, median and standard deviation of each number in the rows that are not masked."""

    group_level_metrics: list[dict[str, int | float]]
    """For each task that has such rows."""
    agent_metrics: dict[str, int | float]
    """Over all tasks. Where rows are masked, `coverage/...` tells how many."""
    key_metrics: dict[str, int | float]
    """The means and the coverage."""
    repeat_level_metrics: list[dict[str, float]] = []
    """None are computed."""


def means(rows: list[VerifiedRow]) -> Means:
    """A masked row is no measurement: it counts in no mean."""
    measured = [row for row in rows if not row.mask_sample]
    by_task: dict[int, list[VerifiedRow]] = defaultdict(list)
    for row in measured:
        by_task[row.task].append(row)
    agent: dict[str, int | float] = {**_statistics(measured), "num_repeats": len({row.rollout for row in rows})}
    coverage: dict[str, int] = {}
    if len(measured) < len(rows):
        coverage = {
            "coverage/measured_rollouts": len(measured),
            "coverage/masked_rollouts": len(rows) - len(measured),
            "coverage/measured_tasks": len(by_task),
            "coverage/fully_masked_tasks": len({row.task for row in rows} - by_task.keys()),
        }
    return Means(
        group_level_metrics=[
            {"_ng_task_index": task, "num_rollouts": len(group), **_statistics(group)}
            for task, group in sorted(by_task.items())
        ],
        agent_metrics={**agent, **coverage},
        key_metrics={**{name: value for name, value in agent.items() if name.startswith("mean/")}, **coverage},
    )


def _statistics(rows: list[VerifiedRow]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        usage = (row.response or {}).get("usage")
        for name, value in [*(row.model_extra or {}).items(), *(usage if isinstance(usage, dict) else {}).items()]:
            if isinstance(value, int | float) and abs(value) < _LARGEST and not name.startswith("_"):
                values[name].append(float(value))
    found: dict[str, float] = {}
    for name, each in values.items():
        found |= {f"mean/{name}": float(np.mean(each)), f"max/{name}": max(each), f"min/{name}": min(each)}
        spread = float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
        found |= {f"median/{name}": float(np.median(each)), f"std/{name}": spread}
    return found


def _session(body: bytes) -> dict[str, str]:
    return {name: value for name, value in validated_json(Session, body) if value is not None}


def _aggregate(body: bytes) -> Means:
    return means(validated_json(VerifiedRows, body).verify_responses)


# Gym's single_agent_turn takes a reply without a cookie for a failure.
_COOKIE = {"Set-Cookie": "longreward=none; Path=/; HttpOnly; SameSite=Strict"}
_ROUTES = {
    "/seed_session": SideRoute("Begin a session for NeMo Gym", _session, Session, Session, _COOKIE),
    "/close_session": SideRoute("End a session for NeMo Gym", _session, Session, Session),
    "/aggregate_metrics": SideRoute("Means over a run for NeMo Gym", _aggregate, Means, VerifiedRows),
    "/reverify_mode": SideRoute("Whether NeMo Gym may score again", lambda _: "stateless", Literal["stateless"]),
}
beside = {each: route for path, route in _ROUTES.items() for each in with_rollout_id(path)}
