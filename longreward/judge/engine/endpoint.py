"""One endpoint of the judge: its limits, its health, and the requests that wait for it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from longreward.judge.engine.hedging import Hedging, Sort
from longreward.judge.engine.limits import AdaptiveConcurrency, Health, RateBucket
from longreward.judge.engine.spend_cap import Amount
from longreward.judge.protocol.client import EndpointClient
from longreward.judge.protocol.request_form import RequestForm
from longreward.judge.protocol.silent_cut import SilentCuts
from longreward.model_config import EndpointConfig

_log = logging.getLogger("longreward.judge")

_FLOW_KEPT = 1024
_BESIDE = 16  # requests before one and after it
_LATE_BY_LOAD = 0.35
"""Share of late requests that means load. By chance a fifth is late, or less (`judge.hedge.quantile`)."""


class Urgency(IntEnum):
    """The order in a queue. Requests of one urgency leave in the order of their arrival."""

    AGAIN = 0
    """Another attempt at a call, whose time runs already, or a second request for one that is late."""
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
    beside: Endpoint | None = None
    """The endpoint where the same request is under way: this one need not be made."""
    endpoint: Endpoint | None = None


@dataclass(eq=False, slots=True)
class Permit:
    """The right to send one request to `endpoint` now. Give it back with `Endpoints.leave`."""

    endpoint: Endpoint
    serial: int
    tokens: float
    reserved: Amount
    fresh: bool = False
    """By a connection of its own: the endpoint's others may lead to a server that hangs."""
    sent: dict[str, Any] = field(default_factory=dict)
    """The fields of the request, beside model and messages."""
    scope: asyncio.Timeout | None = None
    """Ends the request while it is out."""
    sort: Sort = ("", 0)
    at: float = 0.0
    """When the request left, by the event loop's clock."""
    served: bool = False
    broken_off: bool = False
    """Whether we ended the request, for another one that is better."""
    answered_at: Endpoint | None = None
    """The endpoint whose answer to another request for the same came first."""

    def break_off(self, answered_at: Endpoint | None = None) -> None:
        """End the request, if it is out. `answered_at` has answered another request for the same."""
        if self.scope is not None and not self.broken_off:
            self.broken_off, self.answered_at = True, answered_at
            self.scope.reschedule(asyncio.get_running_loop().time())


class Flow:
    """An endpoint's latest requests: which have been served, and which are late."""

    def __init__(self) -> None:
        self._sent: dict[int, Permit] = {}
        self._last = 0

    def began(self, permit: Permit) -> None:
        """Its request leaves now. The serial numbers rise by one."""
        self._sent[permit.serial] = permit
        self._last = permit.serial
        self._sent.pop(permit.serial - _FLOW_KEPT, None)

    def ended(self, permit: Permit, *, served: bool) -> None:
        """It was served, or it has failed. One that was broken off has not ended: it was late, and still is."""
        permit.served = served
        if not served:
            self._sent.pop(permit.serial, None)

    def is_in_time(self, hedging: Hedging, now: float, serial: int | None = None) -> bool:
        """Whether most of the requests beside this one, or of the latest where none is given, were served by now, or
        are not late."""
        middle = self._last if serial is None else serial
        beside = (self._sent.get(n) for n in range(middle - _BESIDE, middle + _BESIDE + 1) if n != serial)
        known = [sent for sent in beside if sent is not None and (sent.served or self._is_late(sent, hedging, now))]
        return sum(not sent.served for sent in known) <= _LATE_BY_LOAD * len(known)

    @staticmethod
    def _is_late(sent: Permit, hedging: Hedging, now: float) -> bool:
        return not sent.served and now - sent.at > hedging.patience(sent.sort, now)


class Endpoint:
    """One endpoint's limits, health and queue."""

    def __init__(self, config: EndpointConfig, client: EndpointClient, form: RequestForm | None = None) -> None:
        self.name, self.client, self.form = config.base_url, client, form or RequestForm()
        self.concurrency = AdaptiveConcurrency(config.max_in_flight or 1)
        self.requests = RateBucket(config.requests_per_minute)
        self.tokens = RateBucket(config.tokens_per_minute)
        self.health = Health()
        self.cuts = SilentCuts()
        self.flow = Flow()
        self.queues: tuple[deque[Waiter], ...] = tuple(deque() for _ in Urgency)
        self.waiting = 0  # requests in the queues, without the cancelled ones
        self.timer: asyncio.TimerHandle | None = None
        self.last_served = 0.0
        """When it last gave a good reply, by the event loop's clock."""
        self.last_refused = -math.inf
        """When it last asked for fewer requests."""
        self._announced = False

    @property
    def load(self) -> int:
        return self.concurrency.in_flight + self.waiting

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a request of so many tokens may leave; infinity while every place is taken."""
        # Those under way tell as well whether a first refusal was about us.
        if self.concurrency.in_flight >= (1 if self.health.suspected else self.concurrency.limit):
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
        if failure is None and self._announced:
            _log.warning("judge endpoint %s answers again", self.name)
            self._announced = False
        elif failure is not None and not self._announced and (self.health.refuses_us or self.health.pauses > 1):
            _log.warning("judge endpoint %s is not asked for a while: %s", self.name, failure)
            self._announced = True

    def take_all(self) -> list[Waiter]:
        """All requests that wait, taken out of the queues."""
        waiters = [waiter for queue in self.queues for waiter in queue if not waiter.permit.done()]
        for queue in self.queues:
            queue.clear()
        for waiter in waiters:
            waiter.endpoint = None
        self.waiting -= len(waiters)  # a request that was just cancelled counts itself out
        return waiters
