"""One request to one OpenAI-compatible endpoint: limited in size and time, and never retried."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from longreward.base_url import chat_url, classify_url, embeddings_url, score_url
from longreward.concurrency.pacing import Priority, pacer
from longreward.errors import ConfigError, JudgeError, Reason
from longreward.judge.protocol.address import Address, Proxy, failure, proxy_for, redirected
from longreward.judge.protocol.checkers import read_likelihood, read_score
from longreward.judge.protocol.classification import read as read_classification
from longreward.judge.protocol.content_encoding import decoded, too_long
from longreward.judge.protocol.embeddings import read as read_embeddings
from longreward.judge.protocol.refusals import short as _short
from longreward.judge.protocol.replies import Reply, read
from longreward.model_config import EndpointConfig

_IDLE_CONNECTION_S = 4.0  # below the 5 s after which uvicorn (and so vLLM) closes an idle connection
_MOST_REDIRECTS = 3
_SPARE_FILES = 256  # descriptors left for everything but connections
_LEAST_SPARE_FILES = 64  # with fewer it does not start


KIND_HEADER = "X-LongReward-Request"
"""Header of every request: the kind of question, for a gateway's logs and costs by kind. Servers ignore it."""


@dataclass(frozen=True, slots=True)
class Api:
    """What is asked of an endpoint: where, how the response is read (by the number of replies that were asked for), and
    how many bytes it may have."""

    url: Callable[[str], str]
    read: Callable[[int, Mapping[str, str], bytes, int], Reply]
    max_body: int
    whole: bool = True
    """Whether a reply counts only where the judge has ended it itself."""


CHAT = Api(chat_url, read, 4 * 2**20)  # a judge's reply is a few kilobytes
FIRST_WORD = Api(
    chat_url, lambda status, told, raw, wanted: read(status, told, raw, wanted, whole=False), 4 * 2**20, whole=False
)
SCORE = Api(score_url, lambda status, told, raw, _: read_score(status, told, raw), 2**20)
LIKELIHOOD = Api(chat_url, lambda status, told, raw, _: read_likelihood(status, told, raw), 64 * 2**20, whole=False)
EMBEDDINGS = Api(embeddings_url, lambda status, told, raw, _: read_embeddings(status, told, raw), 64 * 2**20)
CLASSIFY = Api(classify_url, lambda status, told, raw, _: read_classification(status, told, raw), 2**20)


class EndpointClient:
    """Sends requests to `config.base_url`. Use it on one event loop; `aclose` it there.

    Requests go by aiohttp: the openai package's own client takes 1.2 ms of CPU a call and aiohttp 0.3 ms, which decides
    how many calls a second a process can make. ConfigError as for `Address.of`.
    """

    def __init__(self, config: EndpointConfig, attempt_timeout_s: float, api: Api = CHAT) -> None:
        self._api = api
        self._most = config.max_in_flight or 1
        self._address = Address.of(config, api.url)
        self._timeout = aiohttp.ClientTimeout(total=attempt_timeout_s)
        self._proxy: Proxy | None = None
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """The one that keeps connections open, and the one that opens a connection for each request."""

    async def complete(self, body: dict[str, Any], kind: str, *, fresh: bool = False) -> Reply:
        """Ask one question of this kind (`verify`, ...), `fresh`: by a connection of its own. Cancellation ends the
        request.

        JudgeError with the reason for everything that an endpoint can do wrong; its `usage` holds the tokens that the
        endpoint counted for a reply that cannot be used.
        """
        await pacer().turn(Priority.NETWORK)
        headers = {**self._address.headers, KIND_HEADER: kind}
        try:
            status, told, raw = await self._post(json.dumps(body).encode(), headers, fresh)
        except Exception as error:
            # Without its cause, which would stand in tracebacks: it may repeat what the endpoint said, a key too.
            raise failure(error, self._proxy) or _as_judge_error(error) from None
        return self._api.read(status, told, raw, body.get("n", 1))

    async def aclose(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def _post(self, data: bytes, headers: Mapping[str, str], fresh: bool) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the response, after redirects: a 301 would make a GET of it elsewhere."""
        session, url = self._open(fresh), self._address.url
        for _ in range(_MOST_REDIRECTS + 1):
            async with session.post(url, data=data, headers=headers, allow_redirects=False) as response:
                target = redirected(url, response.status, response.headers)
                if target is None:
                    return response.status, response.headers, await self._read(response)
            url = target
        raise JudgeError(Reason.MISCONFIGURED, detail=f"it redirects again and again, at last to {url}")

    def _open(self, fresh: bool) -> aiohttp.ClientSession:
        if fresh not in self._sessions:  # not before there is an event loop
            # Asked once, because aiohttp would start a thread a call for it.
            self._proxy = proxy_for(self._address.url)
            kept = {"force_close": True} if fresh else {"keepalive_timeout": _IDLE_CONNECTION_S}
            proxy = self._proxy.url if self._proxy else None
            self._sessions[fresh] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._most + 8, **kept),
                timeout=self._timeout,
                proxy=proxy,
                auto_decompress=False,
            )
        return self._sessions[fresh]

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body, in its turn; JudgeError when it grows too long."""
        await pacer().turn(Priority.NETWORK)
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > self._api.max_body:
                raise too_long(self._api.max_body)
        return decoded(bytes(body), response.headers.get("Content-Encoding", ""), self._api.max_body)


def allow_open_files(most: int) -> None:
    """Let the process have so many connections at once. ConfigError where it may not open enough files for them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted, needed = most + _SPARE_FILES, most + _LEAST_SPARE_FILES
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"judge.max_in_flight={most} over all endpoints needs {needed} open files, this process may have {hard}; "
            "lower it, or raise `ulimit -n`"
        )
    most_allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_allowed, hard))


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
