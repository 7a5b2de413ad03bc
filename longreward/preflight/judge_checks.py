"""Asking a judge before it is used: does each endpoint answer every kind of question readably, how fast, and does it
tell right from wrong?

What is found out comes as findings; nothing here prints. `longreward doctor` (longreward/commands/doctor.py) shows
them; `rl/run/preflight.py` asks each kind of question before every training run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from longreward.config import EndpointConfig, JudgeConfig, RewardConfig
from longreward.errors import Reason
from longreward.judge import Verdict, make_judge, offline
from longreward.judge.engine.limits import REFUSES_US
from longreward.judge.requests import (
    REQUESTS,
    RateCompleteness,
    RateHelpfulness,
    RateLogicality,
    RewardRequest,
    VerifyStatement,
    VerifyStatements,
)
from longreward.preflight.finding import Finding, Severity
from longreward.prompts import Language
from longreward.schema import JudgeCall, Usage

DEFAULT_KEY = "OPENAI_API_KEY"
_LONGEST_CHECK_S = 120  # seconds: where our own limits let only a few questions a minute through, not all are asked
_MOMENT_S = 0.5
_WHEN_BUSY_S = 2.0
_SHOWN = 160  # characters of a reply
_SLOW = 0.5  # of the time an attempt may take


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the check and what came of it; None where the time ended before it was asked or answered."""

    request: RewardRequest[Any]
    verdict: Verdict[Any] | None

    @property
    def kind(self) -> str:
        return self.request.label

    @property
    def call(self) -> JudgeCall:
        """Of a question that was asked."""
        assert self.verdict is not None
        return self.verdict.call

    @property
    def ok(self) -> bool:
        return self.verdict is not None and self.verdict.ok

    @property
    def failed(self) -> bool:
        return self.verdict is not None and not self.verdict.ok


@dataclass(slots=True)
class JudgeCheck:
    """What the judge was found to be."""

    findings: list[Finding] = field(default_factory=list)
    latency_s: float | None = None
    """Seconds of a call with few others under way, None where none was answered at once. Of several endpoints, what one
    would take that serves as many calls a second as they do on average."""
    usage: Usage = field(default_factory=Usage)
    """What the check itself has cost."""


@dataclass(frozen=True, slots=True)
class _Example:
    """A document so short that every judge can tell a right answer about it from a wrong one."""

    passage: str
    query: str
    right: str
    wrong: str


_EXAMPLES: dict[Language, _Example] = {
    "en": _Example(
        "Mara sold 40 crates of copper to Otto in Lisbon. It rained all day. Lena bought apples from Karl in Rome.",
        "What did Mara sell to Otto, and where?",
        "Mara sold 40 crates of copper to Otto in Lisbon.",
        "Karl bought 12 ships from Lena in Oslo.",
    ),
    "zh": _Example(
        "玛拉在里斯本把40箱铜卖给了奥托。那天一直下雨。莉娜在罗马向卡尔买了苹果。",
        "玛拉卖给奥托什么？在哪里？",
        "玛拉在里斯本把40箱铜卖给了奥托。",
        "卡尔在奥斯陆向莉娜买了12艘船。",
    ),
}

_BESIDE_THE_POINT = "Thank you for this interesting question. Rain is water that falls from clouds."
_CONTRADICTORY = (
    "Mara sold copper to Otto in Lisbon. Mara never sold anything to Otto in Lisbon, and she was in Oslo then."
)


def questions(config: RewardConfig, language: Language = "en") -> list[RewardRequest[Any]]:
    """One short question of each kind that this reward asks: six, if every dimension has a weight, and one more where
    several statements are verified in a call."""
    asked = [kind for kind in REQUESTS if kind.dimension in config.needed]
    if config.faithfulness.statements_per_call == 1:
        asked = [kind for kind in asked if kind is not VerifyStatements]
    return [_about_example(kind, language) for kind in asked]


def wrong_answers(config: RewardConfig) -> list[RewardRequest[Any]]:
    """Questions as in `questions`, about answers that are blatantly wrong in just what the question is about."""
    wrong = _EXAMPLES["en"].wrong
    changes: dict[type[RewardRequest[Any]], dict[str, str]] = {
        RateHelpfulness: {"answer": _BESIDE_THE_POINT},
        RateLogicality: {"answer": _CONTRADICTORY},
        VerifyStatement: {"statement": wrong},
        RateCompleteness: {"answer": wrong},
    }
    return [_about_example(kind, "en", **change) for kind, change in changes.items() if kind.dimension in config.needed]


