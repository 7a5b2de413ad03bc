"""The metrics of the server, for Prometheus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from longreward.server.protocols.protocol import Outcome

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
CONNECTIONS = Gauge("longreward_connections", "Connections of clients", registry=_REGISTRY)
DROPPED = Counter(
    "longreward_dropped_connections",
    "Connections of clients that were too slow, by reason; no_room: closed for others",
    ["reason"],
    registry=_REGISTRY,
)
QUEUE = Gauge("longreward_queue_items", "Answers accepted and not yet replied to", registry=_REGISTRY)


def page() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(_REGISTRY)


def count(outcome: Outcome) -> None:
    """Enter a settled answer."""
    ITEMS.inc()
    VOID_ITEMS.inc(outcome.reward.total is None)
    for reason in outcome.reward.void_reasons.values():
        VOID.labels(reason).inc()


class JudgeMetrics(Collector):
    """The judge's own figures, asked for whenever the metrics are read."""

    def __init__(self, stats: Callable[[], Mapping[str, float]]) -> None:
        self._stats = stats
        _REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        stats = defaultdict(float, self._stats())
        yield GaugeMetricFamily("longreward_judge_in_flight", "Judge calls under way", stats["judge/in_flight"])
        for name, about, value in (
            ("calls", "Requests sent to the judge", stats["judge/requests"]),
            ("tokens", "Tokens used, prompt and completion", stats["judge/tokens"]),
            ("cost", "Cost by judge.price", stats["judge/cost"]),
        ):
            yield CounterMetricFamily(f"longreward_judge_{name}", about, value)
