"""One call to the judge: attempts at its endpoints until there is a verdict, or no hope for one in time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from typing import Any, TypeVar

from longreward.config import JudgeConfig
from longreward.errors import ConfigError, JudgeError, Reason, VerdictError
from longreward.judge.base import Verdict
from longreward.judge.engine.clocks import Clock
from longreward.judge.engine.endpoint import Endpoint, Permit, Urgency
from longreward.judge.engine.endpoints import Endpoints
from longreward.judge.engine.limits import is_doubtful
from longreward.judge.engine.retries import Retries
from longreward.judge.engine.spend_cap import Amount, Spend, TokenEstimate, amount, priced
from longreward.judge.protocol.client import CHAT, EndpointClient, allow_open_files
from longreward.judge.protocol.replies import Reply
from longreward.judge.protocol.request_form import RequestForm
from longreward.judge.requests import JudgeRequest
from longreward.prompts import OURS, Prompts
from longreward.schema import JudgeCall

T = TypeVar("T")

_LATENCIES_KEPT = 1000
_UNCLEAR = (400, 422)
"""With these, some servers refuse a prompt that is too long without saying so."""
_LONG = 8000  # bytes of a prompt that may be too long: the smallest contexts in use are of 2,048 tokens


class Caller:
    """Asks `config.model` at its endpoints, and counts how that goes."""

    api = CHAT

    def __init__(self, config: JudgeConfig, spend: Spend, prompts: Prompts = OURS) -> None:
        """ConfigError as for `OpenAIJudge.of`."""
        self.config, self.prompts = config, prompts
        form, given = RequestForm(config.max_tokens_field), config.resolved_endpoints
        writes = config.max_tokens > 0  # an embedding model does not
        if writes and min(spend.cap) < math.inf and not form.limits(form.fields(None, 1, config.extra_body)):
            raise ConfigError(
                f"judge.extra_body={config.extra_body} sends no limit of a reply's length, which judge.spend needs; "
                "put max_tokens or max_completion_tokens there, or take judge.spend out"
            )
        allow_open_files(sum(endpoint.max_in_flight or 1 for endpoint in given))
        endpoints = [
            Endpoint(
                each, EndpointClient(each, config.attempt_timeout_s, self.api), RequestForm(config.max_tokens_field)
            )
            for each in given
        ]
        self.endpoints = Endpoints(endpoints, spend, config.call_timeout_s, config.max_outage_s)
        self.tokens = TokenEstimate()
        self.counts: Counter[str] = Counter()
        self.latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)

    async def call(self, request: JudgeRequest[T], prompt: str, document: str) -> Verdict[T]:
        """The verdict on `request`, whose text is `prompt`, about the document of that name."""
        return await _Call(self, request, prompt, document).verdict()

    def material(self, request: JudgeRequest[Any], prompt: str) -> dict[str, Any]:
        """The fields of the body that hold the question, and the form of its reply where the server is to keep it."""
        asked: dict[str, Any] = {"messages": messages(prompt)}
        if self.config.verdict == "constrained":
            asked["response_format"] = request.shape().response_format
        return asked

    def stats(self) -> dict[str, float]:
        """Counts of requests sent (`judge/requests`) and of failed attempts by reason (`judge/failed/...`), what is
        under way and waiting, tokens and cost so far (`judge/run_cost` too: parts of the run before this process are
        in both), the latest replies' latency in seconds (`judge/p50_s`, `judge/p95_s`)."""
        used, latencies = self.endpoints.spend.used, sorted(self.latencies) or [0.0]
        return {
            "judge/p50_s": latencies[len(latencies) // 2],
            "judge/p95_s": latencies[len(latencies) * 95 // 100],
            **{f"judge/{name}": float(count) for name, count in self.counts.items()},
            "judge/in_flight": sum(e.concurrency.in_flight for e in self.endpoints),
            "judge/waiting": sum(e.waiting for e in self.endpoints),
            "judge/limit": sum(e.concurrency.limit for e in self.endpoints),
            "judge/tokens": used.tokens,
            "judge/cost": used.cost,
            "judge/run_cost": used.cost,
        }

    async def aclose(self) -> None:
        self.endpoints.aclose()
        for endpoint in self.endpoints:
            await endpoint.client.aclose()


class _Call:
    """One call from its first attempt to its last."""

    def __init__(self, caller: Caller, request: JudgeRequest[Any], prompt: str, document: str) -> None:
        self._caller, self._request, self._prompt, self._document = caller, request, prompt, document
        self._call = JudgeCall(kind=request.kind)
        self._retries = Retries(caller.config)
        self._clock: Clock | None = None
        self._failed_at: Endpoint | None = None
        self._sent: dict[str, Any] = {}  # the fields of the latest request, beside model and messages

    async def verdict(self) -> Verdict[Any]:
        call, value, caller = self._call, None, self._caller
        while True:
            try:
                permit = await self._enter()
            except JudgeError as refusal:
                call.status, call.detail = str(refusal.reason), refusal.detail
                break
            except TimeoutError:
                call.detail += "; no endpoint had a place for another attempt before the deadline"
                break
            if self._clock is None:
                self._clock = Clock(caller.endpoints.standstill, caller.config.call_timeout_s)
            call.attempts += 1
            self._failed_at = permit.endpoint
            sent = asyncio.get_running_loop().time()
            try:
                reply = await self._attempt(permit, self._clock.left)
                call.text = reply.text
                value = self._request.read(reply.text, caller.config.verdict)
                call.status, call.detail = "ok", ""
                break
            except (JudgeError, VerdictError) as error:
                failure = error if isinstance(error, JudgeError) else JudgeError(Reason.PARSE_ERROR, detail=str(error))
            call.status, call.detail = str(failure.reason), failure.detail
            call.text = failure.text or call.text
            caller.counts[f"failed/{failure.reason}"] += 1
            if self._adapt(failure, permit.endpoint) or self._shrink(failure):
                continue
            wait = self._wait(failure, permit.endpoint, self._clock, sent)
            if wait is None:
                self._name(failure, permit.endpoint)
                break
            if wait:
                await asyncio.sleep(wait)
        call.seconds = self._clock.wall if self._clock else 0.0
        return Verdict(value, call)

    async def _enter(self) -> Permit:
        """A place before the call's time is over. JudgeError where no endpoint will serve it, or else TimeoutError.

        Before its first attempt a call waits for a place in front of a working judge as long as it takes.
        """
        endpoints, tokens, retries, clock = self._caller.endpoints, self._caller.tokens, self._retries, self._clock
        size = len(self._prompt.encode())
        expected = tokens.prompt(size) + min(tokens.completion(self._request.kind), retries.max_tokens)
        urgency = Urgency.AGAIN if self._failed_at else Urgency.FIRST if self._request.goes_first else Urgency.NORMAL

        longest = max([retries.max_tokens, *RequestForm.limits(self._caller.config.extra_body)])

        def most() -> Amount:
            return amount(self._caller.config.price, tokens.most_for_prompt(size), longest)

        while True:
            try:
                async with asyncio.timeout(clock.wait_s if clock else None):
                    return await endpoints.enter(self._document, expected, most, avoid=self._failed_at, urgency=urgency)
            except TimeoutError:
                assert clock is not None
                if clock.wait_s <= 0:
                    raise

    async def _attempt(self, permit: Permit, left_s: float) -> Reply:
        """One request, entered into the endpoint's limits and the call's usage however it ends. JudgeError if badly."""
        caller, call, size = self._caller, self._call, len(self._prompt.encode())
        config = caller.config
        retries, form = self._retries, permit.endpoint.form
        self._sent = form.fields(retries.temperature, retries.max_tokens, config.extra_body)
        body = {"model": config.model, **caller.material(self._request, self._prompt), **self._sent}
        caller.counts["requests"] += 1
        now = asyncio.get_running_loop().time()
        failure: JudgeError | None = None
        # What is sent and gets no answer may have been paid for: counted as expected.
        expected = min(caller.tokens.completion(call.kind), retries.max_tokens)
        used, usage, heard = amount(config.price, caller.tokens.prompt(size), expected), None, False
        try:
            async with asyncio.timeout(min(config.attempt_timeout_s, left_s)):
                reply = await permit.endpoint.client.complete(body, call.kind)
            usage, heard = reply.usage, True
            permit.endpoint.cuts.check(self._prompt, usage, reply.text)
            caller.latencies.append(asyncio.get_running_loop().time() - now)
            if reply.usage.completion_tokens in form.limits(self._sent):
                # Some servers cut a reply and say that the judge has ended it, or nothing.
                detail = f"the reply has just the {reply.usage.completion_tokens} tokens that it may have: it was cut"
                raise JudgeError(Reason.TRUNCATED, detail=detail, usage=reply.usage, text=reply.text)
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
                usage = priced(usage, config.price)
                call.usage = call.usage + usage
                if usage.tokens:  # an endpoint that reports none is taken to have used what is expected
                    used = Amount(usage.cost, usage.tokens)
                caller.tokens.observe(call.kind, size, usage)
            reported = usage is not None and usage.tokens > 0
            caller.endpoints.leave(permit, failure, used, reported=reported, heard=heard, prompt=self._prompt)

    def _adapt(self, failure: JudgeError, endpoint: Endpoint) -> bool:
        """Go on without the field that the endpoint does not take. It was no attempt at the question."""
        learnt = endpoint.form.learn(failure.unsupported, self._sent, self._caller.config.extra_body)
        self._call.attempts -= learnt
        return learnt

    def _shrink(self, failure: JudgeError) -> bool:
        """Go on with a smaller request where the judge's context was too short, or may have been, once."""
        too_long = failure.reason is Reason.CONTEXT_LENGTH or (
            failure.reason is Reason.BAD_REQUEST
            and failure.status in _UNCLEAR
            and not failure.unsupported
            and len(self._prompt.encode()) > _LONG
        )
        smaller = self._request.shrunk() if too_long and not self._call.shrunk else None
        if smaller is None:
            return False
        prompt = smaller.text(self._caller.prompts, self._caller.config.verdict)
        self._request, self._prompt, self._call.shrunk = smaller, prompt, True
        return True

    def _wait(self, failure: JudgeError, endpoint: Endpoint, clock: Clock, sent: float) -> float | None:
        """Seconds until the next attempt after one at `endpoint` that began at `sent`; None to give up."""
        endpoints = self._caller.endpoints
        return self._retries.wait(
            failure,
            self._call.attempts,
            min(clock.left, endpoints.outage.patience_s - clock.elapsed),
            elsewhere=endpoints.has_other(endpoint),
            hopeless=endpoints.refuse(self._prompt),
            others_served=endpoint.last_served > sent,
        )

    def _name(self, failure: JudgeError, endpoint: Endpoint) -> None:
        """Name a refusal of this request, by an endpoint that answers others, for what it is."""
        if is_doubtful(failure) and endpoint.health.worked and not endpoint.health.refuses_us:
            self._call.status = str(Reason.FILTERED)
            self._call.detail += "; other requests are answered there, so this one is refused for what it says"


def messages(prompt: str) -> list[dict[str, str]]:
    """The prompt as the messages of a chat completion."""
    return [{"role": "user", "content": prompt}]