def _about_example(kind: type[RewardRequest[Any]], language: Language, **changes: str) -> RewardRequest[Any]:
    """A question of this kind about the example's right answer, with `changes` to its material."""
    example = _EXAMPLES[language]
    material: dict[str, Any] = {
        "language": language,
        "query": example.query,
        "answer": example.right,
        "statement": example.right,
        "statements": [example.right, example.wrong],
        "evidence": [example.passage],
        "chunk": example.passage,
        "extractions": [example.right],
    } | changes
    return kind(**{field.name: material[field.name] for field in fields(kind)})


def one_by_one(judge: JudgeConfig) -> list[JudgeConfig]:
    """The judge as if each endpoint were the only one; the judge itself where it has no network."""
    alone = [{"base_url": None, "endpoints": [endpoint]} for endpoint in judge.resolved_endpoints]
    return [judge.model_copy(update=changes) for changes in alone] or [judge]


async def ask(
    judge: JudgeConfig, requests: Sequence[RewardRequest[Any]], call_s: float, within_s: float | None = None
) -> list[Asked]:
    """Ask all at once, within the judge's own limits: replies are waited for `call_s` seconds at most, and what those
    limits still hold back after `within_s` (`call_s` if None) is not asked.

    What fails, but may not the next time, is asked once more if there is time left, unless `judge.max_attempts` is 1.
    ConfigError where a key is named that is not set. What the judge does wrong is in the verdicts.
    """
    begun = time.monotonic()
    asked = await _ask_once(judge, requests, call_s, within_s or call_s)
    again = [i for i, one in enumerate(asked) if one.failed and one.call.status not in _FINAL]
    busy = any(asked[i].call.status == Reason.RATE_LIMITED for i in again)
    pause = _WHEN_BUSY_S if busy else _MOMENT_S
    left = call_s - pause - (time.monotonic() - begun)
    if not again or judge.max_attempts == 1 or left <= 0:
        return asked
    await asyncio.sleep(pause)
    # As the judge's own attempts would go on after an unreadable reply and after one that was cut.
    second = judge.model_copy(update={"temperature": judge.retry_temperature, "max_tokens": 2 * judge.max_tokens})
    for i, one in zip(again, await _ask_once(second, [requests[i] for i in again], left, left), strict=True):
        if one.verdict is not None:
            one.verdict.call.attempts += 1
            one.verdict.call.usage += asked[i].call.usage
            asked[i] = one
    return asked


async def _ask_once(
    judge: JudgeConfig, requests: Sequence[RewardRequest[Any]], call_s: float, within_s: float
) -> list[Asked]:
    """A single attempt each, by a judge of its own: its next ones would wait until an endpoint that failed is tried
    again, ever later, one call at a time."""
    once = {"max_attempts": 1, "max_outage_s": None}
    times = {name: min(call_s, getattr(judge, name)) for name in ("attempt_timeout_s", "call_timeout_s")}
    asking = make_judge(judge.model_copy(update=once | times))
    try:
        tasks = [asyncio.create_task(asking.ask(request)) for request in requests]
        # A moment more, so that the last call to be given up is told as such.
        done, waiting = await asyncio.wait(tasks, timeout=within_s + _MOMENT_S)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return [
            Asked(request, task.result() if task in done else None)
            for request, task in zip(requests, tasks, strict=True)
        ]
    finally:
        await asking.aclose()


def failure(judge: JudgeConfig, asked: Sequence[Asked]) -> str:
    """Why these questions got no verdict, as "reason (kinds: detail)"; empty where nothing says that they cannot.

    A question that was held back by limits, ours or the endpoint's, says nothing, as long as another was answered.
    """
    failed = [one for one in asked if one.failed]
    answered = any(one.ok for one in asked)
    if answered:
        failed = [one for one in failed if one.call.status not in (Reason.SPEND_CAP, Reason.RATE_LIMITED)]
    if not failed:
        return "" if answered else f"{Reason.TIMEOUT} (every kind of question: no complete reply in time)"
    # The one that most have in common: where an endpoint is away, each kind may still end in words of its own.
    status = statistics.mode(one.call.status for one in failed)
    same = [one for one in failed if one.call.status == status]
    # A question still under way at the end has seen no reply either; whether it was told so first is a matter of pace.
    unanswered = [one for one in asked if one.verdict is None] if status == Reason.TIMEOUT and not answered else []
    kinds = "every kind of question" if len(same + unanswered) == len(asked) > 1 else listed(one.kind for one in same)
    return f"{status} ({kinds}: {_told(judge, same[0])})"


@contextmanager
def quietly() -> Iterator[None]:
    """The judge's own warnings left out: what they speak of is in the findings, or in the error."""
    logger = logging.getLogger("longreward.judge")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


