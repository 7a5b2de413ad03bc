"""The judge behind OpenAI-compatible endpoints: each question asked once, retried where that can help, then named."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from longreward.config import JudgeConfig
from longreward.errors import JudgeError, Reason, VerdictError
from longreward.judge.base import Verdict
from longreward.judge.engine.cache import VerdictCache, cache_key
from longreward.judge.engine.client import EndpointClient, Reply, allow_open_files
from longreward.judge.engine.endpoints import Endpoint, Endpoints, Permit, Standstill, Urgency
from longreward.judge.engine.retries import Retries
from longreward.judge.engine.spend_cap import Amount, Spend, TokenEstimate
from longreward.judge.requests import JudgeRequest
from longreward.pacing import Priority, pacer
from longreward.schema import JudgeCall

T = TypeVar("T")

_AFTER_A_STANDSTILL_S = 1.0  # at least so long a call may go on when the run does
_LATENCIES_KEPT = 1000


class OpenAIJudge:
    """Asks `config.model` at `config.endpoints`. Use one instance per event loop; `aclose` it there.

    Identical requests in flight are one call; good verdicts are kept in `cache`. ConfigError when `api_key_env` names a
    variable that is not set, or when the process may not open enough sockets for all endpoints.
    """

    def __init__(self, config: JudgeConfig, cache: Path | None = None) -> None:
        endpoints = config.resolved_endpoints
        allow_open_files(sum(endpoint.max_in_flight or 1 for endpoint in endpoints))
        self._config = config
        self._cache = VerdictCache(cache) if cache is not None else None
        self._flights: dict[bytes, _Flight] = {}
        self._tokens = TokenEstimate()
        self._counts: Counter[str] = Counter()
        self.endpoints = Endpoints(
            [Endpoint.of(endpoint, EndpointClient(endpoint, config.attempt_timeout_s)) for endpoint in endpoints],
            Spend(config.price, config.spend),
            patience_s=config.call_timeout_s,
            max_outage_s=config.max_outage_s,
        )
        self._latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        await pacer().turn(Priority.ARRIVAL)
        prompt = request.text()
        key = self._key(prompt, request.version)
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(self._fly(key, request, prompt, document)))
        flight.passengers += 1
        try:
            # Shielded: a caller that is cancelled must not take the others' verdict with it.
            verdict: Verdict[T] = await asyncio.shield(flight.task)
        finally:
            flight.passengers -= 1
            if not flight.passengers:
                # Nobody is left to read the reply, or it is there.
                self._flights.pop(key, None)
                flight.task.cancel()
        if not joined:
            return verdict
        self._counts["shared"] += 1
        return Verdict(verdict.value, verdict.call.without_cost("shared"))

    def stats(self) -> dict[str, float]:
        """Counts of requests sent (`judge/requests`), of verdicts shared in flight, of failed attempts by reason, what
        is under way and waiting, tokens and cost so far (`judge/run_cost`: of all who share the limits), the latest
        replies' latency in seconds (`judge/p50_s`, `judge/p95_s`); and the cache's."""
        spend, latencies = self.endpoints.spend, sorted(self._latencies) or [0.0]
        return {
            "judge/p50_s": latencies[len(latencies) // 2],
            "judge/p95_s": latencies[len(latencies) * 95 // 100],
            "judge/run_cost": max(spend.used.cost, spend.used_by_all.cost),
            **{f"judge/{name}": float(count) for name, count in self._counts.items()},
            "judge/in_flight": sum(e.concurrency.in_flight for e in self.endpoints),
            "judge/waiting": sum(e.waiting for e in self.endpoints),
            "judge/limit": sum(e.concurrency.limit for e in self.endpoints),
            "judge/tokens": spend.used.tokens,
            "judge/cost": spend.used.cost,
            **(self._cache.stats() if self._cache else {}),
        }

    async def aclose(self) -> None:
        for flight in self._flights.values():
            flight.task.cancel()
        await asyncio.gather(*(flight.task for flight in self._flights.values()), return_exceptions=True)
        self._flights.clear()
        self.endpoints.aclose()
        for endpoint in self.endpoints:
            await endpoint.client.aclose()
        if self._cache is not None:
            await self._cache.aclose()

    def _key(self, prompt: str, version: str) -> bytes:
        config = self._config
        parameters = {
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
            "extra_body": config.extra_body,
        }
        return cache_key(config.model or "", _messages(prompt), parameters, version)

    async def _fly(self, key: bytes, request: JudgeRequest[T], prompt: str, document: str) -> Verdict[T]:
        """The verdict from the cache, or else from the judge."""
        if self._cache is not None:
            kept = await self._cache.get(key)
            if kept is not None and isinstance(kept.get("text"), str):
                try:
                    value = request.parse(kept["text"])
                except VerdictError:
                    pass  # the parser has become stricter since: ask again
                else:
                    call = JudgeCall(
                        kind=request.kind, text=kept["text"], source="cache", shrunk=bool(kept.get("shrunk"))
                    )
                    return Verdict(value, call)
        verdict = await self._judge(request, prompt, document)
        if verdict.ok and self._cache is not None:
            self._cache.put(key, {"kind": request.kind, "text": verdict.call.text, "shrunk": verdict.call.shrunk})
        return verdict

    async def _judge(self, request: JudgeRequest[T], prompt: str, document: str) -> Verdict[T]:
        """Attempts until there is a verdict or no hope for one within the call's deadline."""
        loop = asyncio.get_running_loop()
        call = JudgeCall(kind=request.kind)
        retries = Retries(self._config)
        clock: _Clock | None = None
        value: T | None = None
        failed_at: Endpoint | None = None
        while True:
            try:
                # Until its first attempt a request waits for a place in front of a working judge as long as it takes.
                permit = await self._enter_before(clock, request, prompt, document, retries, failed_at)
            except JudgeError as refusal:
                call.status, call.detail = str(refusal.reason), refusal.detail
                break
            except TimeoutError:
                call.detail += "; no endpoint had a place for another attempt before the deadline"
                break
            clock = clock or _Clock(self.endpoints.standstill, self._config.call_timeout_s)
            call.attempts += 1
            sent = loop.time()
            failed_at = permit.endpoint
            try:
                reply = await self._attempt(permit, request.kind, prompt, retries, call, clock.left)
                call.text = reply.text
                value = request.parse(reply.text)
                call.status, call.detail = "ok", ""
                break
            except (JudgeError, VerdictError) as error:
                failure = error if isinstance(error, JudgeError) else JudgeError(Reason.PARSE_ERROR, detail=str(error))
            call.status, call.detail = str(failure.reason), failure.detail
            call.text = failure.text or call.text
            self._counts[f"failed/{failure.reason}"] += 1
            smaller = request.shrunk() if failure.reason is Reason.CONTEXT_LENGTH and not call.shrunk else None
            if smaller is not None:
                request, prompt, call.shrunk = smaller, smaller.text(), True
                continue
            wait = retries.wait(
                failure,
                call.attempts,
                min(clock.left, self.endpoints.patience_s - clock.elapsed),
                elsewhere=self.endpoints.has_other(permit.endpoint),
                hopeless=self.endpoints.refuses_us(permit.endpoint),
                others_served=permit.endpoint.last_served > sent,
            )
            if wait is None:
                break
            if wait:
                await asyncio.sleep(wait)
        call.seconds = clock.wall if clock else 0.0
        return Verdict(value, call)

    async def _enter_before(
        self,
        clock: _Clock | None,
        request: JudgeRequest[Any],
        prompt: str,
        document: str,
        retries: Retries,
        failed_at: Endpoint | None,
    ) -> Permit:
        """A place before the call's time is over, if it has begun. TimeoutError."""
        left = clock.wait_s if clock else None
        while True:
            try:
                async with asyncio.timeout(left):
                    return await self._enter(request, prompt, document, retries, failed_at)
            except TimeoutError:
                assert clock is not None
                if not clock.stood_still_within(_AFTER_A_STANDSTILL_S):
                    raise
                left = max(clock.wait_s, _AFTER_A_STANDSTILL_S)

    async def _enter(
        self, request: JudgeRequest[Any], prompt: str, document: str, retries: Retries, failed_at: Endpoint | None
    ) -> Permit:
        size = len(prompt.encode())
        completion = min(self._tokens.completion(request.kind), retries.max_tokens)

        def most() -> Amount:
            return self.endpoints.spend.amount(self._tokens.most_for_prompt(size), retries.max_tokens)

        urgency = Urgency.AGAIN if failed_at else Urgency.FIRST if request.goes_first else Urgency.NORMAL
        return await self.endpoints.enter(
            document, self._tokens.prompt(size) + completion, most, avoid=failed_at, urgency=urgency
        )

    async def _attempt(
        self, permit: Permit, kind: str, prompt: str, retries: Retries, call: JudgeCall, left_s: float
    ) -> Reply:
        """One request, entered into the endpoint's limits and the call's usage however it ends. JudgeError if badly."""
        config, spend, size = self._config, self.endpoints.spend, len(prompt.encode())
        body = {
            "model": config.model,
            "messages": _messages(prompt),
            "temperature": retries.temperature,
            "max_tokens": retries.max_tokens,
            **config.extra_body,
        }
        self._counts["requests"] += 1
        now = asyncio.get_running_loop().time()
        failure: JudgeError | None = None
        # What is sent and gets no answer may have been paid for: counted as expected.
        used, usage, heard = spend.amount(self._tokens.prompt(size), self._tokens.completion(kind)), None, False
        try:
            async with asyncio.timeout(min(config.attempt_timeout_s, left_s)):
                reply = await permit.endpoint.client.complete(body, kind)
            usage, heard = reply.usage, True
            self._latencies.append(asyncio.get_running_loop().time() - now)
            return reply
        except TimeoutError:
            heard, failure = True, JudgeError(Reason.TIMEOUT, detail="no complete reply within the deadline")
            raise failure from None
        except JudgeError as error:
            heard, failure, usage = True, error, error.usage
            if error.reason is not Reason.TIMEOUT:
                used = Amount()  # refused or broken off by the endpoint, which charges nothing for that
            raise
        finally:
            if usage is not None:
                usage = spend.priced(usage)
                call.usage = call.usage + usage
                if usage.tokens:  # an endpoint that reports none is taken to have used what is expected
                    used = Amount(usage.cost, usage.tokens)
                self._tokens.observe(kind, size, usage)
            self.endpoints.leave(permit, failure, used, reported=usage is not None and usage.tokens > 0, heard=heard)


