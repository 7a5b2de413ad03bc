"""Asks an endpoint a few questions within a short time, and says why one of them has no verdict."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from longreward.config import JudgeConfig
from longreward.errors import Reason
from longreward.judge import Verdict, make_judge
from longreward.judge.engine.limits import REFUSES_US
from longreward.judge.requests import RewardRequest
from longreward.model_config import ModelConfig
from longreward.preflight.finding import listed
from longreward.preflight.remedies import remedy
from longreward.prompts import OURS, Prompts
from longreward.schema import JudgeCall

M = TypeVar("M", bound=ModelConfig)

_MOMENT_S = 0.5
_WHEN_BUSY_S = 2.0
_SHOWN = 160  # characters of a reply

_FINAL = frozenset(
    {*REFUSES_US, Reason.BAD_REQUEST, Reason.FILTERED, Reason.CONTEXT_LENGTH, Reason.SPEND_CAP, Reason.TIMEOUT}
)
"""Reasons that a second attempt would not change, or has no time for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and its verdict; None where the time ended before it was asked or answered."""

    request: RewardRequest[Any]
    verdict: Verdict[Any] | None
    adapted: tuple[str, ...] = ()
    """What the endpoint does not take of a request; see `JudgeStatus.adapted`."""

    @property
    def kind(self) -> str:
        """What people call this kind of question."""
        return self.request.label

    @property
    def call(self) -> JudgeCall:
        """The call of a question that has a verdict."""
        assert self.verdict is not None
        return self.verdict.call

    @property
    def ok(self) -> bool:
        return self.verdict is not None and self.verdict.ok

    @property
    def failed(self) -> bool:
        return self.verdict is not None and not self.verdict.ok

    @property
    def told(self) -> str:
        """What the endpoint did wrong, and what it said where it should have said something else."""
        text = " ".join(self.call.text.split())
        if not text or self.call.status not in (Reason.PARSE_ERROR, Reason.TRUNCATED):
            return self.call.detail
        # The end matters most: there the verdict ought to be.
        shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"
        return f"{self.call.detail}; it said: {shown!r}"

    @property
    def why(self) -> str:
        """Why a question that failed has no value: "reason (what the endpoint did)"."""
        return f"{self.call.status} ({self.told})"

    @property
    def action(self) -> str:
        """What to do about a question that failed."""
        return remedy(Reason(self.call.status), self.call.detail)


def one_by_one(judge: M) -> list[M]:
    """The judge as if each endpoint were the only one; the judge itself where it has no network."""
    alone = [{"base_url": None, "endpoints": [endpoint]} for endpoint in judge.resolved_endpoints]
    return [judge.model_copy(update=changes) for changes in alone] or [judge]


async def ask(
    judge: ModelConfig,
    requests: Sequence[RewardRequest[Any]],
    call_s: float,
    within_s: float | None = None,
    *,
    prompts: Prompts = OURS,
) -> list[Asked]:
    """Ask all questions at once, within the judge's own limits.

    A reply may take `call_s` seconds. A question that the limits still hold back after `within_s` seconds (`call_s` if
    None) is not asked. A question that fails for a passing reason is asked once more if there is time left, unless
    `judge.max_attempts` is 1. What the judge does wrong is in the verdicts. ConfigError if the variable that
    `judge.api_key_env` names is not set.
    """
    begun = time.monotonic()
    asked = await _ask_once(judge, requests, call_s, within_s or call_s, prompts)
    again = [i for i, one in enumerate(asked) if one.failed and one.call.status not in _FINAL]
    busy = any(asked[i].call.status == Reason.RATE_LIMITED for i in again)
    pause = _WHEN_BUSY_S if busy else _MOMENT_S
    left = call_s - pause - (time.monotonic() - begun)
    if not again or judge.max_attempts == 1 or left <= 0:
        return asked
    await asyncio.sleep(pause)
    # The same changes as the judge itself makes after a reply that cannot be read or was cut.
    changes = {name: 2 * getattr(judge, name) for name in ("max_tokens", "reasoning_tokens")}
    if judge.temperature is not None:
        changes["temperature"] = judge.retry_temperature
    second = judge.model_copy(update=changes)
    for i, one in zip(again, await _ask_once(second, [requests[i] for i in again], left, left, prompts), strict=True):
        if one.verdict is not None:
            one.verdict.call.attempts += 1
            one.verdict.call.usage += asked[i].call.usage
            asked[i] = one
    return asked


async def _ask_once(
    judge: ModelConfig, requests: Sequence[RewardRequest[Any]], call_s: float, within_s: float, prompts: Prompts
) -> list[Asked]:
    """One attempt for each question, by a new judge. After a failure, the same judge would wait longer and longer
    before it asks the endpoint again, one call at a time."""
    asking = make_judge(one_attempt(judge, call_s), prompts=prompts)
    try:
        tasks = [asyncio.create_task(asking.ask(request)) for request in requests]
        # A moment more, so that the last call ends in its own timeout and says so.
        done, waiting = await asyncio.wait(tasks, timeout=within_s + _MOMENT_S)
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
        adapted = asking.status().adapted
        return [
            Asked(one, task.result() if task in done else None, adapted)
            for one, task in zip(requests, tasks, strict=True)
        ]
    finally:
        await asking.aclose()


def one_attempt(judge: M, call_s: float) -> M:
    """The judge with one attempt for each call, which may take `call_s` seconds."""
    times = {name: min(call_s, getattr(judge, name)) for name in ("attempt_timeout_s", "call_timeout_s")}
    return judge.model_copy(update={"max_attempts": 1, "max_outage_s": None} | times)


def failure(asked: Sequence[Asked]) -> str:
    """Why the endpoint cannot be used, as "reason (kinds: detail)"; empty where it can.

    A question that limits held back, the judge's own or the endpoint's, is not a failure if another was answered.
    """
    failed = [one for one in asked if one.failed]
    answered = any(one.ok for one in asked)
    if answered:
        failed = [one for one in failed if one.call.status not in (Reason.SPEND_CAP, Reason.RATE_LIMITED)]
    if not failed:
        return "" if answered else f"{Reason.TIMEOUT} (every kind of question: no complete reply in time)"
    # The reason that most questions share: where an endpoint is away, the details may differ.
    status = statistics.mode(one.call.status for one in failed)
    same = [one for one in failed if one.call.status == status]
    # A question still under way at the end has no reply either, and its own timeout was only a moment later.
    unanswered = [one for one in asked if one.verdict is None] if status == Reason.TIMEOUT and not answered else []
    kinds = "every kind of question" if len(same + unanswered) == len(asked) > 1 else listed(one.kind for one in same)
    return f"{status} ({kinds}: {same[0].told})"


@contextmanager
def quietly() -> Iterator[None]:
    """Without the judge's own warnings: the findings or the error say the same."""
    logger = logging.getLogger("longreward.judge")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def urls_by_key(judge: JudgeConfig) -> dict[str | None, list[str]]:
    """Each environment variable that holds a key (None: OPENAI_API_KEY, if it is set) -> the URLs it is for."""
    found: dict[str | None, list[str]] = {}
    for model in judge.models.values():
        for endpoint in model.resolved_endpoints if model.kind == "openai" else []:
            urls = found.setdefault(endpoint.api_key_env, [])
            if endpoint.base_url not in urls:
                urls.append(endpoint.base_url)
    return found
