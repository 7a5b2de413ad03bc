"""The judge engine against a scripted server: one call per question, limits, cost, cap, cache."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from longreward.config import CacheConfig, JudgeConfig
from longreward.errors import ConfigError
from longreward.judge import make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.requests import RateHelpfulness


def question(number: int = 0, padding: str = "") -> RateHelpfulness:
    return RateHelpfulness("en", "What is the capital of France?", f"Paris, {number}.{padding}")


def ask(server, *requests, cache=None, **settings):
    """The verdicts of requests asked all at once, and the judge's stats at the end."""
    settings = {"model": "judge", "base_url": server.url, "retry_base_s": 0.01, **settings}
    config = JudgeConfig(kind="openai", **settings)

    async def run():
        judge = make_judge(config, VerdictCache.of(CacheConfig(path=cache)))
        try:
            return await asyncio.gather(*(judge.ask(request) for request in requests)), judge.stats()
        finally:
            await judge.aclose()

    return asyncio.run(run())


def test_no_more_requests_at_once_than_configured(judge_server):
    judge_server.latency = 0.05
    verdicts, _ = ask(judge_server, *map(question, range(20)), max_in_flight=4)
    assert all(verdict.ok for verdict in verdicts)
    assert judge_server.most_in_flight == 4


def test_the_key_comes_from_the_named_variable(judge_server, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="MY_KEY, which is not set"):
        ask(judge_server, question(), api_key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", "secret-1")
    ask(judge_server, question(), api_key_env="MY_KEY")
    assert judge_server.keys == ["Bearer secret-1"]


def test_more_connections_than_the_process_may_open_is_an_error_at_the_start(judge_server):
    with pytest.raises(ConfigError, match="open files"):
        ask(judge_server, question(), max_in_flight=10**8)
    # The limit is the process's, whatever the number of endpoints.
    with pytest.raises(ConfigError, match=r"judge\.max_in_flight=200000000 over all endpoints"):
        urls = [{"base_url": f"http://host{i}/v1", "max_in_flight": 10**8} for i in range(2)]
        make_judge(JudgeConfig(kind="openai", model="judge", endpoints=urls))


# One call per question


def test_identical_requests_in_flight_are_one_call_paid_once(judge_server):
    judge_server.latency = 0.2
    verdicts, stats = ask(judge_server, *[question(1)] * 10, question(2))
    assert [verdict.value for verdict in verdicts] == [8] * 11
    assert judge_server.calls.total() == 2
    assert sorted(verdict.call.source for verdict in verdicts) == ["judge"] * 2 + ["shared"] * 9
    assert sum(verdict.call.usage.prompt_tokens for verdict in verdicts) == 200
    assert stats["judge/shared"] == 9


def test_a_failed_call_fails_all_who_wait_for_it_and_is_asked_anew_afterwards(judge_server):
    judge_server.latency = 0.05
    judge_server.script = {"helpfulness": lambda _, number: "no verdict" if number == 1 else "[[9]]"}
    config = JudgeConfig(kind="openai", model="judge", base_url=judge_server.url, parse_attempts=1)

    async def run():
        judge = make_judge(config)
        together = await asyncio.gather(*(judge.ask(question()) for _ in range(3)))
        after = await judge.ask(question())
        await judge.aclose()
        return together, after

    together, after = asyncio.run(run())
    assert [verdict.call.status for verdict in together] == ["parse_error"] * 3
    assert after.value == 9


def test_one_callers_cancellation_does_not_touch_the_others(judge_server):
    judge_server.latency = 0.3

    async def run():
        judge = make_judge(JudgeConfig(kind="openai", model="judge", base_url=judge_server.url))
        first, second, third = (asyncio.create_task(judge.ask(question())) for _ in range(3))
        await asyncio.sleep(0.1)
        first.cancel()
        third.cancel()
        verdict = await second
        await judge.aclose()
        return verdict, first.cancelled(), third.cancelled()

    verdict, *cancelled = asyncio.run(run())
    assert verdict.ok and cancelled == [True, True]
    assert judge_server.calls.total() == 1


def test_a_question_asked_again_after_all_its_callers_left_is_answered(judge_server):
    judge_server.latency = 0.2

    async def run():
        judge = make_judge(JudgeConfig(kind="openai", model="judge", base_url=judge_server.url))
        first = asyncio.create_task(judge.ask(question()))
        await asyncio.sleep(0.1)
        first.cancel()
        await asyncio.sleep(0)
        verdict = await judge.ask(question())
        await judge.aclose()
        return verdict

    assert asyncio.run(run()).value == 8


# The cache


def test_a_second_run_asks_nothing_and_costs_nothing(judge_server, tmp_path):
    cache = tmp_path / "cache" / "verdicts.sqlite"
    first, _ = ask(judge_server, *map(question, range(5)), cache=cache)
    second, stats = ask(judge_server, *map(question, range(5)), cache=cache)
    assert judge_server.calls.total() == 5
    assert [v.value for v in second] == [v.value for v in first] == [8] * 5
    assert {(v.call.source, v.call.usage.calls, v.call.text) for v in second} == {("cache", 0, first[0].call.text)}
    assert stats["cache/hits"] == 5


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"temperature": 0.5}, {"max_tokens": 99}, {"extra_body": {"top_p": 0.9}}]
)
def test_another_model_or_setting_is_another_question(judge_server, tmp_path, change):
    ask(judge_server, question(), cache=tmp_path / "c.sqlite")
    ask(judge_server, question(), cache=tmp_path / "c.sqlite", **change)
    assert judge_server.calls.total() == 2


