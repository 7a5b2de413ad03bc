"""What Prometheus is told."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from longreward.server.openrlhf_protocol import Outcome

disable_created_metrics()  # a series more for each counter
_REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "longreward_requests",
    "Requests by status; health, readiness and metrics not counted",
    ["status"],
    registry=_REGISTRY,
)
ITEMS = Counter("longreward_items", "Answers replied to, void ones included", registry=_REGISTRY)
VOID = Counter("longreward_void", "Void dimensions of answers, by reason", ["reason"], registry=_REGISTRY)
VOID_ITEMS = Counter("longreward_void_items", "Answers without a score of their own", registry=_REGISTRY)
SECONDS = Histogram(
    "longreward_request_seconds",
    "From a request's arrival to its reply, of those that got rewards",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 90, 120, 150, 180),
    registry=_REGISTRY,
)
IN_FLIGHT = Gauge("longreward_requests_in_flight", "Requests under way", registry=_REGISTRY)
QUEUE = Gauge("longreward_queue_items", "Answers accepted and not yet replied to", registry=_REGISTRY)
JUDGE_IN_FLIGHT = Gauge("longreward_judge_in_flight", "Judge calls under way", registry=_REGISTRY)
JUDGE_CALLS = Counter("longreward_judge_calls", "Requests sent to the judge", registry=_REGISTRY)
JUDGE_TOKENS = Counter("longreward_judge_tokens", "Tokens used, prompt and completion", registry=_REGISTRY)
JUDGE_COST = Counter("longreward_judge_cost", "Cost by judge.price", registry=_REGISTRY)
_TOTALS = {"judge/requests": JUDGE_CALLS, "judge/tokens": JUDGE_TOKENS, "judge/cost": JUDGE_COST}


def page() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(_REGISTRY)


def count(outcome: Outcome) -> None:
    """Enter a settled answer."""
    ITEMS.inc()
    VOID_ITEMS.inc(outcome.reward.total is None)
    for reason in outcome.reward.void_reasons.values():
        VOID.labels(reason).inc()


class JudgeMeter:
    """Enters what the judge has done since the last time."""

    def __init__(self) -> None:
        self._seen = dict.fromkeys(_TOTALS, 0.0)

    def read(self, stats: Mapping[str, float]) -> None:
        for name, counter in _TOTALS.items():
            now = stats.get(name, 0.0)
            counter.inc(max(0.0, now - self._seen[name]))
            self._seen[name] = now
        JUDGE_IN_FLIGHT.set(stats.get("judge/in_flight", 0.0))