async def check_judge(config: RewardConfig) -> JudgeCheck:
    """Ask every endpoint each kind of question, in English and Chinese, and four of them about wrong answers too.

    Takes about two latencies of the judge, and at most some `judge.attempt_timeout_s` where it hangs. The verdicts are
    not looked up in `cache.path` and not kept there.
    """
    judge, check = config.judge, JudgeCheck()
    if judge.kind == "offline":
        check.findings.append(Finding(Severity.NOTE, "judge", offline.NOTICE.removeprefix("judge: "), _REAL_JUDGE))
        return check
    usable = [endpoint for endpoint in one_by_one(judge) if not _missing_key(endpoint.resolved_endpoints[0])]
    latencies: list[float] = []
    for findings, seconds, usage in await asyncio.gather(*(_check_endpoint(config, one) for one in usable)):
        check.findings += findings
        latencies += [statistics.median(seconds)] if seconds else []
        check.usage += usage
    check.latency_s = statistics.harmonic_mean(latencies) if latencies else None
    return check


_REAL_JUDGE = "for a real judge: judge.kind=openai judge.base_url=URL judge.model=NAME"


async def _check_endpoint(config: RewardConfig, judge: JudgeConfig) -> tuple[list[Finding], list[float], Usage]:
    """Findings about the only endpoint of `judge`, the seconds of its calls, and their usage."""
    call_s = min(judge.attempt_timeout_s, judge.call_timeout_s)
    within_s = max(call_s, _LONGEST_CHECK_S)
    asked = await ask(judge, questions(config), call_s, within_s)
    more: list[Asked] = []
    if any(one.ok for one in asked):
        # After the first round, whose seconds are measured with only a handful of calls under way.
        kinds = {one.request.kind for one in asked if one.ok}
        further = [*wrong_answers(config), *questions(config, "zh")]
        more = await ask(judge, [request for request in further if request.kind in kinds], call_s, within_s)
    usage = sum((one.call.usage for one in (*asked, *more) if one.verdict is not None), Usage())
    first = [one.call for one in asked if one.ok]
    seconds = [call.seconds for call in first if call.attempts == 1]
    return list(_judge_findings(judge, asked, more)), seconds, usage


def _judge_findings(judge: JudgeConfig, asked: Sequence[Asked], more: Sequence[Asked]) -> Iterator[Finding]:
    url = judge.resolved_endpoints[0].base_url
    good = [one for one in asked if one.ok]
    failed = [one for one in asked if one.failed]
    reasons = {one.call.status for one in failed}
    if len(reasons) == 1 and not good:
        sentence = f"{judge.model} at {url} answers no question: {_why(judge, failed[0])}"
        yield Finding(Severity.PROBLEM, "judge", sentence, _action(failed[0]))
    else:
        for one in failed:
            yield Finding(Severity.PROBLEM, "judge", f"{url}, {one.kind}: {_why(judge, one)}", _action(one))
    if held := [one.kind for one in asked if one.verdict is None]:
        sentence = f"{url}: not asked within {_LONGEST_CHECK_S} s because of judge's own limits: {listed(held)}"
        yield Finding(Severity.NOTE, "judge", sentence, "see `limits` below")
    if good:
        yield from _pace_findings(judge, url, good, len(asked))
    english = {one.request.kind: one for one in good}
    yield from _weak(judge, url, english, [one for one in more if one.request.language == "en"])
    for language, about, action in (
        ("en", "a wrong answer", "such answers would be void now and then; see `void` in the run"),
        ("zh", "Chinese material", "answers about Chinese documents would be void; use another judge for them"),
    ):
        if unusable := [one for one in more if one.request.language == language and one.failed]:
            kinds = listed(one.kind for one in unusable)
            sentence = f"{url}: no usable reply about {about} for {kinds}: {_why(judge, unusable[0])}"
            yield Finding(Severity.NOTE, "judge", sentence, action)


def _pace_findings(judge: JudgeConfig, url: str, good: Sequence[Asked], total: int) -> Iterator[Finding]:
    calls = {one.kind: one.call for one in good}
    seconds = {kind: call.seconds for kind, call in calls.items() if call.attempts == 1} or {
        kind: call.seconds for kind, call in calls.items()
    }
    slowest = max(seconds, key=lambda kind: seconds[kind])
    kinds = f"all {total} kinds" if len(good) == total else f"{len(good)} of {total} kinds"
    yield Finding(
        Severity.OK,
        "judge",
        f"{judge.model} at {url} answers {kinds} of question readably, {statistics.median(seconds.values()):.2g} s a "
        f"call with {total} at once (slowest: {slowest}, {seconds[slowest]:.2g} s)",
    )
    again = [kind for kind, call in calls.items() if call.attempts > 1]
    if again:
        sentence = f"{url}: a second attempt was needed for {listed(again)}"
        yield Finding(
            Severity.NOTE, "judge", sentence, "each such attempt costs tokens and time; see the endpoint's log"
        )
    if seconds[slowest] > _SLOW * judge.attempt_timeout_s:
        sentence = f"{url}: {seconds[slowest]:.2g} s are much of the {judge.attempt_timeout_s:g} s an attempt may take"
        yield Finding(Severity.NOTE, "judge", sentence, "under load it will be slower: raise judge.attempt_timeout_s")


