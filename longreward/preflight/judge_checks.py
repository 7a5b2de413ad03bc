"""Asks a judge before it is used. Does each endpoint answer every kind of question in a form that can be read, how
fast is it, and does it tell right answers from wrong ones?

The results are findings; nothing here prints. `longreward doctor` (longreward/commands/doctor.py) shows them, and every
training run asks each kind of question once before it starts (rl/run/preflight.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from longreward.concurrency.tasks import task_group, together
from longreward.config import NO_KEY, ModelConfig, RewardConfig
from longreward.errors import Reason
from longreward.judge import offline
from longreward.judge.engine.embedder import key_variables
from longreward.judge.protocol.address import secret_from_environment
from longreward.judge.requests import ExtractRelevant, RewardRequest
from longreward.preflight.asking import Asked, ask, failure, one_by_one, quietly
from longreward.preflight.embedding_check import check_embeddings
from longreward.preflight.finding import Finding, Severity, listed
from longreward.preflight.questions import full_extraction, parts_missed, questions, wrong_answers
from longreward.preflight.remedies import remedy
from longreward.prompts import Prompts
from longreward.schema import Usage
from longreward.text.tokens import fewest_tokens_in

R = TypeVar("R", bound=RewardRequest[Any])

_LONGEST_CHECK_S = 120  # seconds; with tight limits of our own, not all questions are asked in this time
_SLOW = 0.5  # of the time an attempt may take
_REAL_JUDGE = "for a real judge: judge.kind=openai judge.base_url=URL judge.model=NAME"


@dataclass(slots=True)
class JudgeCheck:
    """What was found out about the judge."""

    findings: list[Finding] = field(default_factory=list)
    latency_s: float | None = None
    """Seconds of a call with few others under way; None where no first attempt was answered. For several endpoints, the
    harmonic mean: that of an endpoint which serves as many calls a second as they do on average."""
    usage: Usage = field(default_factory=Usage)
    """Calls, tokens and cost of the check itself."""


async def check_judge(config: RewardConfig) -> JudgeCheck:
    """Ask every endpoint each kind of question, in English and Chinese, four of them about wrong answers too, and one
    extraction of full size.

    It takes about three calls in a row, and a few `judge.attempt_timeout_s` where the judge hangs. The verdict cache is
    neither read nor written. ConfigError where a key holds what no HTTP header may hold.
    """
    judge, check = config.judge, JudgeCheck()
    if judge.kind == "offline":
        check.findings.append(Finding.note("judge", offline.NOTICE.removeprefix("judge: "), _REAL_JUDGE))
    if not judge.asks_endpoints:
        return check
    _read_keys(config)
    # An endpoint whose key is not set cannot be asked; the check of the keys says so.
    usable = [(name, one) for name, one in _alone(config) if _has_key(one)]
    with quietly():
        results = await together(_check_endpoint(config, name, one) for name, one in usable)
        vectors, check.usage = await check_embeddings(config, judge.attempt_timeout_s)
    latencies: list[float] = []
    for findings, seconds, usage in results:
        check.findings += findings
        latencies += [statistics.median(seconds)] if seconds else []
        check.usage += usage
    check.findings += vectors
    check.latency_s = statistics.harmonic_mean(latencies) if latencies else None
    return check


async def unusable(config: RewardConfig, within_s: float) -> list[Finding]:
    """Ask every endpoint each kind of question once and an extraction of full size, and the embedding model for a
    vector, all at the same time; a problem for each that cannot be used. None for the offline judge.

    ConfigError where a key is named that is not set, or holds what no HTTP header may hold.
    """
    if not config.judge.asks_endpoints:
        return []
    _read_keys(config)
    alone = _alone(config)
    with quietly():
        async with task_group() as group:
            asking = group.create_task(together(_asked_once(config, name, judge, within_s) for name, judge in alone))
            vectors, _ = await check_embeddings(config, within_s)
        results = asking.result()
    found = [finding for finding in vectors if finding.severity is Severity.PROBLEM]
    for (name, judge), (short, full) in zip(alone, results, strict=True):
        url = judge.resolved_endpoints[0].base_url
        if why := failure(short):
            sentence = f"the judge {judge.model} at {url} did not answer: {why}"
            problem = Finding.problem("judge", sentence, "check judge.base_url, judge.model and the key")
            found.append(problem.of_route(name))
        else:
            # A slow or a weak judge is no reason to refuse a run; one that does not read all of it is.
            found += [f.of_route(name) for f in _context(judge, full) if f.severity is Severity.PROBLEM]
    return found


def _alone(config: RewardConfig) -> list[tuple[str | None, ModelConfig]]:
    """Each endpoint of the judge and of its routes that a question is asked at, with the route's name."""
    used = {config.route_of(request.kind) for request in questions(config)}
    models = [(name, model) for name, model in config.judge.models.items() if name in used and model.kind != "offline"]
    return [(name, one) for name, model in models for one in one_by_one(model)]


