"""One request to one OpenAI-compatible endpoint: limited in size and time, and never retried."""

from __future__ import annotations

import json
import os
import resource
import urllib.parse
import urllib.request
from typing import Any

import aiohttp
import openai

from longreward.config import EndpointConfig
from longreward.errors import ConfigError, JudgeError, Reason
from longreward.judge.engine.refusals import short as _short
from longreward.judge.engine.replies import Reply, read
from longreward.pacing import Priority, pacer

_MAX_BODY = 4 * 2**20  # bytes of a reply; a judge's is a few kilobytes
_IDLE_CONNECTION_S = 4.0  # below the 5 s after which uvicorn (and so vLLM) closes an idle connection
_SPARE_FILES = 256  # descriptors left for everything but connections


KIND_HEADER = "X-LongReward-Request"
"""Header of every request: the kind of question, for a gateway's logs and costs by kind. Servers ignore it."""


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
        return read(response.status, response.headers, raw)

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
