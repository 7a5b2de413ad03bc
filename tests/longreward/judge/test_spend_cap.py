"""The spend cap of one judge: calls fail or wait at it, a higher cap lets them go on, and grants hold them back."""

from __future__ import annotations

import asyncio
import math

import pytest

from longreward.config import CacheConfig, JudgeConfig
from longreward.judge.cache import VerdictCache
from longreward.judge.engine.openai_judge import OpenAIJudge
from longreward.judge.engine.spend_cap import Amount, Spend, cap_of
from longreward.judge.requests import RateHelpfulness

CALL = 110  # tokens, by the test judge's own count


def config(judge_server, **settings) -> JudgeConfig:
    return JudgeConfig(kind="openai", model="judge", base_url=judge_server.url, max_tokens=20, **settings)


def tokens(number: float) -> Amount:
    return Amount(math.inf, number)


def question(number: int = 0) -> RateHelpfulness:
    return RateHelpfulness("en", "What?", f"It, {number}.")


async def settled(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_calls_wait_at_the_cap_where_it_pauses_and_go_on_when_it_is_raised(judge_server):
    settings = config(judge_server, call_timeout_s=0.5)
    spend = Spend(tokens(10 * CALL), pauses=True)

    async def run():
        judge = OpenAIJudge.of(settings, spend)
        asking = [asyncio.create_task(judge.ask(question(number))) for number in range(30)]
        await settled(lambda: judge.status().paused)
        paused = judge.status()
        asked = judge_server.calls.total()
        late = asyncio.create_task(judge.ask(question(99)))
        await asyncio.sleep(1)  # longer than a call may take: the time of a pause does not count
        assert judge_server.calls.total() == asked and not late.done()
        spend.set_cap(tokens(100 * CALL))
        spend.grant(spend.cap)
        verdicts = await asyncio.gather(*asking, late)
        after = judge.status()
        await judge.aclose()
        return paused, after, verdicts

    paused, after, verdicts = asyncio.run(run())
    assert paused.spent and paused.stood_still_s == 0 and paused.given_up is None
    assert not after.spent and not after.paused and after.stood_still_s < 60
    assert all(verdict.ok for verdict in verdicts)
    assert spend.used.tokens == judge_server.calls.total() * CALL == 31 * CALL


def test_calls_fail_at_the_cap_where_it_stops_and_a_higher_one_serves_new_calls(judge_server):
    settings = config(judge_server)
    spend = Spend(tokens(15 * CALL))

    async def run():
        judge = OpenAIJudge.of(settings, spend)
        before = await asyncio.gather(*(judge.ask(question(number)) for number in range(40)))
        assert judge.status().spent and not judge.status().paused
        refused = await judge.ask(question(98))
        spend.set_cap(tokens(100 * CALL))
        spend.grant(spend.cap)
        served = await judge.ask(question(99))
        await judge.aclose()
        return before, refused, served

    before, refused, served = asyncio.run(run())
    assert {verdict.call.status for verdict in before} == {"ok", "spend_cap"}
    assert refused.call.status == "spend_cap" and "raise judge.spend.max_cost" in refused.call.detail
    assert served.ok


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute", "max_in_flight"])
def test_nothing_leaves_before_it_is_granted(judge_server, limit):
    settings = config(judge_server, **{limit: 6000})
    spend = Spend(tokens(1000 * CALL))
    spend.allowance = Amount()

    async def run():
        judge = OpenAIJudge.of(settings, spend)
        asking = asyncio.create_task(judge.ask(question()))
        await asyncio.wait_for(spend.asked.wait(), 60)
        before = judge_server.calls.total()
        assert spend.wanted is not None and not judge.status().spent
        spend.grant(spend.wanted.plus(Amount(0, 1)))
        verdict = await asyncio.wait_for(asking, 60)
        await judge.aclose()
        return before, verdict

    before, verdict = asyncio.run(run())
    assert before == 0 and verdict.ok


def test_what_an_earlier_part_of_the_run_has_used_counts(judge_server):
    settings = config(judge_server)
    spend = Spend(tokens(100 * CALL), tokens_used := Amount(0, 100 * CALL))

    async def run():
        judge = OpenAIJudge.of(settings, spend)
        verdict = await judge.ask(question())
        stats = judge.stats()
        await judge.aclose()
        return verdict, stats

    verdict, stats = asyncio.run(run())
    assert verdict.call.status == "spend_cap" and judge_server.calls.total() == 0
    assert stats["judge/tokens"] == tokens_used.tokens


def test_a_judge_that_is_asked_afresh_remembers_no_verdict_and_shares_the_spend(judge_server, tmp_path):
    settings = config(judge_server)
    spend = Spend(cap_of(settings))

    async def run():
        judge = OpenAIJudge.of(settings, spend, VerdictCache.of(CacheConfig(path=tmp_path / "cache.db")))
        for asked in (judge, judge, judge.afresh()):
            assert (await asked.ask(question())).ok
        afresh = judge.afresh()
        assert (await afresh.ask(question())).ok
        await afresh.aclose()
        assert (await judge.ask(question(1))).ok  # its endpoints are still open
        await judge.aclose()

    asyncio.run(run())
    assert judge_server.calls.total() == 4
    assert spend.used.tokens == 4 * CALL
