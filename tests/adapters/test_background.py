"""One reward in the background, asked from wherever a trainer asks."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from longreward import ConfigError, LongReward, RewardConfig, Sample
from longreward.adapters.background import BackgroundReward, shared
from longreward.adapters.config import divided, resolve


@pytest.fixture
def samples(rows):
    return [Sample(context=row["context"], query=row["query"], answer=row["answer"]) for row in rows]


@pytest.fixture
def reward():
    reward = BackgroundReward(RewardConfig())
    yield reward
    reward.close()


def config(judge_server, **judge) -> RewardConfig:
    return resolve({"judge": {"kind": "openai", "base_url": judge_server.url, "model": "judge", **judge}})


def totals(rewards) -> list[float | None]:
    return [reward.total for reward in rewards]


def test_threads_and_event_loops_get_the_scores_of_the_library(reward, samples):
    async def directly():
        library = LongReward(RewardConfig())
        scored = await library.score_many(samples)
        await library.aclose()
        return totals(scored)

    expected = asyncio.run(directly())
    # A new event loop each time, as some trainers make one for every step.
    assert [totals(asyncio.run(reward.score_async(samples))) for _ in range(2)] == [expected, expected]
    from_threads: list[list[float | None]] = []
    threads = [threading.Thread(target=lambda: from_threads.append(totals(reward.score(samples)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert from_threads == [expected] * 4


def test_a_forked_child_scores_and_so_does_its_parent_afterwards(reward, samples):
    before = totals(reward.score(samples))
    child = os.fork()
    if child == 0:
        os._exit(0 if totals(reward.score(samples)) == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert totals(reward.score(samples)) == before


def test_closing_ends_the_thread_and_the_next_answer_begins_it_anew(reward, samples):
    others = threading.enumerate()  # of rewards that earlier tests share

    def running() -> bool:
        return any(thread.name == "longreward" and thread not in others for thread in threading.enumerate())

    first = totals(reward.score(samples))
    assert running()
    reward.close()
    assert not running()
    assert totals(reward.score(samples)) == first


def test_a_process_that_closes_nothing_ends_by_itself_and_silently(judge_server):
    code = (
        "from longreward import Sample\n"
        "from longreward.adapters.background import shared\n"
        "from longreward.adapters.config import resolve\n"
        f"judge = {{'kind': 'openai', 'base_url': {judge_server.url!r}, 'model': 'judge'}}\n"
        "sample = Sample(context='Ada Low met Bob.', query='Who?', answer='Ada Low met Bob.')\n"
        "print(shared(resolve({'judge': judge})).score([sample])[0].total)\n"
    )
    words = [sys.executable, "-W", "default", "-c", code]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert float(ended.stdout) == pytest.approx(8.5) and ended.stderr == ""


def test_what_is_wrong_with_the_judge_comes_out_where_it_is_asked(monkeypatch, judge_server, samples):
    reward = BackgroundReward(config(judge_server, api_key_env="NO_SUCH_KEY"))
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        reward.score(samples)
    monkeypatch.setenv("NO_SUCH_KEY", "sk-now-there")
    assert None not in totals(reward.score(samples))
    reward.close()


def test_all_who_ask_for_the_same_configuration_share_one_reward():
    assert shared(resolve({})) is shared(RewardConfig())
    assert shared(resolve({"weights": {"faithfulness": 1}})) is not shared(RewardConfig())


def test_the_configuration_is_a_mapping_a_file_or_the_file_that_the_variable_names(monkeypatch, tmp_path):
    file = tmp_path / "reward.yaml"
    file.write_text("weights: {faithfulness: 1}\n")
    expected = RewardConfig(weights={"faithfulness": 1})
    assert resolve({"weights": {"faithfulness": 1}}) == resolve(file) == resolve(str(file)) == expected
    with pytest.raises(ConfigError, match="LONGREWARD_CONFIG"):
        resolve()
    monkeypatch.setenv("LONGREWARD_CONFIG", str(file))
    assert resolve() == expected
    with pytest.raises(ConfigError, match=r"weihgts.*did you mean 'weights'"):
        resolve({"weihgts": {}})


def test_processes_together_keep_to_the_limits(judge_server):
    limits = {"max_in_flight": 10, "requests_per_minute": 60, "tokens_per_minute": 3000}
    spend = {"price": {"prompt_per_million": 1}, "spend": {"max_cost": 1.0, "max_tokens": 100}}
    judge = divided(config(judge_server, **limits, **spend), 4).judge
    (endpoint,) = judge.resolved_endpoints
    assert (endpoint.max_in_flight, endpoint.requests_per_minute, endpoint.tokens_per_minute) == (2, 15, 750)
    assert (judge.spend.max_cost, judge.spend.max_tokens) == (0.25, 25)
    with pytest.raises(ConfigError, match=r"max_in_flight is 10, too little for 16 processes"):
        divided(config(judge_server, **limits), 16)
    with pytest.raises(ConfigError, match=r"max_tokens is 3, too little for 4"):
        divided(config(judge_server, spend={"max_tokens": 3}), 4)