def test_only_good_verdicts_are_kept(judge_server, tmp_path):
    judge_server.script = {"helpfulness": "no verdict"}
    ask(judge_server, question(), cache=tmp_path / "c.sqlite", parse_attempts=1)
    judge_server.script = {}
    (verdict,), _ = ask(judge_server, question(), cache=tmp_path / "c.sqlite")
    assert (verdict.value, verdict.call.source) == (8, "judge")


def test_a_verdict_won_at_the_second_attempt_is_kept(judge_server, tmp_path):
    judge_server.script = {"helpfulness": lambda _, number: "no verdict" if number == 1 else "[[9]]"}
    ask(judge_server, question(), cache=tmp_path / "c.sqlite")
    (verdict,), _ = ask(judge_server, question(), cache=tmp_path / "c.sqlite")
    assert (verdict.value, verdict.call.source, judge_server.calls.total()) == (9, "cache", 2)


# Rates


def test_no_minute_sees_more_requests_than_allowed(judge_server):
    # 1200 a minute: 60 at once, then 19 a second.
    started = time.monotonic()
    verdicts, _ = ask(judge_server, *map(question, range(100)), requests_per_minute=1200)
    seconds = time.monotonic() - started
    assert all(verdict.ok for verdict in verdicts)
    assert seconds >= 40 / 19 - 0.2


def test_tokens_are_counted_as_the_endpoint_reports_them(judge_server):
    # The server says 110 tokens a call, though a prompt of these looks like 5 times as many.

    async def run():
        config = JudgeConfig(kind="openai", model="judge", base_url=judge_server.url, tokens_per_minute=132_000)
        judge = make_judge(config)
        for i in range(60):
            await judge.ask(question(i))
        started = time.monotonic()
        await asyncio.gather(*(judge.ask(question(i)) for i in range(60, 160)))
        seconds = time.monotonic() - started
        await judge.aclose()
        return seconds

    # 6600 tokens may go out at once, then 2090 a second: 100 calls are 11000 tokens, 5.3 s less what has flowed in.
    seconds = asyncio.run(run())
    assert seconds > 2


def test_a_request_larger_than_a_minutes_share_goes_through_alone(judge_server):
    (verdict,), _ = ask(judge_server, question(0, " word" * 5000), tokens_per_minute=600)
    assert verdict.ok


