"""Second requests for calls that are late: the judge never answers its slow calls, only what is asked a second time."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack

from aiohttp import web

from longreward.config import JudgeConfig
from longreward.judge import make_judge
from longreward.judge.engine import race
from longreward.judge.requests import RateHelpfulness

FAILS = {"attempt_timeout_s": 1.0, "max_attempts": 1}
"""What hangs and is not asked again fails."""


class Slow:
    """Answers at once, but hangs where it is asked for the first time and the answer is a slow one."""

    def __init__(self, server) -> None:
        self.asked: Counter[str] = Counter()
        self.again = asyncio.Event()
        """A slow one was asked for the second time."""
        server.script = {"helpfulness": lambda prompt, _: self.reply(prompt)}

    async def reply(self, prompt: str) -> str | web.Response:
        self.asked[prompt] += 1
        if "slow " not in prompt:
            return "[[8]]"
        if self.asked[prompt] == 1:
            return await self.first()
        self.again.set()
        return await self.second()

    async def first(self) -> str | web.Response:
        await asyncio.sleep(3600)
        return "[[1]]"

    async def second(self) -> str | web.Response:
        return "[[7]]"

    @property
    def asked_again(self) -> int:
        return sum(count > 1 for count in self.asked.values())


def ask(servers, *words: str, known: int = 40, **settings):
    """The verdicts on one answer for each word, asked all at once by a judge that knows how long calls take; its stats
    at the end."""
    config = JudgeConfig(
        kind="openai",
        model="judge",
        endpoints=[{"base_url": server.url} for server in servers],
        **{"retry_base_s": 0.01, "hedge": {"budget": 0.1}, **settings},
    )

    async def run():
        judge = make_judge(config)
        for i in range(known):
            assert (await judge.ask(RateHelpfulness("en", "What?", f"known {i}"), document=f"d{i}")).ok
        asked = (
            judge.ask(RateHelpfulness("en", "What?", f"{word} {i}"), document=f"d{i}") for i, word in enumerate(words)
        )
        verdicts = await asyncio.gather(*asked)
        stats = judge.stats()
        await judge.aclose()
        return verdicts, stats

    return asyncio.run(run())


def test_a_call_that_hangs_is_asked_again_and_counts_as_one_attempt(judge_server):
    slow = Slow(judge_server)
    (verdict,), stats = ask([judge_server], "slow")
    assert verdict.value == 7 and verdict.call.attempts == 1
    assert slow.asked_again == stats["judge/hedged"] == stats["judge/hedges_won"] == 1
    assert judge_server.in_flight == 0  # the first request was cancelled


def test_what_both_requests_cost_counts(judge_server):
    Slow(judge_server)
    _, one = ask([judge_server], "quick")
    _, two = ask([judge_server], "slow")
    assert two["judge/requests"] == one["judge/requests"] + 1
    assert two["judge/tokens"] >= one["judge/tokens"] + 50  # what is expected of a call: 110


def test_a_second_request_goes_to_another_endpoint(start_judge):
    with ExitStack() as stack:
        servers = [stack.enter_context(start_judge()) for _ in range(2)]
        seen = [Slow(server) for server in servers]
        for one in seen:
            one.second = one.first  # hangs too
        for one, other in zip(seen, reversed(seen), strict=True):
            one.first = lambda one=one, other=other: answer_where_asked_last(one, other)
        (verdict,), _ = ask(servers, "slow")
    assert verdict.value == 7


async def answer_where_asked_last(one: Slow, other: Slow) -> str:
    if not any("slow " in prompt for prompt in other.asked):
        await asyncio.sleep(3600)
    return "[[7]]"


def test_an_endpoint_that_hangs_is_left_and_what_is_out_there_is_moved(start_judge):
    with ExitStack() as stack:
        servers = [stack.enter_context(start_judge()) for _ in range(3)]
        hanging = Slow(servers[0])
        hanging.second = hanging.first
        verdicts, stats = ask(servers, *["slow"] * 90)
    assert all(verdict.ok for verdict in verdicts)
    assert len(hanging.asked) > 15  # of the 90 and the 40
    assert stats["judge/hedged"] <= 13  # a tenth of the calls: most were moved
    assert {verdict.call.attempts for verdict in verdicts} == {1}


def test_where_the_first_request_fails_the_second_still_counts(judge_server):
    slow = Slow(judge_server)
    failed = asyncio.Event()

    async def first() -> web.Response:
        await slow.again.wait()
        failed.set()
        return web.json_response({"error": {"message": "no"}}, status=500)

    async def second() -> str:
        await failed.wait()
        await asyncio.sleep(0.5)
        return "[[6]]"

    slow.first, slow.second = first, second
    (verdict,), _ = ask([judge_server], "slow", max_attempts=1)
    assert verdict.value == 6


def test_a_second_reply_without_a_verdict_leaves_the_first_request_be(judge_server):
    slow = Slow(judge_server)
    unclear = asyncio.Event()

    async def first() -> str:
        await unclear.wait()
        await asyncio.sleep(0.5)
        return "[[5]]"

    async def second() -> str:
        unclear.set()
        return "I would rather not say."

    slow.first, slow.second = first, second
    (verdict,), stats = ask([judge_server], "slow", max_attempts=1, parse_attempts=1)
    assert verdict.value == 5
    assert stats["judge/hedges_won"] == 0


def test_a_budget_of_zero_sends_none(judge_server):
    slow = Slow(judge_server)
    (verdict,), stats = ask([judge_server], "slow", hedge={"budget": 0}, **FAILS)
    assert verdict.call.status == "timeout" and stats["judge/hedged"] == slow.asked_again == 0


def test_the_budget_is_a_share_of_all_calls(judge_server):
    slow = Slow(judge_server)
    verdicts, stats = ask([judge_server], *["slow", *["quick"] * 19] * 10, hedge={"budget": 0.02}, **FAILS)
    assert 0 < stats["judge/hedged"] == slow.asked_again <= 4  # of 240
    assert sum(verdict.ok for verdict in verdicts) == 190 + slow.asked_again


def test_none_is_sent_where_all_calls_are_slow(judge_server):
    slow = Slow(judge_server)
    verdicts, stats = ask([judge_server], *["slow"] * 40, hedge={"budget": 1}, **FAILS)
    assert stats["judge/hedged"] <= 8  # the first of them, while the others are not late yet
    assert sum(not verdict.ok for verdict in verdicts) == 40 - slow.asked_again


def test_none_is_sent_after_an_endpoint_asked_for_fewer_requests(judge_server):
    slow = Slow(judge_server)
    inner, refused = slow.reply, []

    async def reply(prompt: str) -> str | web.Response:
        if "known 39" in prompt and not refused:
            refused.append(prompt)
            return web.json_response({}, status=429)
        return await inner(prompt)

    slow.reply = reply
    (verdict,), stats = ask([judge_server], "slow", attempt_timeout_s=1.0, max_attempts=2, call_timeout_s=1.0)
    assert refused and not verdict.ok and stats["judge/hedged"] == 0


def test_none_is_sent_where_every_place_is_taken(judge_server, monkeypatch):
    monkeypatch.setattr(race, "_SHORTEST_S", 0.5)  # until then all of them are out, on any machine
    Slow(judge_server)
    verdicts, stats = ask([judge_server], *["slow"] * 8, max_in_flight=4, hedge={"budget": 1}, **FAILS)
    assert not any(verdict.ok for verdict in verdicts) and stats["judge/hedged"] == 0


def test_the_cap_is_never_passed(judge_server):
    Slow(judge_server)
    words = [*["slow"] * 4, *["quick"] * 196]
    _, stats = ask([judge_server], *words, hedge={"budget": 1}, spend={"max_tokens": 20_000}, **FAILS)
    assert 10_000 < stats["judge/tokens"] <= 20_000