async def _asked_once(
    config: RewardConfig, name: str | None, judge: ModelConfig, within_s: float
) -> tuple[list[Asked], list[Asked]]:
    """The route's short questions, and its extraction of full size."""
    short, full = _routed(config, name, questions(config)), _routed(config, name, _full(config))
    asked = await ask(judge, [*short, *full], within_s, prompts=Prompts.of(config, judge))
    return asked[: len(short)], asked[len(short) :]


def _routed(config: RewardConfig, name: str | None, asked: Sequence[R]) -> list[R]:
    """Those of the questions that take this route."""
    return [request for request in asked if config.route_of(request.kind) == name]


async def _check_endpoint(
    config: RewardConfig, name: str | None, judge: ModelConfig
) -> tuple[list[Finding], list[float], Usage]:
    """Findings about the only endpoint of `judge`, the seconds of its calls, and their usage."""
    call_s = min(judge.attempt_timeout_s, judge.call_timeout_s)
    within_s, prompts = max(call_s, _LONGEST_CHECK_S), Prompts.of(config, judge)
    asked = await ask(judge, _routed(config, name, questions(config)), call_s, within_s, prompts=prompts)
    kinds = {one.request.kind for one in asked if one.ok}
    more: list[Asked] = []
    full: list[Asked] = []
    if kinds:
        # After the first round: its seconds are measured with only a few calls under way.
        both = (*wrong_answers(config), *questions(config, "zh"))
        further = [request for request in both if request.kind in kinds]
        more = await ask(judge, further, call_s, within_s, prompts=prompts)
    if ExtractRelevant.kind in kinds:
        full = await ask(judge, _full(config), call_s, within_s, prompts=prompts)
    usage = sum((one.call.usage for one in (*asked, *more, *full) if one.verdict is not None), Usage())
    first = [one.call for one in asked if one.ok]
    seconds = [call.seconds for call in first if call.attempts == 1]
    found = [*_judge_findings(judge, asked, more), *_context(judge, full)]
    return [finding.of_route(name) for finding in found], seconds, usage


def _judge_findings(judge: ModelConfig, asked: Sequence[Asked], more: Sequence[Asked]) -> Iterator[Finding]:
    url = judge.resolved_endpoints[0].base_url
    good = [one for one in asked if one.ok]
    failed = [one for one in asked if one.failed]
    reasons = {one.call.status for one in failed}
    if len(reasons) == 1 and not good:
        sentence = f"{judge.model} at {url} answers no question: {failed[0].why}"
        yield Finding.problem("judge", sentence, failed[0].action)
    else:
        for one in failed:
            yield Finding.problem("judge", f"{url}, {one.kind}: {one.why}", one.action)
    for sentence in dict.fromkeys(sentence for one in asked for sentence in one.adapted):
        action = "nothing to do; judge.max_tokens_field and judge.temperature=null save the first requests"
        yield Finding.note("judge", f"{sentence}: {judge.model} is asked in that form", action)
    if held := [one.kind for one in asked if one.verdict is None]:
        sentence = f"{url}: not asked within {_LONGEST_CHECK_S} s because of judge's own limits: {listed(held)}"
        yield Finding.note("judge", sentence, "see `limits` below")
    if good:
        yield from _pace_findings(judge, url, good, len(asked))
    english = {one.request.kind: one for one in good}
    yield from _weak(judge, url, english, [one for one in more if one.request.language == "en"])
    for language, about, action in (
        ("en", "a wrong answer", "such answers would sometimes be void; watch `void` in the run"),
        ("zh", "Chinese material", "answers about Chinese documents would be void; use another judge for them"),
    ):
        if unusable := [one for one in more if one.request.language == language and one.failed]:
            kinds = listed(one.kind for one in unusable)
            sentence = f"{url}: no usable reply about {about} for {kinds}: {unusable[0].why}"
            yield Finding.note("judge", sentence, action)