def test_concurrency_falls_to_what_the_endpoint_takes_and_comes_back(judge_server):
    judge_server.latency = 0.05
    most = 16

    def limited(_, number):
        if judge_server.in_flight + 1 > most:
            return web.json_response({"error": {"message": "slow down"}}, status=429)
        return "[[8]]"

    judge_server.script = {"helpfulness": limited}
    config = JudgeConfig(kind="openai", model="judge", base_url=judge_server.url, max_in_flight=48, retry_base_s=0.01)

    async def run():
        nonlocal most
        judge = make_judge(config)
        await asyncio.gather(*(judge.ask(question(i)) for i in range(200)))
        low = judge.stats()["judge/limit"]
        refused = judge.stats()["judge/failed/rate_limited"]
        most = 1000
        verdicts = await asyncio.gather(*(judge.ask(question(i)) for i in range(1000, 1600)))
        high = judge.stats()["judge/limit"]
        await judge.aclose()
        return low, refused, high, verdicts

    low, refused, high, verdicts = asyncio.run(run())
    assert low <= 32 < high
    assert refused < 200
    assert all(verdict.ok for verdict in verdicts)


# Money


PRICE = {"prompt_per_million": 10_000, "cached_prompt_per_million": 1_000, "completion_per_million": 100_000}


def test_each_call_tells_what_it_cost(judge_server):
    (verdict,), stats = ask(judge_server, question(), price=PRICE)
    assert verdict.call.usage.cost == pytest.approx(100 * 0.01 + 10 * 0.1)
    assert stats["judge/cost"] == pytest.approx(2)


def test_tokens_from_the_endpoints_own_cache_have_their_own_price(judge_server):
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 60}}
    choice = {"index": 0, "message": {"role": "assistant", "content": "[[8]]"}, "finish_reason": "stop"}
    judge_server.script = {"helpfulness": lambda *_: web.json_response({"choices": [choice], "usage": usage})}
    (verdict,), _ = ask(judge_server, question(), price=PRICE)
    assert verdict.call.usage.cached_tokens == 60
    assert verdict.call.usage.cost == pytest.approx(40 * 0.01 + 60 * 0.001 + 1)


@pytest.mark.parametrize(
    ("cap", "price"), [({"max_cost": 100}, {"prompt_per_million": 10_000}), ({"max_tokens": 11_000}, {})]
)
def test_the_cap_is_never_passed_and_nearly_used_up(judge_server, cap, price):
    judge_server.latency = 0.01
    verdicts, _ = ask(judge_server, *map(question, range(300)), spend=cap, price=price, max_tokens=20)
    done = sum(verdict.ok for verdict in verdicts)
    # Each call is 100 prompt tokens and 10 completion tokens; a call's worst case is held back at the end.
    assert 80 <= done <= 100 == max(done, 100)
    assert {v.call.status for v in verdicts if not v.ok} == {"spend_cap"}
    assert judge_server.calls.total() == done
    assert "judge.spend.max_cost" in next(v.call.detail for v in verdicts if not v.ok)


def test_prompts_with_more_tokens_to_a_byte_than_most_do_not_pass_the_cap(judge_server):
    served = []

    def reply(prompt, _):
        served.append(len(prompt) // (2 if "dense" in prompt else 6))
        choice = {"index": 0, "message": {"role": "assistant", "content": "[[8]]"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": served[-1], "completion_tokens": 0}
        return web.json_response({"choices": [choice], "usage": usage})

    judge_server.latency, judge_server.script = 0.05, {"helpfulness": reply}
    requests = [question(number, padding=" dense" if number % 10 == 9 or number >= 80 else "") for number in range(150)]
    cap = 50_000
    verdicts, _ = ask(judge_server, *requests, spend={"max_tokens": cap}, max_tokens=20, max_in_flight=16)
    assert {verdict.call.status for verdict in verdicts if not verdict.ok} == {"spend_cap"}
    assert 0.9 * cap < sum(served) <= cap


def test_a_cap_in_money_needs_a_price():
    with pytest.raises(ValueError, match=r"judge\.price"):
        JudgeConfig(kind="openai", model="judge", base_url="http://x/v1", spend={"max_cost": 1})
