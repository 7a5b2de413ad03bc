"""The judge's endpoints as one: who sends a request where, and when. Queues, routing, fail-over, fairness."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

from longreward.errors import JudgeError, Reason
from longreward.judge.base import JudgeStatus
from longreward.judge.engine.clocks import Standstill
from longreward.judge.engine.endpoint import Endpoint, Permit, Urgency, Waiter
from longreward.judge.engine.spend_cap import Amount, Spend

_log = logging.getLogger("longreward.judge")

_MOST_LOADED = 1.25
"""An endpoint gets at most so many times its fair share of the load (consistent hashing with bounded loads)."""
_NOT_WORTH_MOVING = 0.25
"""Below this share of its places an endpoint keeps all its documents: nobody waits, and its prefix cache knows them."""
_FIRST_PATIENCE_S = 15.0


class Endpoints:
    """Routes requests by document, within every endpoint's limits and health and within the spend.

    All calls on one document prefer the same endpoint (rendezvous hashing); one that has more than its fair share of
    the load, or is unwell, is passed over, and one that is idle takes over others' work. While no endpoint is well,
    requests wait, but no longer than `patience_s` (15 s at most while none has ever worked), or for `max_outage_s`
    where that is given: then the calls' own clocks stand still in the meantime.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], spend: Spend, patience_s: float, max_outage_s: float | None = None
    ) -> None:
        self._endpoints = list(endpoints)
        self.spend = spend
        spend.on_change = self._spend_changed
        self.standstill = Standstill()
        self._patience_s = patience_s
        self._max_outage_s = max_outage_s
        self._give_up: asyncio.TimerHandle | None = None
        self._gave_up = False

    @property
    def patience_s(self) -> float:
        """How long a call may wait for endpoints that fail: less while none has ever worked, because that is rather a
        wrong address than a judge that is away for a moment."""
        if self._max_outage_s is not None:
            return self._max_outage_s
        return self._patience_s if any(e.health.worked for e in self) else min(self._patience_s, _FIRST_PATIENCE_S)

    def status(self) -> JudgeStatus:
        """How all of them together are doing."""
        no_hope = self._gave_up or all(e.health.refuses_us for e in self)
        return JudgeStatus(
            given_up=str(self._refusal()) if no_hope else None,
            spent=self.spend.reached,
            paused=self.spend.paused,
            stood_still_s=self.standstill.ended_ago(asyncio.get_running_loop().time()),
        )

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints)

    async def enter(
        self,
        document: str,
        tokens: float,
        most: Callable[[], Amount],
        *,
        avoid: Endpoint | None = None,
        urgency: Urgency = Urgency.NORMAL,
    ) -> Permit:
        """Wait for a place.

        JudgeError where no endpoint will serve it: all refuse us, none has come back, or the spend cap is reached.
        """
        if self.spend.refuses:
            raise self._spent()
        waiter = Waiter(document, tokens, most, avoid, urgency, asyncio.get_running_loop().create_future())
        self._enqueue(waiter, self._choose(waiter))
        try:
            return await waiter.permit
        except asyncio.CancelledError:
            if waiter.permit.done() and not waiter.permit.cancelled() and not waiter.permit.exception():
                self.leave(waiter.permit.result(), None, Amount(), heard=False)
            elif waiter.endpoint is not None:
                waiter.endpoint.waiting -= 1
                self.spend.wanted = None  # it may have been this one's wish
                self._pump(waiter.endpoint)
            raise

    def leave(
        self, permit: Permit, failure: JudgeError | None, used: Amount, *, reported: bool = True, heard: bool = True
    ) -> None:
        """The request is over and has used so much, by the endpoint's own count if `reported`.

        `heard` is False where it was broken off from our side, which says nothing about the endpoint.
        """
        endpoint, now = permit.endpoint, asyncio.get_running_loop().time()
        reason = failure.reason if failure else None
        endpoint.concurrency.end(permit.serial, reason)
        if reported:
            endpoint.tokens.settle(permit.tokens, used.tokens)
        self.spend.settle(permit.reserved, used)
        if heard and failure is None:
            endpoint.last_served = now
        if not heard:
            endpoint.health.broken_off(permit.serial)
        else:
            if endpoint.health.ended(permit.serial, endpoint.concurrency.last_serial, failure, now):
                self._health_changed(endpoint)
            endpoint.announce()
            self._watch_for_all_down()
        if self.spend.wanted is None:
            self._pump(endpoint)
        else:
            self.pump_all()

    def has_other(self, endpoint: Endpoint) -> bool:
        """Whether another endpoint could take a request now."""
        now = asyncio.get_running_loop().time()
        return any(e is not endpoint and e.health.wait(now) == 0 for e in self._endpoints)

    def refuses_us(self, endpoint: Endpoint) -> bool:
        """Whether neither this endpoint nor any other will take a request that this one has just refused."""
        return endpoint.health.refuses_us and not any(
            e is not endpoint and not e.health.refuses_us for e in self._endpoints
        )

    def pump_all(self) -> None:
        """Let requests leave that may leave now; where the spend cap is reached, fail them."""
        if self.spend.refuses:
            for waiter in self._everyone():
                waiter.permit.set_exception(self._spent())
        for endpoint in self._endpoints:
            self._pump(endpoint)

    def aclose(self) -> None:
        for handle in [self._give_up, *(e.timer for e in self._endpoints)]:
            if handle is not None:
                handle.cancel()

    def _choose(self, waiter: Waiter) -> Endpoint:
        """The endpoint for a request: by document, less those that are unwell or have more than their share."""
        if len(self._endpoints) == 1:
            ranked = self._endpoints
        else:
            ranked = sorted(self._endpoints, key=lambda e: _rank(e.name, waiter.document), reverse=True)
        now = asyncio.get_running_loop().time()
        open_to_us = [e for e in ranked if not e.health.refuses_us or e.health.wait(now) == 0]
        if not open_to_us:
            raise self._refusal()
        well = [e for e in open_to_us if e.health.wait(now) == 0]
        if not well:
            return min(open_to_us, key=lambda e: e.health.wait(now))
        well = [e for e in well if e is not waiter.avoid] or well
        total = sum(e.load for e in well) + 1
        places = sum(max(1, e.concurrency.limit) for e in well)
        for endpoint in well:
            places_here = max(1, endpoint.concurrency.limit)
            fair = total * places_here / places
            if endpoint.load < max(math.ceil(_MOST_LOADED * fair), _NOT_WORTH_MOVING * places_here):
                return endpoint
        return min(well, key=lambda e: e.load)

    def _enqueue(self, waiter: Waiter, endpoint: Endpoint) -> None:
        waiter.endpoint = endpoint
        endpoint.waiting += 1
        endpoint.queues[waiter.urgency].append(waiter)
        self._pump(endpoint)
        if endpoint.waiting:
            for other in self._endpoints:
                if other is not endpoint and not other.waiting:
                    self._pump(other)

    def _pump(self, endpoint: Endpoint) -> None:
        """Let requests leave for `endpoint` as long as it has room; see to it that this is called again in time."""
        loop = asyncio.get_running_loop()
        while True:
            waiter = endpoint.first() or self._steal(endpoint)
            if waiter is None or self.spend.reached:
                return
            wait = endpoint.wait(waiter.tokens, loop.time())
            if wait > 0:
                self._wake(endpoint, wait)
                return
            most = waiter.most()
            if not self.spend.reserve(most):
                self._look_at_the_cap(most)
                return
            self._start(waiter, endpoint, most)

    def _look_at_the_cap(self, most: Amount) -> None:
        """See whether the cap is reached: what is left does not pay for the request in front of the queue."""
        # While requests are under way they may give back some of what they have reserved.
        if not any(e.concurrency.in_flight for e in self._endpoints) and not self.spend.pays_for(most):
            self.spend.reached = True
            _log.warning("%s", self._spent())
            self._clocks()
            asyncio.get_running_loop().call_soon(self.pump_all)

    def _wake(self, endpoint: Endpoint, wait: float) -> None:
        """Pump again after `wait` seconds, or sooner if that is planned already."""
        loop = asyncio.get_running_loop()
        if endpoint.timer is not None:
            if endpoint.timer.when() <= loop.time() + wait:
                return
            endpoint.timer.cancel()
            endpoint.timer = None
        if wait < math.inf:
            endpoint.timer = loop.call_later(wait, self._timer, endpoint)

    def _timer(self, endpoint: Endpoint) -> None:
        endpoint.timer = None
        self._pump(endpoint)

    def _start(self, waiter: Waiter, endpoint: Endpoint, reserved: Amount) -> None:
        source = waiter.endpoint
        assert source is not None
        source.waiting -= 1
        source.queues[waiter.urgency].popleft()
        endpoint.requests.take(1)
        endpoint.tokens.take(waiter.tokens)
        serial = endpoint.concurrency.begin()
        endpoint.health.began(serial)
        waiter.endpoint = None
        waiter.permit.set_result(Permit(endpoint, serial, waiter.tokens, reserved))

    def _steal(self, endpoint: Endpoint) -> Waiter | None:
        """Another endpoint's next request, while this one has nothing to do."""
        if len(self._endpoints) == 1 or endpoint.health.failure is not None:
            return None
        others = [e for e in self._endpoints if e is not endpoint and e.waiting]
        busiest = max(others, key=lambda e: e.waiting, default=None)
        waiter = busiest.first() if busiest is not None else None
        if waiter is None or busiest is None:
            return None
        # A request that has just failed here goes elsewhere, if there is an elsewhere.
        return None if waiter.avoid is endpoint and busiest.health.failure is None else waiter

    def _health_changed(self, endpoint: Endpoint) -> None:
        """Let those who wait for an endpoint that has become unwell go elsewhere."""
        if endpoint.health.failure is None:
            return
        for waiter in endpoint.take_all():
            try:
                target = self._choose(waiter)
            except JudgeError as refusal:
                waiter.permit.set_exception(refusal)
            else:
                self._enqueue(waiter, target)

    def _watch_for_all_down(self) -> None:
        down = all(e.health.failure is not None for e in self._endpoints)
        if not down:
            if self._give_up is not None:
                self._give_up.cancel()
            self._give_up, self._gave_up = None, False
        elif self._gave_up:
            self._fail_everyone()
        elif self._give_up is None:
            self._give_up = asyncio.get_running_loop().call_later(self.patience_s, self._out_of_patience)
        self._clocks()

    def _out_of_patience(self) -> None:
        self._gave_up = True
        self._clocks()
        self._fail_everyone()

    def _spend_changed(self) -> None:
        self._clocks()
        self.pump_all()

    def _clocks(self) -> None:
        """Stop the calls' clocks, or let them go on."""
        outage = self._max_outage_s is not None and self._give_up is not None and not self._gave_up
        self.standstill.set(self.spend.paused or outage, asyncio.get_running_loop().time())

    def _fail_everyone(self) -> None:
        for waiter in self._everyone():
            waiter.permit.set_exception(self._refusal())

    def _everyone(self) -> list[Waiter]:
        """All who wait, taken out of their queues."""
        return [waiter for endpoint in self._endpoints for waiter in endpoint.take_all()]

    def _refusal(self) -> JudgeError:
        """Why no endpoint takes anything, in the words of the one that failed last for good, or else for now."""
        failures = [(e.health.refuses_us, e.name, e.health.failure) for e in self._endpoints if e.health.failure]
        _, name, failure = max(failures, key=lambda f: f[0], default=(False, "", None))
        assert failure is not None
        return JudgeError(failure.reason, detail=f"{name}: {failure.detail}")

    def _spent(self) -> JudgeError:
        used = self.spend.used
        return JudgeError(
            Reason.SPEND_CAP,
            detail=f"judge.spend is used up ({used.cost:.4g} in money, {used.tokens:.0f} tokens): the next call could "
            "go past it; raise judge.spend.max_cost or judge.spend.max_tokens and run again",
        )


def _rank(endpoint: str, document: str) -> bytes:
    return blake2b(f"{endpoint}\0{document}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
