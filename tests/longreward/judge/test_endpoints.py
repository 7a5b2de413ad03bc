"""Several endpoints: the same one for a document, no one overloaded, and others for those that fail."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import ExitStack

import pytest
from aiohttp import web

from longreward import LongReward, Sample
from longreward.config import JudgeConfig, RewardConfig
from longreward.config_file import validate
from longreward.errors import ConfigError
from longreward.judge import make_judge
from longreward.judge.engine import limits
from longreward.judge.requests import RateHelpfulness


@pytest.fixture
def judges(start_judge):
    """Three judges on 127.0.0.1."""
    with ExitStack() as stack:
        yield [stack.enter_context(start_judge()) for _ in range(3)]


def failing(status: int, code: str = ""):
    return lambda *_: web.json_response({"error": {"message": "no", "code": code}}, status=status)


def run(judges, calls, **settings):
    """The verdicts of (document, question) pairs asked all at once, and the stats."""
    endpoints = [{"base_url": judge.url} for judge in judges]
    config = JudgeConfig(kind="openai", model="judge", **{"endpoints": endpoints, "retry_base_s": 0.01, **settings})

    async def ask():
        judge = make_judge(config)
        requests = [(document, RateHelpfulness("en", "What?", f"{document} {number}")) for document, number in calls]
        verdicts = await asyncio.gather(*(judge.ask(request, document=document) for document, request in requests))
        stats = judge.stats()
        await judge.aclose()
        return verdicts, stats

    return asyncio.run(ask())


def served(judge) -> Counter[str]:
    """How often each document was asked about at this judge."""
    return Counter(prompt.rsplit("<answer>\n")[-1].split()[0] for _, prompt in judge.prompts)


def test_all_calls_on_a_document_go_to_one_endpoint_and_documents_spread(judges):
    async def ask():
        endpoints = [{"base_url": judge.url} for judge in judges]
        judge = make_judge(JudgeConfig(kind="openai", model="judge", endpoints=endpoints))
        for i in range(60):
            document = f"d{i % 12}"
            verdict = await judge.ask(RateHelpfulness("en", "What?", f"{document} {i}"), document=document)
            assert verdict.ok
        await judge.aclose()

    asyncio.run(ask())
    seen = [served(judge) for judge in judges]
    for i in range(12):
        assert sorted(counts[f"d{i}"] for counts in seen) == [0, 0, 5]
    assert sum(bool(counts) for counts in seen) >= 2


def test_one_busy_document_does_not_overload_its_endpoint(judges):
    for judge in judges:
        judge.latency = 0.1
    verdicts, _ = run(judges, [("d1", i) for i in range(300)], max_in_flight=100)
    assert all(verdict.ok for verdict in verdicts)
    loads = sorted(judge.calls.total() for judge in judges)
    assert loads[0] >= 30 and loads[2] <= 1.6 * 100


def test_an_endpoint_with_more_places_gets_more(judges):
    for judge in judges:
        judge.latency = 0.1
    endpoints = [{"base_url": j.url, "max_in_flight": n} for j, n in zip(judges, (30, 10, 10), strict=True)]
    run(judges, [(f"d{i}", i) for i in range(300)], endpoints=endpoints)
    assert 10 < judges[0].most_in_flight <= 30
    assert max(judges[1].most_in_flight, judges[2].most_in_flight) <= 10
    assert 140 <= judges[0].calls.total() <= 220


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
def test_an_endpoint_that_fails_costs_no_verdict_while_another_works(judges, status, caplog, monkeypatch):
    monkeypatch.setattr(limits, "_FIRST_PAUSE_S", 30.0)  # longer than this takes on any machine
    judges[0].script = {"helpfulness": failing(status)}
    with caplog.at_level(logging.WARNING, "longreward"):
        verdicts, _ = run(judges, [(f"d{i}", i) for i in range(200)], max_in_flight=8)
    assert all(verdict.ok for verdict in verdicts)
    assert judges[0].calls.total() < 40  # left alone after a few
    about = [record.getMessage() for record in caplog.records if judges[0].url in record.getMessage()]
    assert len(about) == (status in (401, 404)) and all("is not asked" in text for text in about)


def test_an_endpoint_that_hangs_is_left_alone(judges):
    judges[0].latency = 60
    verdicts, _ = run(judges, [(f"d{i}", i) for i in range(100)], attempt_timeout_s=0.5, max_in_flight=4)
    assert all(verdict.ok for verdict in verdicts)
    assert judges[0].calls.total() < 20


def test_an_idle_endpoint_takes_over_what_waits_elsewhere(judges):
    # Documents that all prefer one endpoint, whose judge is slow: the others do the work.
    judges[0].latency, judges[1].latency, judges[2].latency = 2.0, 0.01, 0.01
    verdicts, _ = run(judges, [(f"d{i}", i) for i in range(120)], max_in_flight=4)
    assert all(verdict.ok for verdict in verdicts)
    assert judges[0].calls.total() <= 12


def test_all_refusing_says_so_at_once(judges):
    for judge in judges:
        judge.script = {"helpfulness": failing(401)}
    verdicts, _ = run(judges, [(f"d{i}", i) for i in range(100)], max_in_flight=2)
    assert {verdict.call.status for verdict in verdicts} == {"unauthorized"}
    assert sum(judge.calls.total() for judge in judges) <= 12


def test_the_reward_sends_a_documents_calls_to_one_endpoint(judges):
    endpoints = [{"base_url": judge.url} for judge in judges]
    config = validate(RewardConfig, {"judge": {"kind": "openai", "model": "judge", "endpoints": endpoints}})

    async def score():
        reward = LongReward(config)
        for i in range(6):
            context = f"Mara sold copper {i}. " * 20
            assert (await reward.score(Sample(context=context, query="What?", answer="Mara sold copper."))).total
        await reward.aclose()

    asyncio.run(score())
    assert sum(judge.calls["helpfulness"] for judge in judges) == 6
    for judge in judges:
        assert judge.calls["helpfulness"] == judge.calls["logicality"] == judge.calls["completeness"]


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        ({"endpoints": [{"base_url": "x"}]}, "'x' is not a URL"),
        ({"endpoints": [{"base_url": "http://a/v1"}, {"base_url": "http://a/v1/"}]}, "twice"),
        ({"base_url": "http://a/v1", "endpoints": [{"base_url": "http://b/v1"}]}, "not both"),
        ({"endpoints": [{"base_url": "http://a/v1", "max_inflight": 3}]}, "did you mean 'max_in_flight'"),
        ({"endpoints": []}, "judge.base_url is not set"),
    ],
)
def test_a_wrong_endpoint_is_named(judge, message):
    with pytest.raises(ConfigError, match=message):
        validate(RewardConfig, {"judge": {"kind": "openai", "model": "judge", **judge}})
