"""The server's requests: what is accepted, what is refused, and whether it is ready for more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from longreward.errors import InputError, Reason
from longreward.schema import OK
from longreward.server import metrics
from longreward.server.config import ServeConfig
from longreward.server.connections import Connections
from longreward.server.protocols.protocol import Asked, Outcome, Protocol, SideRoute
from longreward.server.refusals import BodyReader, RefusedError
from longreward.server.rollout_rewards import RolloutRewards
from longreward.server.streams import Stream, until_gone

_log = logging.getLogger("longreward")

_NOT_YET = "the judge has not answered yet"
_PROBE_EVERY_S = 2.0
_PATIENCE_S = 10.0
"""A request that comes before the judge has answered waits so long for it."""


class NotReady(NamedTuple):
    """Why no request should be sent here now."""

    code: str
    """In our own words, or the judge's `Reason`: anybody may read it."""
    detail: str


class Service:
    """Replies to requests for rewards."""

    def __init__(self, rollouts: RolloutRewards, config: ServeConfig, connections: Connections) -> None:
        self.config = config
        self._connections = connections
        self._rollouts = rollouts
        self._bodies = BodyReader(int(config.max_body_mb * 2**20), config.body_timeout_s)
        self._items = 0
        self._requests = 0
        self._draining = False
        self._not_ready: NotReady | None = NotReady(_NOT_YET, _NOT_YET)
        self._ready = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.IN_FLIGHT.set_function(lambda: self._requests)
        metrics.QUEUE.set_function(lambda: self._items)

    async def become_ready(self) -> None:
        """Ask the judge until it answers once."""
        while (call := await self._rollouts.reward.probe()).status != OK:
            self._not_ready = _no_answer(call.status, f"{call.status}: {call.detail}")
            _log.warning("%s; asked again", self._not_ready.detail)
            await asyncio.sleep(_PROBE_EVERY_S)
        self._not_ready = None
        self._ready.set()

    async def drain(self) -> None:
        """Accept no more, and wait until everything accepted is replied to."""
        self._draining = True
        await self._idle.wait()

    @property
    def not_ready(self) -> NotReady | None:
        """Why no request should be sent here now; None: it should."""
        if self._draining:
            return NotReady("shutting down", "shutting down")
        status = self._rollouts.reward.status()
        if self._not_ready is None and status.spent:
            return NotReady(Reason.SPEND_CAP, "judge.spend is used up")
        if self._not_ready is None and status.given_up is not None:
            return _no_answer(status.reason or Reason.UNREACHABLE, status.given_up)
        return self._not_ready

    async def reply(self, protocol: Protocol, request: Request) -> Response:
        """The reply to a request; RefusedError where there is none."""
        begun = asyncio.get_running_loop().time()
        if self._draining:
            raise RefusedError(503, "shutting down", retry_after_s=5)
        self._admit(1)  # before the body is read, what would be refused after it
        with ExitStack() as held:
            held.enter_context(self._under_way())
            await self._until_ready()
            body = await self._bodies.read(request)
            try:
                asked = protocol.read(body)
            except InputError as error:
                raise RefusedError(422, str(error)) from None
            del body
            self._admit(len(asked.items))
            held.enter_context(self._waiting(len(asked.items)))
            held.enter_context(self._connections.accepted(request.state.place))
            if asked.stream:
                return Stream(partial(self._streamed, protocol, asked, begun), held.pop_all())
            scoring = asyncio.create_task(self._rollouts.score(protocol, asked.items, begun))
            outcomes = await self._unless_gone(request, scoring)
        reply = protocol.reply(asked, outcomes, self._rollouts.reward.stats())
        metrics.SECONDS.observe(asyncio.get_running_loop().time() - begun)
        return _json(reply)

    async def beside(self, route: SideRoute, request: Request) -> Response:
        """The reply to what is asked beside rewards; RefusedError where there is none."""
        if self._draining:
            raise RefusedError(503, "shutting down", retry_after_s=5)
        with self._under_way():
            body = b"" if route.request is None else await self._bodies.read(request)
            with self._connections.accepted(request.state.place):
                try:
                    reply = await asyncio.to_thread(route.answer, body)
                except InputError as error:
                    raise RefusedError(422, str(error)) from None
        return _json(reply, route.headers)

    async def _streamed(self, protocol: Protocol, asked: Asked, begun: float, tell: Callable[[bytes], None]) -> None:
        def on_each(number: int, outcome: Outcome) -> None:
            tell(to_json(protocol.result(asked, number, outcome)) + b"\n")

        await self._rollouts.score(protocol, asked.items, begun, on_each)
        metrics.SECONDS.observe(asyncio.get_running_loop().time() - begun)

    def _admit(self, items: int) -> None:
        if self._items + items > self.config.queue:
            raise RefusedError(429, f"{self._items} answers are waiting (serve.queue)", retry_after_s=1)
        if full := self._connections.full:
            raise RefusedError(429, full, retry_after_s=1)

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._ready.wait()
        except TimeoutError:
            why = self._not_ready.detail if self._not_ready else ""
            raise RefusedError(503, why, retry_after_s=2) from None

    async def _unless_gone(self, request: Request, scoring: asyncio.Task[list[Outcome]]) -> list[Outcome]:
        """The outcomes. Scoring stops, and no more judge calls are made, if the client disconnects."""
        gone = asyncio.create_task(until_gone(request.receive))
        try:
            await asyncio.wait({scoring, gone}, return_when=asyncio.FIRST_COMPLETED)
            if scoring.done():
                return scoring.result()
            gone.result()
            raise RefusedError(408, "the client is gone")
        finally:
            gone.cancel()
            scoring.cancel()

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        self._requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    @contextmanager
    def _waiting(self, items: int) -> Iterator[None]:
        self._items += items
        try:
            yield
        finally:
            self._items -= items


def _json(reply: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(to_json(reply, inf_nan_mode="null"), headers=headers, media_type="application/json")


def _no_answer(code: str, why: str) -> NotReady:
    return NotReady(code, f"the judge does not answer: {why}")
