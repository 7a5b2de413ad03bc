"""All endpoints of the judge together: which request goes to which endpoint, and when it may leave."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence

from longreward.errors import JudgeError, Reason
from longreward.judge.base import JudgeStatus
from longreward.judge.engine.clocks import Standstill
from longreward.judge.engine.endpoint import Endpoint, Permit, Urgency, Waiter
from longreward.judge.engine.hedging import Hedging
from longreward.judge.engine.outage import Outage
from longreward.judge.engine.routing import for_another, for_document
from longreward.judge.engine.spend_cap import Amount, Spend
from longreward.model_config import HedgeConfig

_log = logging.getLogger("longreward.judge")


class Endpoints:
    """Routes requests by document, within the limits and the health of every endpoint and within the spend.

    Which endpoint serves a document `routing` says. An idle endpoint takes requests that wait for another one. While no
    endpoint is well, requests wait as `Outage` says.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        spend: Spend,
        patience_s: float,
        max_outage_s: float | None = None,
        hedging: Hedging | None = None,
    ) -> None:
        self._endpoints, self._hedging = list(endpoints), hedging or Hedging(HedgeConfig())
        self.spend = spend
        spend.listeners.append(self._spend_changed)
        self.standstill = Standstill()
        self.outage = Outage(self._endpoints, patience_s, max_outage_s, self._outage_changed)

    def status(self) -> JudgeStatus:
        """How all of them together are doing."""
        why = self._refusal() if self.outage.given_up or self.refuse_us else None
        return JudgeStatus(
            given_up=str(why) if why else None,
            reason=why.reason if why else None,
            adapted=tuple(f"{e.name} {told}" for e in self._endpoints if (told := str(e.form))),
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
        """Wait until a request may leave, and return the right to send it.

        The request is about `document` and takes about `tokens`; `most()` is what it can cost at most. `avoid` is the
        endpoint where it has just failed. JudgeError when no endpoint will serve it: all refuse us, none has come back
        in time, or the spend cap is reached.
        """
        if self.spend.refuses:
            raise self._spent()
        waiter = Waiter(document, tokens, most, avoid, urgency, asyncio.get_running_loop().create_future())
        return await self._permitted(waiter, self._chosen(waiter))

    def beside(self, permit: Permit, document: str, most: Callable[[], Amount]) -> Coroutine[None, None, Permit] | None:
        """The right to send the request of `permit`, which is late, once more, as soon as there is a place for it: at
        another endpoint, or at the same where there is none. None where that would be of no use, or past the budget or
        the spend, and where its endpoint has been left: then the request is broken off, to be asked elsewhere."""
        now, hedging, failure = asyncio.get_running_loop().time(), self._hedging, permit.endpoint.health.failure
        if failure is not None and failure.reason is Reason.TIMEOUT and self.has_other(permit.endpoint):
            permit.break_off()
            return None
        if not hedging.affordable:
            return None
        endpoint = for_another(self._endpoints, permit, document, hedging, now)
        if endpoint is None:
            return None
        place = asyncio.get_running_loop().create_future()
        waiter = Waiter(document, permit.tokens, most, None, Urgency.AGAIN, place, beside=permit.endpoint)
        return self._permitted(waiter, endpoint)

    def leave(
        self,
        permit: Permit,
        failure: JudgeError | None,
        used: Amount,
        *,
        reported: bool = True,
        heard: bool = True,
        prompt: str | None = None,
    ) -> None:
        """The request is over and has cost `used`; `reported` says that the endpoint itself counted that.

        `heard` is False when we broke the request off, which says nothing about the endpoint. `prompt` is what was
        asked.
        """
        endpoint, now = permit.endpoint, asyncio.get_running_loop().time()
        if permit.answered_at not in (None, endpoint) and endpoint.last_served < permit.at:
            heard, failure = True, JudgeError(Reason.TIMEOUT, detail="it answers nothing, and other endpoints do")
        reason = failure.reason if failure else None
        if reason is Reason.RATE_LIMITED:
            endpoint.last_refused = now
        if not permit.broken_off:
            endpoint.flow.ended(permit, served=heard and failure is None)
        endpoint.concurrency.end(permit.serial, reason)
        if reported:
            endpoint.tokens.settle(permit.tokens, used.tokens)
        self.spend.settle(permit.reserved, used)
        if heard and failure is None:
            endpoint.last_served = now
        if not heard:
            endpoint.health.broken_off(permit.serial)
        else:
            if endpoint.health.ended(permit.serial, endpoint.concurrency.last_serial, failure, now, prompt):
                self._health_changed(endpoint)
            endpoint.announce()
            self.outage.look()
        if self.spend.wanted is None:
            self._pump(endpoint)
        else:
            self.spend.changed()

    def has_other(self, endpoint: Endpoint) -> bool:
        """Whether another endpoint could take a request now."""
        now = asyncio.get_running_loop().time()
        return any(e is not endpoint and e.health.wait(now) == 0 for e in self._endpoints)

    def refuse(self, prompt: str) -> bool:
        """Whether no endpoint will take this request."""
        return all(e.health.refuses(prompt) for e in self._endpoints)

    @property
    def refuse_us(self) -> bool:
        """Whether no endpoint will take a request, whatever it asks."""
        return all(e.health.refuses_us for e in self._endpoints)

    def pump_all(self) -> None:
        """Let requests leave that may leave now; where the spend cap is reached, fail them."""
        if self.spend.refuses:
            self._fail_all(self._spent)
        for endpoint in self._endpoints:
            self._pump(endpoint)

    def aclose(self) -> None:
        self.outage.aclose()
        for endpoint in self._endpoints:
            if endpoint.timer is not None:
                endpoint.timer.cancel()

    def _chosen(self, waiter: Waiter) -> Endpoint:
        endpoint = for_document(self._endpoints, waiter, asyncio.get_running_loop().time())
        if endpoint is None:
            raise self._refusal()
        return endpoint

    async def _permitted(self, waiter: Waiter, endpoint: Endpoint) -> Permit:
        """Wait in the queue of `endpoint`."""
        self._enqueue(waiter, endpoint)
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
        """Let requests leave for `endpoint` while it has room, and set a timer for the next one that must wait."""
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
            if waiter.beside is not None and not self.spend.spare(most):
                self._take(waiter)
                waiter.permit.set_exception(self._spent())
            elif waiter.beside is None and not self.spend.reserve(most):
                self._look_at_the_cap(most)
                return
            else:
                self._start(waiter, endpoint, most)

    def _look_at_the_cap(self, most: Amount) -> None:
        """Find out whether the cap is reached: what is left does not pay for the request in front of the queue."""
        # Requests under way may still give back a part of what they have reserved.
        if not any(e.concurrency.in_flight for e in self._endpoints) and not self.spend.pays_for(most):
            self.spend.reached = True
            _log.warning("%s", self._spent())
            self._set_clocks()
            asyncio.get_running_loop().call_soon(self.spend.changed)

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

    @staticmethod
    def _take(waiter: Waiter) -> None:
        """Out of its queue, in which it is the first."""
        source = waiter.endpoint
        assert source is not None
        source.waiting -= 1
        source.queues[waiter.urgency].popleft()
        waiter.endpoint = None

    def _start(self, waiter: Waiter, endpoint: Endpoint, reserved: Amount) -> None:
        self._take(waiter)
        endpoint.requests.take(1)
        endpoint.tokens.take(waiter.tokens)
        serial = endpoint.concurrency.begin()
        endpoint.health.began(serial)
        waiter.permit.set_result(Permit(endpoint, serial, waiter.tokens, reserved, endpoint is waiter.beside))

    def _steal(self, endpoint: Endpoint) -> Waiter | None:
        """Another endpoint's next request, while this one has nothing to do."""
        if len(self._endpoints) == 1 or endpoint.health.failure is not None:
            return None
        others = [e for e in self._endpoints if e is not endpoint and e.waiting]
        busiest = max(others, key=lambda e: e.waiting, default=None)
        waiter = busiest.first() if busiest is not None else None
        if waiter is None or busiest is None:
            return None
        # A request that has just failed at this endpoint goes to another one that is well.
        return None if waiter.avoid is endpoint and busiest.health.failure is None else waiter

    def _health_changed(self, endpoint: Endpoint) -> None:
        """Move the requests that wait for an endpoint that has become unwell to other endpoints."""
        if endpoint.health.failure is None:
            return
        for waiter in endpoint.take_all():
            try:
                target = self._chosen(waiter)
            except JudgeError as refusal:
                waiter.permit.set_exception(refusal)
            else:
                self._enqueue(waiter, target)

    def _outage_changed(self) -> None:
        self._set_clocks()
        if self.outage.given_up:
            self._fail_all(self._refusal)

    def _spend_changed(self) -> None:
        self._set_clocks()
        self.pump_all()

    def _set_clocks(self) -> None:
        """Stop the calls' clocks in a pause or an outage that is waited out, or let them go on."""
        now = asyncio.get_running_loop().time()
        self.standstill.set(self.spend.paused or self.outage.stops_clocks, now)

    def _fail_all(self, why: Callable[[], JudgeError]) -> None:
        """Fail all requests that wait, each with an error of its own."""
        for endpoint in self._endpoints:
            for waiter in endpoint.take_all():
                waiter.permit.set_exception(why())

    def _refusal(self) -> JudgeError:
        """Why no endpoint takes a request, preferably in the words of one that refuses us for good."""
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
