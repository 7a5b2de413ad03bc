"""Second requests for calls that are late: the judge never answers its slow calls, only what is asked a second time."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import ExitStack

from aiohttp import web

from longreward.config import JudgeConfig
from longreward.judge import make_judge
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


class Full(Slow):
    """Of two places one is taken by a slow call and one by a call that is held until `released`."""

    def __init__(self, server) -> None:
        super().__init__(server)
        self.order: list[str] = []
        self.released = threading.Event()
        settings = {"max_in_flight": 2, "max_attempts": 1, "hedge": {"budget": 0.01}}  # one may be asked again
        self.config = JudgeConfig(kind="openai", model="judge", base_url=server.url, **settings)

    async def reply(self, prompt: str) -> str | web.Response:
        self.order.append(next(word for word in ("known", "slow", "held", "quick") if f"{word} " in prompt))
        if "held " in prompt:
            await asyncio.to_thread(self.released.wait)
        return await super().reply(prompt)

    def run(self, quick: int, then):
        """What `then(judge, calls)` returns, which begins when a second request waits for a place."""

        async def run():
            judge = make_judge(self.config)
            for i in range(40):
                await judge.ask(RateHelpfulness("en", "What?", f"known {i}"))
            requests = [RateHelpfulness("en", "What?", f"{word} 1") for word in ("slow", "held")]
            requests += [RateHelpfulness("en", "What?", f"quick {i}") for i in range(quick)]
            calls = [asyncio.create_task(judge.ask(request)) for request in requests]
            while not judge.stats()["judge/hedged"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            try:
                return await then(judge, calls)
            finally:
                self.released.set()
                await judge.aclose()

        return asyncio.run(run())


def test_where_every_place_is_taken_it_waits_for_one_and_goes_first(judge_server):
    full = Full(judge_server)

    async def then(_, calls):
        assert full.order[40:] == ["slow", "held"]
        full.released.set()
        return [verdict.value for verdict in await asyncio.gather(*calls)]

    assert full.run(6, then) == [7, 8, *[8] * 6]
    assert full.order[40:43] == ["slow", "held", "slow"]


def test_a_second_request_that_waits_for_a_place_is_given_up_with_its_call(judge_server):
    full = Full(judge_server)

    async def then(judge, calls):
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        counted, waiting = judge.stats()["judge/hedged"], judge.stats()["judge/waiting"]
        full.released.set()
        return counted, waiting, (await calls[1]).value, judge.stats()["judge/in_flight"]

    assert full.run(0, then) == (0, 0, 8, 0)
    assert full.asked_again == 0


def test_the_cap_is_never_passed(judge_server):
    Slow(judge_server)
    words = [*["slow"] * 4, *["quick"] * 196]
    _, stats = ask([judge_server], *words, hedge={"budget": 1}, spend={"max_tokens": 20_000}, **FAILS)
    assert 10_000 < stats["judge/tokens"] <= 20_000