class _Clock:
    """A call's time from its first attempt on, which stands still while the run is paused or an outage waited out."""

    def __init__(self, standstill: Standstill, limit_s: float) -> None:
        self._standstill, self._limit_s = standstill, limit_s
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._stood = standstill.seconds(self._begun)

    @property
    def wall(self) -> float:
        """Seconds since it began."""
        return self._loop.time() - self._begun

    @property
    def elapsed(self) -> float:
        """Those that count."""
        return self.wall - (self._standstill.seconds(self._loop.time()) - self._stood)

    @property
    def left(self) -> float:
        """Seconds until the call's deadline; infinity while the clock stands still."""
        return math.inf if self._standstill.now else self._limit_s - self.elapsed

    @property
    def wait_s(self) -> float:
        """How long to wait for a place before looking at the clock again: never for ever, for it may go on."""
        left = self._limit_s - self.elapsed
        return max(left, _AFTER_A_STANDSTILL_S) if self._standstill.now else left

    def stood_still_within(self, seconds: float) -> bool:
        return self.left > 0 or self._standstill.within(seconds, self._loop.time())


@dataclass(slots=True)
class _Flight:
    """A request under way and the number of those who wait for its verdict."""

    task: asyncio.Task[Verdict[Any]]
    passengers: int = 0


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]
