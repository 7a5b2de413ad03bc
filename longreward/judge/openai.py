"""The judge behind an OpenAI-compatible endpoint: one retry layer, every attempt and every call bounded in time."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from typing import Any, TypeVar

import openai

from longreward.config import JudgeConfig
from longreward.errors import ConfigError, JudgeError, Reason, VerdictError
from longreward.judge.base import Verdict
from longreward.judge.requests import JudgeRequest
from longreward.schema import JudgeCall, Usage

T = TypeVar("T")

_FATAL = {
    Reason.UNAUTHORIZED,
    Reason.NOT_FOUND,
    Reason.QUOTA,
    Reason.FILTERED,
    Reason.CONTEXT_LENGTH,
    Reason.BAD_REQUEST,
}
"""Asking the same again cannot help."""
_ONCE_MORE = {Reason.TRUNCATED, Reason.BAD_RESPONSE}
"""Asked again once; a second time shows that it is no accident."""


class OpenAIJudge:
    """Asks `config.model` at `config.base_url`. Use one instance per event loop; `aclose` it there.

    ConfigError when `api_key_env` names a variable that is not set.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        # max_retries=0: the retry layer is ours, two of them would multiply. The aiohttp transport takes about half
        # the CPU per call of the default one at hundreds of calls in flight.
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=_api_key(config),
            max_retries=0,
            timeout=config.attempt_timeout_s,
            http_client=openai.DefaultAioHttpClient(),
        )
        # Imported here: these types take a moment, which should not fall into the first answer.
        from openai.types.chat import ChatCompletion

        self._reply = ChatCompletion
        self._in_flight = asyncio.Semaphore(config.max_in_flight)

    async def ask(self, request: JudgeRequest[T]) -> Verdict[T]:
        config = self._config
        call = JudgeCall(kind=request.prompt)
        attempt = _Attempt(temperature=config.temperature, max_tokens=config.max_tokens)
        prompt = request.text()
        started = deadline = 0.0
        value: T | None = None
        while True:
            try:
                async with self._in_flight:
                    if not call.attempts:  # waiting for a place in the queue is not the judge's time
                        started = time.monotonic()
                        deadline = started + config.call_timeout_s
                    call.attempts += 1
                    async with asyncio.timeout(min(config.attempt_timeout_s, deadline - time.monotonic())):
                        text, usage = await self._complete(prompt, attempt, call)
                call.text, call.usage = text, call.usage + usage
                value = request.parse(text)
                call.status, call.detail = "ok", ""
                break
            except Exception as error:
                failure = _as_judge_error(error)
                call.status, call.detail = str(failure.reason), failure.detail
                wait = self._wait_before_retry(failure, attempt, call.attempts, deadline)
                if wait is None:
                    break
                await asyncio.sleep(wait)
        call.seconds = time.monotonic() - started
        return Verdict(value, call)

    async def aclose(self) -> None:
        await self._client.close()

    async def _complete(self, prompt: str, attempt: _Attempt, call: JudgeCall) -> tuple[str, Usage]:
        config = self._config
        body = {
            "model": config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": attempt.temperature,
            "max_tokens": attempt.max_tokens,
        }
        # The client's own `post`: `chat.completions.create` walks the body's types first, 2.5 ms of CPU per call, and
        # this body is plain JSON already.
        response: Any = await self._client.post("/chat/completions", cast_to=self._reply, body=body | config.extra_body)
        usage = _usage(response)
        text, finish = _first_choice(response)
        if finish == "content_filter":
            call.text, call.usage = text or "", call.usage + usage
            raise JudgeError(Reason.FILTERED, detail="the endpoint's content filter stopped the reply")
        if finish == "length":
            call.text, call.usage = text or "", call.usage + usage
            raise JudgeError(Reason.TRUNCATED, detail=f"the reply was cut at {attempt.max_tokens} tokens")
        if not text or not text.strip():
            call.usage += usage
            raise JudgeError(Reason.BAD_RESPONSE, detail="the reply is empty")
        return text, usage

    def _wait_before_retry(self, failure: JudgeError, attempt: _Attempt, tried: int, deadline: float) -> float | None:
        """Seconds to wait before the next attempt, whose settings are changed to fit; None to give up."""
        config = self._config
        reason = Reason(failure.reason)
        if reason in _FATAL or tried >= config.max_attempts or attempt.once_more_used >= {reason}:
            return None
        if reason in _ONCE_MORE:
            attempt.once_more_used.add(reason)
        if reason is Reason.TRUNCATED:
            attempt.max_tokens *= 2
        if reason is Reason.PARSE_ERROR:
            attempt.temperature = config.retry_temperature
            return 0.0
        backoff = config.retry_base_s * 2 ** (tried - 1)
        wait = max(backoff * random.uniform(0.5, 1), failure.retry_after or 0.0)
        return wait if time.monotonic() + wait < deadline else None


