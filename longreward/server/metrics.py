"""What Prometheus is told, summed up over all worker processes: import this once PROMETHEUS_MULTIPROC_DIR is set."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from longreward.server.openrlhf_protocol import Outcome

REQUESTS = Counter("longreward_requests", "Requests by status; health, readiness and metrics not counted", ["status"])
ITEMS = Counter("longreward_items", "Answers replied to, void ones included")
VOID = Counter("longreward_void", "Void dimensions of answers, by reason", ["reason"])
VOID_ITEMS = Counter("longreward_void_items", "Answers without a score of their own")
SECONDS = Histogram(
    "longreward_request_seconds",
    "From a request's arrival to its reply, of those that got rewards",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 90, 120, 150, 180),
)
IN_FLIGHT = Gauge("longreward_requests_in_flight", "Requests under way", multiprocess_mode="livesum")
QUEUE = Gauge("longreward_queue_items", "Answers accepted and not yet replied to", multiprocess_mode="livesum")
JUDGE_IN_FLIGHT = Gauge("longreward_judge_in_flight", "Judge calls under way", multiprocess_mode="livesum")
JUDGE_CALLS = Counter("longreward_judge_calls", "Requests sent to the judge")
JUDGE_TOKENS = Counter("longreward_judge_tokens", "Tokens used, prompt and completion")
JUDGE_COST = Counter("longreward_judge_cost", "Cost by judge.price")
_TOTALS = {"judge/requests": JUDGE_CALLS, "judge/tokens": JUDGE_TOKENS, "judge/cost": JUDGE_COST}


def page() -> bytes:
    """All metrics of all processes, in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)


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