def _weak(judge: JudgeConfig, url: str, right: Mapping[str, Asked], wrong: Sequence[Asked]) -> Iterator[Finding]:
    """Where an answer that is blatantly wrong fares no worse than a right one."""
    fooled = []
    for one in wrong:
        other = right.get(one.request.kind)
        if other is None or not one.ok:
            continue
        bad, good = _value(one), _value(other)
        if bad >= good:
            fooled.append(f"{one.kind} ({bad:g}, the right one {good:g})")
    if fooled:
        sentence = f"{url}: {judge.model} rates a blatantly wrong answer no lower than a right one in {listed(fooled)}"
        yield Finding(Severity.NOTE, "judge", sentence, "a policy learns what its judge rewards: use a stronger judge")


_FINAL = frozenset(
    {*REFUSES_US, Reason.BAD_REQUEST, Reason.FILTERED, Reason.CONTEXT_LENGTH, Reason.SPEND_CAP, Reason.TIMEOUT}
)
"""What a second attempt would not change, or has no time for."""
_ACTIONS = {
    Reason.UNAUTHORIZED: "check the key and judge.api_key_env",
    Reason.QUOTA: "check the account behind the key",
    Reason.NOT_FOUND: "check judge.model and judge.base_url (it ends in /v1 with most servers)",
    Reason.BAD_REQUEST: "check judge.model and judge.extra_body",
    Reason.UNREACHABLE: "check judge.base_url, and that the server runs",
    Reason.SERVER_ERROR: "see the server's log",
    Reason.RATE_LIMITED: "lower judge.max_in_flight, or set judge.requests_per_minute and judge.tokens_per_minute",
    Reason.TIMEOUT: "see whether the server is stuck or busy, or raise judge.attempt_timeout_s",
    Reason.TRUNCATED: "raise judge.max_tokens: the judge writes (or reasons) longer",
    Reason.PARSE_ERROR: "use a judge that follows the reply format, or more judge.parse_attempts",
    Reason.CONTEXT_LENGTH: "serve the judge with a longer context: an extraction takes some 7,000 tokens",
    Reason.FILTERED: "use an endpoint without a content filter",
    Reason.BAD_RESPONSE: "check that judge.base_url speaks the OpenAI API",
    Reason.SPEND_CAP: "raise judge.spend: it does not even pay for this check",
}


def _action(asked: Asked) -> str:
    return _ACTIONS.get(Reason(asked.call.status), "see the endpoint's log")


def _why(judge: JudgeConfig, asked: Asked) -> str:
    return f"{asked.call.status} ({_told(judge, asked)})"


def _told(judge: JudgeConfig, asked: Asked) -> str:
    """What the endpoint did wrong, and what it said where it should have said something else. No keys: some servers
    repeat the one they refuse."""
    call, text = asked.call, " ".join(asked.call.text.split())
    told = call.detail
    if text and call.status in (Reason.PARSE_ERROR, Reason.TRUNCATED):
        # The end matters most: there the verdict ought to be.
        shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"
        told += f"; it said: {shown!r}"
    for name in urls_by_key(judge):
        if key := os.environ.get(name or DEFAULT_KEY):
            told = told.replace(key, "***")
    return told


def _value(asked: Asked) -> float:
    assert asked.verdict is not None and asked.verdict.value is not None
    return float(asked.verdict.value)


def _missing_key(endpoint: EndpointConfig) -> bool:
    return bool(endpoint.api_key_env) and not os.environ.get(endpoint.api_key_env or "")


def urls_by_key(judge: JudgeConfig) -> dict[str | None, list[str]]:
    """The name of each environment variable that holds a key (None: `DEFAULT_KEY`, if it is set) -> its endpoints."""
    found: dict[str | None, list[str]] = {}
    for endpoint in judge.resolved_endpoints if judge.kind == "openai" else []:
        found.setdefault(endpoint.api_key_env, []).append(endpoint.base_url)
    return found


def listed(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"; not for none."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
