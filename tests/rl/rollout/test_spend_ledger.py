"""The run's spend on disk: never less than what was spent, whenever the worker is killed, and the cap can be raised."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from longreward.config import JudgeConfig
from longreward.files import jsonlines
from longreward.judge.engine.openai_judge import OpenAIJudge
from longreward.judge.engine.spend_cap import Amount
from longreward.judge.requests import RateHelpfulness
from rl import spend as command
from rl.rollout.spend_ledger import CAP, SPENT, SpendLedger


def config(url: str = "http://judge/v1", **spend) -> JudgeConfig:
    price = {"prompt_per_million": 10}
    return JudgeConfig(kind="openai", model="judge", base_url=url, max_tokens=20, price=price, spend=spend)


def written(folder: Path) -> dict:
    return json.loads((folder / SPENT).read_text())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cap=st.integers(50, 5000))
def test_the_cap_holds_whenever_the_worker_is_killed(seed, cap):
    rng = random.Random(seed)
    most, paid = Amount(0, 10), 0.0

    async def run(folder: Path) -> None:
        nonlocal paid
        for _ in range(rng.randint(1, 6)):
            ledger = SpendLedger(config(max_tokens=cap), folder, pauses=False)
            spend, under_way = ledger.spend, 0
            assert spend.used.tokens >= paid
            for _ in range(rng.randint(1, 200)):
                what = rng.random()
                if what < 0.2:
                    await ledger.update()
                elif what < 0.6 and spend.reserve(most):
                    under_way += 1
                elif under_way:
                    under_way -= 1
                    used = rng.choice([0, 3, 10])
                    spend.settle(most, Amount(0, used))
                    paid += used
            paid += 10 * under_way  # killed: each may have been paid for in full
            assert paid <= cap

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


def test_a_kill_counts_no_more_than_a_hundredth_of_the_cap_and_what_was_under_way_too_much(tmp_path):
    async def run():
        ledger = SpendLedger(config(max_tokens=100_000), tmp_path, pauses=False)
        await ledger.update()
        for _ in range(500):
            assert ledger.spend.reserve(Amount(0, 100)) or await ledger.update() is None
            if ledger.spend.reserved.tokens:
                ledger.spend.settle(Amount(0, 100), Amount(0, 100))
        return ledger.spend.used.tokens

    used = asyncio.run(run())
    after = SpendLedger(config(max_tokens=100_000), tmp_path, pauses=False).spend.used.tokens
    assert used <= after <= used + 1000 + 100


def test_a_run_that_ends_and_goes_on_counts_exactly(tmp_path, judge_server):
    async def part(first: int) -> float:
        ledger = SpendLedger(config(judge_server.url, max_tokens=100_000), tmp_path, pauses=False)
        judge = OpenAIJudge.of(config(judge_server.url), ledger.spend)
        ledger.begin()
        requests = [RateHelpfulness("en", "What?", f"It, {number}.") for number in range(first, first + 50)]
        assert all(verdict.ok for verdict in await asyncio.gather(*map(judge.ask, requests)))
        await judge.aclose()
        await ledger.end()
        return ledger.spend.used.tokens

    assert asyncio.run(part(0)) == 50 * 110
    assert asyncio.run(part(50)) == judge_server.calls.total() * 110 == 100 * 110
    state = written(tmp_path)
    assert state["used"] == state["committed"] == {"cost": 0.1, "tokens": 11_000}
    assert state["cap"] == {"cost": None, "tokens": 100_000} and not state["reached"]


def test_a_write_under_way_at_the_end_does_not_replace_the_last_count(tmp_path, monkeypatch):
    ledger = SpendLedger(config(max_tokens=100_000), tmp_path, pauses=False)
    writing, may_write, real = threading.Event(), threading.Event(), jsonlines.write_json

    def write(path: Path, data: dict) -> None:
        if not writing.is_set():
            writing.set()
            may_write.wait()
        real(path, data)

    monkeypatch.setattr(jsonlines, "write_json", write)

    async def run():
        ledger.begin()
        await asyncio.to_thread(writing.wait)
        end = asyncio.create_task(ledger.end())
        await asyncio.wait([end], timeout=0.2)
        may_write.set()
        await end

    asyncio.run(run())
    state = written(tmp_path)
    assert state["used"] == state["committed"] == {"cost": 0, "tokens": 0}


def test_a_paused_run_goes_on_when_the_command_raises_the_cap(tmp_path, judge_server, capsys):
    settings = config(judge_server.url, max_cost=0.04)

    async def run():
        ledger = SpendLedger(settings, tmp_path, pauses=True)
        judge = OpenAIJudge.of(settings, ledger.spend)
        ledger.begin()
        requests = [RateHelpfulness("en", "What?", f"It, {number}.") for number in range(60)]
        asking = [asyncio.create_task(judge.ask(request)) for request in requests]
        async with asyncio.timeout(60):
            while not ((tmp_path / SPENT).exists() and written(tmp_path)["paused"]):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert 0.01 <= written(tmp_path)["used"]["cost"] <= 0.04
        assert command.main([str(tmp_path), "max_cost=50"]) == 0
        async with asyncio.timeout(60):
            verdicts = await asyncio.gather(*asking)
        await judge.aclose()
        await ledger.end()
        return verdicts

    assert all(verdict.ok for verdict in asyncio.run(run()))
    assert "of 50.00" in capsys.readouterr().out
    state = written(tmp_path)
    assert state["used"]["cost"] == 0.06 and state["cap"]["cost"] == 50 and not state["paused"]
    # The cap that was raised counts for a later part of the run as well.
    assert SpendLedger(settings, tmp_path, pauses=True).spend.cap.cost == 50


def test_spend_json_of_an_older_version_is_counted_on(tmp_path):
    old = {"used": {"cost": 1.5, "tokens": 7000}, "by_worker": {"judge-0": {"cost": 1.5, "tokens": 7000}}}
    (tmp_path / SPENT).write_text(json.dumps(old | {"cap": {"cost": 2, "tokens": None}, "paused": False}))
    assert SpendLedger(config(max_cost=2), tmp_path, pauses=False).spend.used == Amount(1.5, 7000)


def test_a_full_disk_is_told_once_and_the_count_in_memory_holds_the_cap(tmp_path, judge_server, capsys):
    settings = config(judge_server.url, max_tokens=4000)
    (tmp_path / SPENT).mkdir()  # cannot be replaced by a file
    (tmp_path / SPENT / "x").touch()

    async def run():
        ledger = SpendLedger(settings, tmp_path, pauses=False)
        judge = OpenAIJudge.of(settings, ledger.spend)
        ledger.begin()
        requests = [RateHelpfulness("en", "What?", f"It, {number}.") for number in range(60)]
        verdicts = await asyncio.wait_for(asyncio.gather(*map(judge.ask, requests)), 60)
        await judge.aclose()
        return verdicts

    done = sum(verdict.ok for verdict in asyncio.run(run()))
    assert done > 5 and done * 110 <= 4000
    assert capsys.readouterr().out.count("tried again") == 1
    assert not (tmp_path / CAP).exists()
