"""One call to the judge: attempts at its endpoints until there is a verdict, or no hope for one in time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from longreward.errors import JudgeError, Reason, VerdictError
from longreward.judge.base import Verdict
from longreward.judge.engine.caller import Caller
from longreward.judge.engine.clocks import Clock
from longreward.judge.engine.endpoint import Endpoint, Permit, Urgency
from longreward.judge.engine.hedging import sort_of
from longreward.judge.engine.limits import is_doubtful
from longreward.judge.engine.race import Race
from longreward.judge.engine.retries import Retries
from longreward.judge.engine.spend_cap import Amount, amount, priced
from longreward.judge.protocol.replies import Reply
from longreward.judge.protocol.request_form import RequestForm
from longreward.judge.requests import JudgeRequest
from longreward.judge.said import Reading, Said
from longreward.schema import JudgeCall

_UNCLEAR = (400, 422)
"""With these, some servers refuse a prompt that is too long without saying so."""
_LONG = 8000  # bytes of a prompt that may be too long: the smallest contexts in use are of 2,048 tokens


class Call:
    """One call from its first attempt to its last."""

    def __init__(self, caller: Caller, request: JudgeRequest[Any], prompt: str, document: str) -> None:
        """`prompt` is the request's text, `document` the name of what it is about."""
        self._caller, self._document = caller, document
        self._set(request, prompt)
        self._call = JudgeCall(kind=request.kind)
        self._retries = Retries(caller.config)
        self._clock: Clock | None = None
        self._failed_at: Endpoint | None = None
        self.said: Said | None = None
        """What the verdict was read from, once there is one."""

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
            race = Race(caller.hedging, sort_of(call.kind, self._size), self._ask, self._beside)
            try:
                self.said, reading = await race.answer(permit)
                call.text, value, call.deviations = self.said.shown, reading.value, reading.deviations
                call.status, call.detail = "ok", ""
                slowest, here = caller.slowest, (call.kind, race.answered_at.name)
                slowest[here] = max(self._clock.wall, slowest.get(here, 0.0))
                break
            except JudgeError as error:
                failure = error
            call.status, call.detail = str(failure.reason), failure.detail
            call.text = failure.text or call.text
            caller.counts[f"failed/{failure.reason}"] += 1
            if self._moves(permit) or self._adapt(failure, permit) or self._shrink(failure):
                continue
            wait = self._wait(failure, permit.endpoint, self._clock)
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
        expected = tokens.prompt(self._size) + min(tokens.completion(self._request.kind), retries.max_tokens)
        urgency = Urgency.AGAIN if self._failed_at else Urgency.FIRST if self._request.goes_first else Urgency.NORMAL

        while True:
            try:
                async with asyncio.timeout(clock.wait_s if clock else None):
                    return await endpoints.enter(
                        self._document, expected, self._most, avoid=self._failed_at, urgency=urgency
                    )
            except TimeoutError:
                assert clock is not None
                if clock.wait_s <= 0:
                    raise

    def _most(self) -> Amount:
        """The most that a request can cost, as far as is known now."""
        config = self._caller.config
        longest = max([self._retries.max_tokens, *RequestForm.limits(config.extra_body)])
        longest *= self._request.form(config.form).votes
        return amount(config.price, self._caller.tokens.most_for_prompt(self._size), longest)

    async def _ask(self, permit: Permit) -> tuple[Said, Reading[Any]]:
        """One request: the reply, and the verdict in it. JudgeError where there is none, or it was broken off."""
        permit.sort, permit.at = sort_of(self._call.kind, self._size), asyncio.get_running_loop().time()
        permit.endpoint.flow.began(permit)
        text, form = "", self._caller.config.form
        try:
            async with asyncio.timeout(None) as permit.scope:
                reply = await self._attempt(permit)
                text = reply.texts[0]
                said = self._request.said(reply.texts, reply.tokens, form, self._caller.prompts)
                return said, self._request.read(said, form)
        except TimeoutError:
            raise JudgeError(Reason.TIMEOUT, detail="broken off: it answers nothing, and others do") from None
        except VerdictError as error:
            raise JudgeError(Reason.PARSE_ERROR, detail=str(error), text=text) from None
        finally:
            permit.scope = None

    def _beside(self, permit: Permit) -> Coroutine[None, None, Permit] | None:
        """The right to send the same request once more."""
        return self._caller.endpoints.beside(permit, self._document, self._most)

    async def _attempt(self, permit: Permit) -> Reply:
        """One request, entered into the endpoint's limits and the call's usage however it ends. JudgeError if badly."""
        caller, call, size, clock = self._caller, self._call, self._size, self._clock
        assert clock is not None
        config = caller.config
        retries, form = self._retries, permit.endpoint.form
        permit.sent = form.fields(retries.temperature, retries.max_tokens, config.extra_body)
        body = {"model": config.model, **caller.material(self._request, self._prompt), **permit.sent}
        caller.counts["requests"] += 1
        now = asyncio.get_running_loop().time()
        failure: JudgeError | None = None
        # What is sent and gets no answer may have been paid for: counted as expected.
        expected = min(caller.tokens.completion(call.kind), retries.max_tokens)
        used, usage, heard = amount(config.price, caller.tokens.prompt(size), expected), None, False
        try:
            async with asyncio.timeout(min(config.attempt_timeout_s, clock.left)):
                reply = await permit.endpoint.client.complete(body, call.kind, fresh=permit.fresh)
            usage, heard = reply.usage, True
            permit.endpoint.cuts.check(self._prompt, usage, reply.texts[0])
            caller.latencies.append(asyncio.get_running_loop().time() - now)
            if caller.api.whole and len(reply.texts) == 1 and reply.usage.completion_tokens in form.limits(permit.sent):
                # Some servers cut a reply and say that the judge has ended it, or nothing.
                detail = f"the reply has just the {reply.usage.completion_tokens} tokens that it may have: it was cut"
                raise JudgeError(Reason.TRUNCATED, detail=detail, usage=reply.usage, text=reply.texts[0])
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

    def _moves(self, permit: Permit) -> bool:
        """Go on elsewhere, where an endpoint that answers nothing was left. It was no attempt at the question."""
        self._call.attempts -= permit.broken_off
        return permit.broken_off

    def _adapt(self, failure: JudgeError, permit: Permit) -> bool:
        """Go on without the field that the endpoint does not take. It was no attempt at the question."""
        learnt = permit.endpoint.form.learn(failure.unsupported, permit.sent, self._caller.config.extra_body)
        self._call.attempts -= learnt
        return learnt

    def _shrink(self, failure: JudgeError) -> bool:
        """Go on with a smaller request where the judge's context was too short, or may have been, once."""
        too_long = failure.reason is Reason.CONTEXT_LENGTH or (
            failure.reason is Reason.BAD_REQUEST
            and failure.status in _UNCLEAR
            and not failure.unsupported
            and self._size > _LONG
        )
        smaller = self._request.shrunk() if too_long and not self._call.shrunk else None
        if smaller is None:
            return False
        prompt = smaller.text(self._caller.prompts, self._caller.config.form)
        self._set(smaller, prompt)
        self._call.shrunk = True
        return True

    def _set(self, request: JudgeRequest[Any], prompt: str) -> None:
        self._request, self._prompt, self._size = request, prompt, len(prompt.encode())

    def _wait(self, failure: JudgeError, endpoint: Endpoint, clock: Clock) -> float | None:
        """Seconds until the next attempt after one at `endpoint`; None to give up."""
        endpoints = self._caller.endpoints
        return self._retries.wait(
            failure,
            self._call.attempts,
            min(clock.left, endpoints.outage.patience_s - clock.elapsed),
            elsewhere=endpoints.has_other(endpoint),
            hopeless=endpoints.refuse(self._prompt),
            others_served=endpoint.last_served > clock.begun,
        )

    def _name(self, failure: JudgeError, endpoint: Endpoint) -> None:
        """Name a refusal of this request, by an endpoint that answers others, for what it is."""
        if is_doubtful(failure) and endpoint.health.worked and not endpoint.health.refuses_us:
            self._call.status = str(Reason.FILTERED)
            self._call.detail += "; other requests are answered there, so this one is refused for what it says"