def _pace_findings(judge: ModelConfig, url: str, good: Sequence[Asked], total: int) -> Iterator[Finding]:
    again = [one.kind for one in good if one.call.attempts > 1]
    seconds = {one.kind: one.call.seconds for one in good if one.kind not in again or len(again) == len(good)}
    slowest = max(seconds, key=lambda kind: seconds[kind])
    kinds = f"all {total} kinds" if len(good) == total else f"{len(good)} of {total} kinds"
    yield Finding.ok(
        "judge",
        f"{judge.model} at {url} answers {kinds} of question readably, {statistics.median(seconds.values()):.2g} s a "
        f"call with {total} at once (slowest: {slowest}, {seconds[slowest]:.2g} s)",
    )
    if again:
        sentence = f"{url}: a second attempt was needed for {listed(again)}"
        yield Finding.note("judge", sentence, "each such attempt costs tokens and time; see the endpoint's log")
    if seconds[slowest] > _SLOW * judge.attempt_timeout_s:
        sentence = f"{url}: {seconds[slowest]:.2g} s is much of the {judge.attempt_timeout_s:g} s for an attempt"
        yield Finding.note("judge", sentence, "under load it will be slower: raise judge.attempt_timeout_s")


def _full(config: RewardConfig) -> list[ExtractRelevant]:
    return [full_extraction(config)] if ExtractRelevant.dimension in config.needed else []


def _context(judge: ModelConfig, full: Sequence[Asked]) -> Iterator[Finding]:
    """Whether the judge reads an extraction of full size from its beginning to its end."""
    url = judge.resolved_endpoints[0].base_url
    for one in full:
        if one.verdict is None:
            yield Finding.note("judge", f"{url}: an extraction of full size had no reply in time", "see `limits` below")
        elif one.call.shrunk or one.call.status == Reason.CONTEXT_LENGTH:
            why = f": {one.told}" if one.failed else ", half of it does"
            sentence = f"{url}: an extraction of full size does not fit into the judge's context{why}"
            yield Finding.problem("judge", sentence, remedy(Reason.CONTEXT_LENGTH, one.told))
        elif one.failed:
            yield Finding.note("judge", f"{url}: an extraction of full size has no usable reply: {one.why}", one.action)
        elif 0 < len(missed := parts_missed(one.verdict.value)) < 3:
            sentence = f"{url}: of a passage of full size {judge.model} did not report the fact at its {listed(missed)}"
            if one.call.usage.prompt_tokens >= fewest_tokens_in(one.request.text()):
                yield Finding.note("judge", sentence, "it read the whole passage: use a stronger judge")
            else:
                action = "see whether the server cuts long prompts: serve a longer context, or use a stronger judge"
                yield Finding.problem("judge", sentence, action)
        elif missed:
            sentence = f"{url}: {judge.model} found none of the three facts in a passage of full size"
            action = "completeness rests on such extractions: see whether the server cuts long prompts, or use another"
            yield Finding.note("judge", sentence, action)
        else:
            counted = f", {tokens:,} tokens" if (tokens := one.call.usage.prompt_tokens) else ""
            sentence = f"{url}: the context holds an extraction of full size{counted}, read from beginning to end"
            yield Finding.ok("judge", sentence)


def _weak(judge: ModelConfig, url: str, right: Mapping[str, Asked], wrong: Sequence[Asked]) -> Iterator[Finding]:
    """Whether an answer that is clearly wrong gets at least the value of a right one."""
    fooled = [
        f"{one.kind} ({_value(one):g}, the right one {_value(other):g})"
        for one in wrong
        if one.ok and (other := right.get(one.request.kind)) and _value(one) >= _value(other)
    ]
    if fooled:
        sentence = f"{url}: {judge.model} rates a clearly wrong answer no lower than a right one in {listed(fooled)}"
        yield Finding.note("judge", sentence, "a policy learns what its judge rewards: use a stronger judge")


def _value(asked: Asked) -> float:
    assert asked.verdict is not None and asked.verdict.value is not None
    value = asked.verdict.value
    return statistics.fmean(value) if isinstance(value, list) else float(value)


def _has_key(judge: ModelConfig) -> bool:
    name = judge.resolved_endpoints[0].api_key_env
    return name in (None, NO_KEY) or bool(secret_from_environment(name))


def _read_keys(config: RewardConfig) -> None:
    """ConfigError, before anything is asked, where a key holds what no HTTP header may hold."""
    for variable in sorted(key_variables(config)):
        secret_from_environment(variable)
