"""One request to one OpenAI-compatible endpoint: limited in size and time, and never retried."""

from __future__ import annotations

import json
import os
import resource
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import openai

from longreward.config import EndpointConfig
from longreward.errors import ConfigError, JudgeError, Reason
from longreward.pacing import Priority, pacer
from longreward.schema import Usage

_MAX_BODY = 4 * 2**20  # bytes of a reply; a judge's is a few kilobytes
_IDLE_CONNECTION_S = 4.0  # below the 5 s after which uvicorn (and so vLLM) closes an idle connection
_SPARE_FILES = 256  # descriptors left for everything but connections


KIND_HEADER = "X-LongReward-Request"
"""Header of every request: the kind of question, for a gateway's logs and costs by kind. Servers ignore it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the endpoint said, and its token counts."""

    text: str
    usage: Usage


class EndpointClient:
    """Sends chat completions to `config.base_url`. Use it on one event loop; `aclose` it there.

    Address, key and headers are those of the openai package's own client. Requests go by aiohttp, because
    that client takes 1.2 ms of CPU a call and aiohttp 0.3 ms. This decides how many calls a second a process can make.
    ConfigError when `api_key_env` names a variable that is not set.
    """

    def __init__(self, config: EndpointConfig, attempt_timeout_s: float) -> None:
        self._most = config.max_in_flight or 1
        client = openai.AsyncOpenAI(base_url=config.base_url, api_key=_api_key(config))
        self._url = str(client.base_url).rstrip("/") + "/chat/completions"
        given = {**client.default_headers, **client.auth_headers}
        headers = {name: value for name, value in given.items() if isinstance(value, str)}  # others mean: leave out
        # Compression would let a small body grow without bound.
        self._headers = headers | {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        self._timeout = aiohttp.ClientTimeout(total=attempt_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def complete(self, body: dict[str, Any], kind: str) -> Reply:
        """Ask one question of this kind (`verify`, ...). Cancellation ends the request.

        JudgeError with the reason for everything that an endpoint can do wrong; its `usage` holds the tokens that the
        endpoint counted for a reply that cannot be used.
        """
        await pacer().turn(Priority.NETWORK)
        headers = {**self._headers, KIND_HEADER: kind}
        try:
            async with self._open().post(self._url, data=json.dumps(body).encode(), headers=headers) as response:
                raw = await self._read(response)
        except Exception as error:
            raise _as_judge_error(error) from error
        return _reply(response.status, response.headers, raw)

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:  # not before there is an event loop
            connector = aiohttp.TCPConnector(limit=self._most + 8, keepalive_timeout=_IDLE_CONNECTION_S)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=self._timeout, proxy=_proxy(self._url), auto_decompress=False
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body, in its turn; JudgeError when it grows too long."""
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise JudgeError(Reason.BAD_RESPONSE, detail=f"the reply is compressed ({encoding}) though not asked for")
        await pacer().turn(Priority.NETWORK)
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > _MAX_BODY:
                raise JudgeError(Reason.BAD_RESPONSE, detail=f"the reply is longer than {_MAX_BODY // 2**20} MiB")
        return bytes(body)


def _proxy(url: str) -> str | None:
    """The environment's proxy for this address. Asked once, because aiohttp would start a thread a call."""
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def allow_open_files(most: int) -> None:
    """Let the process have so many connections at once. ConfigError where it may not open enough files for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = most + _SPARE_FILES
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"judge.max_in_flight={most} over all endpoints needs {needed} open files, this process may have {hard}; "
            "lower it, or raise `ulimit -n`"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _api_key(config: EndpointConfig) -> str:
    if config.api_key_env:
        key = os.environ.get(config.api_key_env)
        if not key:
            raise ConfigError(f"judge.api_key_env names {config.api_key_env}, which is not set; export it first")
        return key
    # Local servers ask for no key, but the client insists on one.
    return os.environ.get("OPENAI_API_KEY") or "none"


def _reply(status: int, headers: Mapping[str, str], raw: bytes) -> Reply:
    """The reply of a response. JudgeError where it is not a chat completion with text."""
    try:
        reply: Any = json.loads(raw)
    except (ValueError, RecursionError):  # JSON and UTF-8 errors are ValueErrors too
        reply = None
    if status >= 400:
        raise _from_status(status, headers, reply, raw)
    if reply is None and raw.lstrip()[:1] == b"<":
        # A page of HTML is from a proxy in front of a judge that is away for the moment.
        raise JudgeError(Reason.SERVER_ERROR, detail=f"the reply is a web page, not JSON: {_short(raw)}")
    choices = reply.get("choices") if isinstance(reply, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise JudgeError(Reason.BAD_RESPONSE, detail=f"the reply is not a chat completion: {_short(raw)}")
    usage, content, finish = _usage(reply.get("usage")), message.get("content"), choice.get("finish_reason")
    text = content if isinstance(content, str) else ""
    if finish == "content_filter":
        detail = "the endpoint's content filter stopped the reply"
        raise JudgeError(Reason.FILTERED, detail=detail, usage=usage, text=text)
    if finish == "length":
        tokens = usage.completion_tokens or "too many"
        raise JudgeError(Reason.TRUNCATED, detail=f"the reply was cut at {tokens} tokens", usage=usage, text=text)
    if not text.strip():
        raise JudgeError(Reason.BAD_RESPONSE, detail="the reply is empty", usage=usage)
    return Reply(text, usage)


def _usage(reported: Any) -> Usage:
    reported = reported if isinstance(reported, dict) else {}
    details = reported.get("prompt_tokens_details")
    return Usage.model_construct(
        calls=1,
        prompt_tokens=_count(reported.get("prompt_tokens")),
        cached_tokens=_count(details.get("cached_tokens") if isinstance(details, dict) else 0),
        completion_tokens=_count(reported.get("completion_tokens")),
        cost=0.0,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 10**9 else 0


def _as_judge_error(error: Exception) -> JudgeError:
    """What an attempt's exception means, in our words. Whatever is not the endpoint's doing is raised on."""
    match error:
        case JudgeError():
            return error
        case TimeoutError():  # aiohttp's time-outs are ones too
            return JudgeError(Reason.TIMEOUT, detail="no complete reply within the deadline")
        case OSError() | aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
            return JudgeError(Reason.UNREACHABLE, detail=_short(error) or type(error).__name__)
        case aiohttp.InvalidURL():
            return JudgeError(Reason.BAD_REQUEST, detail=f"{_short(error)} is not a URL; check judge.base_url")
        case aiohttp.ClientError():
            return JudgeError(Reason.BAD_RESPONSE, detail=_short(error) or type(error).__name__)
    raise error


def _from_status(status: int, headers: Mapping[str, str], reply: Any, raw: bytes) -> JudgeError:
    told = reply.get("error", reply) if isinstance(reply, dict) else None
    told = told if isinstance(told, dict) else {"message": told or raw}
    code, kind = str(told.get("code") or ""), str(told.get("type") or "")
    message = _short(told.get("message") or raw)
    lower = message.lower()
    match status:
        case 401 | 403:
            reason = Reason.UNAUTHORIZED
        case 404:
            reason = Reason.NOT_FOUND
        case 402:
            reason = Reason.QUOTA
        case 429 if "insufficient_quota" in (code, kind):
            reason = Reason.QUOTA
        case 429:
            reason = Reason.RATE_LIMITED
        case 408:
            reason = Reason.TIMEOUT
        case 400 | 413 if "context_length" in code or "context length" in lower or "maximum context" in lower:
            reason = Reason.CONTEXT_LENGTH
        case 400 if "content_filter" in code or "content management policy" in lower:
            reason = Reason.FILTERED
        case _ if status >= 500 or status == 409:
            reason = Reason.SERVER_ERROR
        case _:
            reason = Reason.BAD_REQUEST
    return JudgeError(reason, detail=f"HTTP {status}: {message}", retry_after=_retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from any of the forms that are in use; None where it is missing, junk or in the past."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        value = headers.get(name, "")
        try:
            seconds = float(value) / unit
        except ValueError:
            seconds = _until(value)
        if 0 < seconds < float("inf"):
            return seconds
    return None


def _until(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _short(value: object, limit: int = 300) -> str:
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    text = " ".join(str(value)[: 4 * limit].split())
    return text if len(text) <= limit else text[:limit] + "..."