class _Attempt:
    """The settings of the next attempt of one call."""

    def __init__(self, temperature: float, max_tokens: int) -> None:
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.once_more_used: set[Reason] = set()


def _api_key(config: JudgeConfig) -> str:
    if config.api_key_env:
        key = os.environ.get(config.api_key_env)
        if not key:
            raise ConfigError(f"judge.api_key_env names {config.api_key_env}, which is not set; export it first")
        return key
    # Local servers ask for no key, but the client insists on one.
    return os.environ.get("OPENAI_API_KEY") or "none"


def _first_choice(response: Any) -> tuple[str | None, str | None]:
    choices = getattr(response, "choices", None)
    if not isinstance(choices, list) or not choices or getattr(choices[0], "message", None) is None:
        detail = f"the reply is no chat completion: {_short(response)}"
        raise JudgeError(Reason.BAD_RESPONSE, detail=detail)
    return choices[0].message.content, choices[0].finish_reason


def _usage(response: Any) -> Usage:
    usage = getattr(response, "usage", None)
    return Usage(
        calls=1,
        prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
        completion_tokens=getattr(usage, "completion_tokens", None) or 0,
    )


def _as_judge_error(error: Exception) -> JudgeError:
    """What an attempt's exception means, in our words. Whatever is not the judge's doing is raised on."""
    match error:
        case JudgeError():
            return error
        case VerdictError():
            return JudgeError(Reason.PARSE_ERROR, detail=str(error))
        case openai.APIConnectionError() if root := _socket_error(error):
            # Asked before the time-out: the aiohttp transport calls a refused connection a connect time-out.
            return JudgeError(Reason.UNREACHABLE, detail=_short(root))
        case TimeoutError() | openai.APITimeoutError():
            return JudgeError(Reason.TIMEOUT, detail="no complete reply within the deadline")
        case openai.APIConnectionError():
            return JudgeError(Reason.UNREACHABLE, detail=_short(error.__cause__ or error))
        case openai.APIStatusError():
            return _from_status(error)
        case openai.OpenAIError() | json.JSONDecodeError() | UnicodeDecodeError():
            return JudgeError(Reason.BAD_RESPONSE, detail=_short(error))
    raise error


def _socket_error(error: BaseException | None) -> OSError | None:
    """The refused, reset or unroutable connection at the root of `error`, if that is what it was."""
    while error is not None:
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            return error
        error = error.__cause__
    return None


def _from_status(error: openai.APIStatusError) -> JudgeError:
    body = error.body if isinstance(error.body, dict) else {}
    code = str(body.get("code") or "")
    detail = f"HTTP {error.status_code}: {_short(error.message)}"
    message = detail.lower()
    match error.status_code:
        case 401 | 403:
            reason = Reason.UNAUTHORIZED
        case 404:
            reason = Reason.NOT_FOUND
        case 429 if "insufficient_quota" in (code, body.get("type")):
            reason = Reason.QUOTA
        case 429:
            reason = Reason.RATE_LIMITED
        case 408:
            reason = Reason.TIMEOUT
        case 400 | 413 if "context_length" in code or "context length" in message or "maximum context" in message:
            reason = Reason.CONTEXT_LENGTH
        case 400 if "content_filter" in code or "content management policy" in message:
            reason = Reason.FILTERED
        case status if status >= 500 or status == 409:
            reason = Reason.SERVER_ERROR
        case _:
            reason = Reason.BAD_REQUEST
    return JudgeError(reason, detail=detail, retry_after=_retry_after(error))


def _retry_after(error: openai.APIStatusError) -> float | None:
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _short(value: object, limit: int = 300) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[:limit] + "..."
