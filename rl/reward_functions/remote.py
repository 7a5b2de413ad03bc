"""`reward.name: remote`: any server that speaks OpenRLHF's remote reward protocol, longreward's own included."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from longreward.base_url import url_without_password
from longreward.config import Section
from longreward.errors import JudgeError, Reason
from longreward.files.nesting import from_json
from longreward.judge.protocol.address import secret_from_environment
from longreward.redaction import keep_secret
from rl.data.prompts import Label, TrainingSample
from rl.reward_functions.base import RewardWithoutJudge, Scale, on_scale

if TYPE_CHECKING:
    import aiohttp

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_STATUS = {401: Reason.UNAUTHORIZED, 403: Reason.UNAUTHORIZED, 404: Reason.NOT_FOUND}
_PASSING = (408, 429)  # and 5xx
_LARGEST_REPLY = 2**20  # bytes
_SHORTEST_TOKEN = 16  # characters, as of `longreward serve`


class RemoteSection(Section):
    url: str | None = None
    """URL that answers are sent to, such as http://host:8400/get_reward."""
    token_env: str | None = None
    """Name of the environment variable that holds the server's token, sent as `Authorization: Bearer`."""
    timeout_s: float = Field(180, gt=0)
    """Deadline of an answer in seconds, with all attempts and the waits between them."""
    max_in_flight: int = Field(256, ge=1)
    """The most requests at once, per worker that scores."""
    range: Scale = (0.0, 10.0)
    """Lowest and highest reward that the server returns, mapped to 0..10. A reward outside is void."""

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"{url_without_password(value)!r} is not a URL; write it as http://host:port/path")
        try:
            parts = urlsplit(value or "http://host")
            unusable = not parts.hostname or parts.port == 0
        except ValueError:
            unusable = True
        if unusable:
            raise ValueError(f"{url_without_password(value or '')!r} is not a URL; write it as http://host:port/path")
        if parts.username or parts.password:
            raise ValueError("a URL with a password would stand in logs; use reward.remote.token_env")
        return value


class RemoteReward(RewardWithoutJudge):
    """One request for each answer: `query` (prompt and answer), `prompts`, `labels`, each a list of one."""

    def __init__(self, section: RemoteSection, within_s: float = math.inf) -> None:
        """`within_s`: a deadline of the caller's own, in seconds. ConfigError where the token cannot be sent."""
        super().__init__("remote")
        self._timeout_s = min(section.timeout_s, within_s)
        assert section.url is not None, "checked by rewards.check"
        self._section, self._url = section, section.url
        # The path may hold a token, and messages are stored.
        self._host = urlsplit(self._url).netloc
        for part in urlsplit(self._url).path.split("/"):
            if len(part) >= _SHORTEST_TOKEN:
                keep_secret(part)
        self._token = secret_from_environment(section.token_env) if section.token_env else ""
        self._places = asyncio.Semaphore(section.max_in_flight)
        self._session: aiohttp.ClientSession | None = None

    async def scores(self, sample: TrainingSample) -> dict[str, float]:
        payload = {"query": [sample.prompt + sample.answer], "prompts": [sample.prompt], "labels": [sample.label]}
        last = ["it did not answer"]
        async with self._places:  # outside of the deadline: the wait is ours, not the server's
            try:
                async with asyncio.timeout(self._timeout_s):
                    reply = await self._ask(payload, last)
            except TimeoutError:
                limit = " (reward.remote.timeout_s)" if self._timeout_s == self._section.timeout_s else ""
                detail = f"{self._host} gave no reward in {self._timeout_s:g} s{limit}: {last[0]}"
                raise JudgeError(Reason.TIMEOUT, detail) from None
        logs = reply.get("extra_logs")
        if isinstance(logs, Mapping) and _one(logs.get("longreward/void")):
            raise JudgeError(Reason.BAD_RESPONSE, f"{self._host} says that the reward is void: {reply.get('status')}")
        return {"total": on_scale(_one(reply.get("rewards")), self._section.range, self._host)}

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(self, payload: dict[str, Any], last: list[str]) -> Mapping[str, Any]:
        """A reply that is a JSON object. Passing faults are tried again until the deadline; `last` has the latest."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {self._token}"} if self._token else None,
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        pause = _FIRST_PAUSE_S
        while True:
            try:
                async with self._session.post(self._url, json=payload, allow_redirects=False) as response:
                    if response.status == 200:
                        return await _object(response, self._host)
                    last[0] = f"it answers {response.status} {response.reason}"
                    if response.status not in _PASSING and response.status < 500:
                        reason = _STATUS.get(response.status, Reason.BAD_REQUEST)
                        raise JudgeError(reason, f"{self._host}: {last[0]}")
            except aiohttp.ClientError as error:  # it restarts, or is not up yet: the deadline bounds it
                last[0] = f"{type(error).__name__}: {error}"
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE_S)


async def problem(section: RemoteSection, within_s: float) -> str | None:
    """Ask the server to score one answer. Returns what is wrong with the reply; None if nothing is."""
    prompt, label = Label.of_text("preflight", "train", "Mara sold copper to Otto in Lisbon.", "What did Mara sell?")
    reward = RemoteReward(section, within_s)
    try:
        await reward.scores(label.sample(prompt, "Mara sold copper.", tokens=4))
    except JudgeError as error:
        return f"{error.detail} ({error.reason.value})"
    finally:
        await reward.aclose()
    return None


async def _object(response: aiohttp.ClientResponse, host: str) -> Mapping[str, Any]:
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > _LARGEST_REPLY:
            raise JudgeError(Reason.BAD_RESPONSE, f"{host} answers with more than {_LARGEST_REPLY} bytes")
    try:
        found = from_json(body)
    except ValueError as error:
        raise JudgeError(Reason.BAD_RESPONSE, f"{host} answers with no JSON: {error}") from None
    if not isinstance(found, dict):
        raise JudgeError(Reason.BAD_RESPONSE, f"{host} answers with a JSON {type(found).__name__}, not an object")
    return found


def _one(value: Any) -> Any:
    """What stands in a list of one; servers for single answers leave the list out."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
