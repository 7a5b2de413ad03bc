"""One endpoint of the judge: its limits, its health, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from longreward.config import EndpointConfig
from longreward.judge.engine.client import EndpointClient
from longreward.judge.engine.limits import AdaptiveConcurrency, Health, RateBucket
from longreward.judge.engine.spend_cap import Amount

_log = logging.getLogger("longreward.judge")


class Urgency(IntEnum):
    """The order in a queue. Requests of one urgency leave in the order of their arrival."""

    AGAIN = 0
    """Another attempt at a call, whose time runs already."""
    FIRST = 1
    """A call whose reply other calls wait for."""
    NORMAL = 2


@dataclass(eq=False, slots=True)
class Waiter:
    """A request in a queue."""

    document: str
    tokens: float
    """Expected tokens, prompt and completion."""
    most: Callable[[], Amount]
    """The most that it can cost, as far as is known now."""
    avoid: Endpoint | None
    """The endpoint where it has just failed."""
    urgency: Urgency
    permit: asyncio.Future[Permit]
    endpoint: Endpoint | None = None


@dataclass(eq=False, slots=True)
class Permit:
    """The right to send one request to `endpoint` now. Give it back with `Endpoints.leave`."""

    endpoint: Endpoint
    serial: int
    tokens: float
    reserved: Amount


@dataclass(eq=False)
class Endpoint:
    """One endpoint's limits, health and queue."""

    name: str
    client: EndpointClient
    concurrency: AdaptiveConcurrency
    requests: RateBucket
    tokens: RateBucket
    health: Health = field(default_factory=Health)
    queues: tuple[deque[Waiter], ...] = field(default_factory=lambda: tuple(deque() for _ in Urgency))
    waiting: int = 0  # requests in the queues, without the cancelled ones
    timer: asyncio.TimerHandle | None = None
    announced: bool = False
    last_served: float = 0.0
    """When it last gave a good reply, by the event loop's clock."""

    @classmethod
    def of(cls, config: EndpointConfig, client: EndpointClient) -> Endpoint:
        return cls(
            config.base_url,
            client,
            AdaptiveConcurrency(config.max_in_flight or 1),
            RateBucket(config.requests_per_minute),
            RateBucket(config.tokens_per_minute),
        )

    @property
    def load(self) -> int:
        return self.concurrency.in_flight + self.waiting

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request of so many tokens may leave; infinity while every place is taken."""
        if not self.concurrency.has_room:
            return math.inf
        return max(self.health.wait(now), self.requests.wait(1, now), self.tokens.wait(tokens, now))

    def first(self) -> Waiter | None:
        """The request that leaves next."""
        for queue in self.queues:
            while queue and queue[0].permit.done():
                queue.popleft()
            if queue:
                return queue[0]
        return None

    def announce(self) -> None:
        """Log once that the endpoint is away for longer than a moment, and once that it is back."""
        failure = self.health.failure
        if failure is None and self.announced:
            _log.warning("judge endpoint %s answers again", self.name)
            self.announced = False
        elif failure is not None and not self.announced and (self.health.refuses_us or self.health.pauses > 1):
            _log.warning("judge endpoint %s is not asked for a while: %s", self.name, failure)
            self.announced = True

    def take_all(self) -> list[Waiter]:
        """All requests that wait, taken out of the queues."""
        waiters = [waiter for queue in self.queues for waiter in queue if not waiter.permit.done()]
        for queue in self.queues:
            queue.clear()
        for waiter in waiters:
            waiter.endpoint = None
        self.waiting -= len(waiters)  # a request that was just cancelled counts itself out
        return waiters
