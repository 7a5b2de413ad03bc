"""Several processes under one limit: together they never exceed it, nobody starves, and it is used up."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreward.config import JudgeConfig
from longreward.judge import make_judge
from longreward.judge.engine.shares import Load, Report, Share, Shares
from longreward.judge.engine.spend_cap import Amount
from longreward.judge.requests import RateHelpfulness

URL = "http://judge/v1"


def config(**settings) -> JudgeConfig:
    return JudgeConfig(kind="openai", model="judge", base_url=URL, **settings)


class Process:
    """Begins as many requests as it may, and ends some of them now and then. Each costs up to `most`."""

    def __init__(self, name: str, most: float = 1.0) -> None:
        self.name, self.most = name, most
        self.waiting = self.in_flight = self.served = 0
        self.used = 0.0
        self.share: Share | None = None

    def exchange(self, shares: Shares, now: float) -> None:
        load = Load(self.in_flight, self.waiting, self.limit)
        wanted = Amount(self.most) if self.waiting and not self.affordable else None
        report = Report({URL: load}, Amount(self.used), Amount(self.in_flight * self.most), wanted)
        self.share = shares.exchange(self.name, report, now)
        self.begin()

    @property
    def limit(self) -> int:
        return self.share.limits[URL].max_in_flight if self.share else 0

    @property
    def affordable(self) -> bool:
        return bool(self.share) and self.used + (self.in_flight + 1) * self.most <= self.share.allowance.cost

    def begin(self) -> None:
        while self.waiting and self.in_flight < self.limit and self.affordable:
            self.waiting -= 1
            self.in_flight += 1

    def end(self, number: int, cost: float) -> None:
        number = min(number, self.in_flight)
        self.in_flight -= number
        self.served += number
        self.used += number * cost
        self.begin()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), limit=st.integers(1, 60), members=st.integers(1, 6))
def test_together_they_never_exceed_the_limit_and_nobody_starves(seed, limit, members):
    rng = random.Random(seed)
    shares = Shares(config(max_in_flight=limit), members, "stop")
    processes = [Process(f"p{i}") for i in range(members)]
    now, busy = 0.0, 0
    for turn in range(400):
        process = rng.choice(processes)
        now += 0.25 / members
        if rng.random() < 0.3:
            process.waiting += rng.randint(0, 2 * limit)
        process.exchange(shares, now)
        rng.choice(processes).end(rng.randint(0, limit), 0)
        in_flight = sum(p.in_flight for p in processes)
        assert in_flight <= limit
        assert sum(p.limit for p in processes) <= limit or in_flight <= limit
        busy += turn > 100 and in_flight >= min(limit, sum(p.in_flight + p.waiting for p in processes)) * 0.5
    for process in processes:
        assert process.served or not process.waiting
    assert busy > 100


def test_what_the_idle_do_not_need_goes_to_the_busy():
    shares = Shares(config(max_in_flight=100, requests_per_minute=600), 4, "stop")
    processes = [Process(f"p{i}") for i in range(4)]
    processes[0].waiting = 1000
    for turn in range(40):
        for process in processes:
            process.exchange(shares, turn / 4)
    assert processes[0].limit >= 95
    assert processes[0].share.limits[URL].requests_per_minute > 550
    assert sum(p.share.limits[URL].requests_per_minute for p in processes) <= 600.001


def test_a_limit_smaller_than_the_number_of_processes_goes_round():
    shares = Shares(config(max_in_flight=1), 3, "stop")
    processes = [Process(f"p{i}") for i in range(3)]
    for process in processes:
        process.waiting = 1000
    for turn in range(120):
        for process in processes:
            process.exchange(shares, turn / 4)
            process.end(1, 0)
        assert sum(p.in_flight for p in processes) <= 1
    assert all(process.served >= 10 for process in processes)


def test_a_dead_processs_share_goes_to_the_living_and_its_spending_stays():
    shares = Shares(config(max_in_flight=10, spend={"max_tokens": 100}), 2, "stop")
    dead, alive = Process("dead"), Process("alive")
    shares.exchange("dead", Report({URL: Load(10, 0, 10)}, Amount(0, 40)), 0)
    alive.waiting = 100
    for turn in range(100):
        alive.exchange(shares, turn / 4)
    assert alive.limit == 10
    assert shares.used.tokens == 40
    assert dead.served == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), cap=st.floats(5, 500), members=st.integers(1, 5), before=st.floats(0, 4))
def test_the_cap_holds_for_all_together_and_is_used_up_before_it_is_reached(seed, cap, members, before):
    rng = random.Random(seed)
    price = {"prompt_per_million": 1}
    shares = Shares(config(spend={"max_cost": cap}, price=price), members, "pause", {"earlier": Amount(before)})
    processes = [Process(f"p{i}") for i in range(members)]
    for process in processes:
        process.waiting = 10_000
    now = 0.0
    for _ in range(3000):
        now += 0.25 / members
        rng.choice(processes).exchange(shares, now)
        rng.choice(processes).end(rng.randint(0, 3), 0.7)
        assert before + sum(p.used + p.in_flight * p.most for p in processes) <= cap + 1e-6
        if shares.paused:
            break
    assert shares.paused
    assert before + sum(p.used for p in processes) > cap - 1.001
    shares.set_cap(Amount(cap + 50, shares.cap.tokens))
    for process in processes:
        process.exchange(shares, now + 1)
    for _ in range(20):
        now += 0.25
        for process in processes:
            process.exchange(shares, now + 1)
    assert not shares.paused and any(p.in_flight for p in processes)


@pytest.mark.parametrize("wanted", [850, 900, 990])
def test_the_last_of_the_money_goes_to_who_can_use_it_or_is_told_to_be_gone(wanted):
    shares = Shares(config(spend={"max_tokens": 1000}), 4, "pause")
    idle = {URL: Load(0, 0, 10)}
    granted = Amount()
    for turn in range(40):
        for name in "bcd":
            shares.exchange(name, Report(idle), turn / 4)
        share = shares.exchange("a", Report({URL: Load(0, 1, 10)}, wanted=Amount(0, wanted)), turn / 4 + 0.1)
        granted = share.allowance
    assert granted.tokens >= wanted


def test_two_judges_under_one_limit_stay_under_it_together(judge_server):
    judge_server.latency = 0.05
    settings = JudgeConfig(kind="openai", model="judge", base_url=judge_server.url, max_in_flight=7)
    shares = Shares(settings, 2, "stop")

    async def run():
        judges = [make_judge(settings) for _ in range(2)]
        for judge in judges:
            judge.endpoints.share()

        async def exchange():
            while True:
                for i, judge in enumerate(judges):
                    judge.endpoints.apply(
                        shares.exchange(str(i), judge.endpoints.report(), asyncio.get_running_loop().time())
                    )
                await asyncio.sleep(0.02)

        exchanging = asyncio.create_task(exchange())
        requests = [RateHelpfulness("en", "What?", f"It, {i}.") for i in range(200)]
        verdicts = await asyncio.gather(*(judges[i % 2].ask(request) for i, request in enumerate(requests)))
        exchanging.cancel()
        for judge in judges:
            await judge.aclose()
        return verdicts

    assert all(verdict.ok for verdict in asyncio.run(run()))
    assert judge_server.most_in_flight == 7


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
def test_before_its_first_share_a_process_sends_nothing(judge_server, limit):
    settings = JudgeConfig(kind="openai", model="judge", base_url=judge_server.url, **{limit: 6000})

    async def run():
        judge = make_judge(settings)
        judge.endpoints.share()
        asking = asyncio.create_task(judge.ask(RateHelpfulness("en", "What?", "It.")))
        await asyncio.sleep(0.2)
        before = judge_server.calls.total()
        shares = Shares(settings, 1, "stop")
        judge.endpoints.apply(shares.exchange("0", judge.endpoints.report(), 0.0))
        verdict = await asyncio.wait_for(asking, 5)
        await judge.aclose()
        return before, verdict

    before, verdict = asyncio.run(run())
    assert before == 0 and verdict.ok
