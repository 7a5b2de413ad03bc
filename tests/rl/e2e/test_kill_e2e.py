"""Processes of a real run killed: it goes on, or ends with one sentence and continues at its last checkpoint."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import time
from collections import Counter
from contextlib import nullcontext

import pytest
from redis_process import RedisProcess

pytestmark = pytest.mark.e2e


def settings(judge_server, tiny, *more):
    return [
        "run.name=run",
        "data.heldout=null",
        "reward.judge.kind=openai",
        f"reward.judge.base_url={judge_server.url}",
        "reward.judge.model=judge",
        "reward.judge.hedge.budget=0",  # each question that is asked twice is one too many
        *tiny,
        "openrlhf.ckpt.save_steps=1",
        "openrlhf.data.max_samples=24",  # six steps
        "resume=true",
        *more,
    ]


def pids(launcher, name: str) -> list[int]:
    return [pid for pid, command in launcher.descendants().items() if name in command]


def saved(run, step: int) -> bool:
    return (run / "checkpoints" / "_actor" / f"global_step{step}" / "metric.json").is_file()


def records(run):
    return [json.loads(line) for path in (run / "store").glob("*.jsonl") for line in path.read_text().splitlines()]


def under_another_host_name(*words: str) -> list[str]:
    """As a pod or a requeued job comes back. Only root can give a process a name of its own."""
    if os.geteuid():
        return list(words)
    return ["unshare", "--uts", "sh", "-c", 'hostname came-back-elsewhere && exec "$@"', "sh", *words]


@pytest.mark.parametrize("cache", ["the run's own", pytest.param("redis", marks=pytest.mark.soak)])
def test_grpo_improves_the_toy_policy_though_its_driver_is_killed_and_pays_for_nothing_twice(
    launcher, judge_server, tmp_path, cache
):
    """The demonstration in short; benchmarks/ has the full figures and the shuffled control."""
    with RedisProcess(tmp_path) if cache == "redis" else nullcontext() as server:
        improves_and_pays_for_nothing_twice(launcher, judge_server, server)


def improves_and_pays_for_nothing_twice(launcher, judge_server, server):
    ruled = runpy.run_path("benchmarks/judge_replies.py")["ruled"]  # the offline judge's rules behind HTTP
    kinds = ("helpfulness", "logicality", "completeness", "statements", "verify", "verify_many", "extract")
    judge_server.script = {kind: lambda prompt, _, kind=kind: ruled(kind, prompt) for kind in kinds}
    run = launcher.directory / "runs" / "run"
    words = [
        *settings(judge_server, ()),
        "data.heldout=rl/toy/data/heldout.jsonl",
        "openrlhf.ckpt.save_steps=2",
        "openrlhf.data.max_samples=64",  # sixteen steps
        "evaluation.max_prompts=64",
        "evaluation.n_samples_per_prompt=2",
        *([f"reward.cache.url={server.url}"] if server else []),
    ]
    process = launcher.start(*launcher.train_words(*words))
    launcher.wait_for(lambda: saved(run, 4), process)
    in_flight = judge_server.in_flight
    process.kill()
    process.wait()
    outlived = launcher.descendants().keys()
    code, output = launcher.run(*under_another_host_name(*launcher.train_words(*words)))
    assert code == 0, output
    # Nothing outlives its driver, though Ray's own agents take a minute.
    assert not outlived & launcher.descendants().keys()
    assert "continuing" in output and "at the checkpoint of step" in output
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["void_rate"]) == (16, 0)
    assert summary["gain"]["n"] >= 64 and summary["gain"]["interval"][0] > 0, output
    # Each of the 64 prompts was trained on: none was left out, none came twice but those of the steps that were lost.
    groups = Counter(record["id"] for record in records(run) if record["split"] == "train")
    assert len(groups) == 64 and min(groups.values()) == 8 and max(groups.values()) <= 16
    assert sum(groups.values()) <= (64 + 3 * 4) * 8
    asked = Counter(prompt for _, prompt in judge_server.prompts)
    # The preflights ask the same questions each time: six kinds and an extraction of full size, two starts.
    repeated = sum(count - 1 for count in asked.values() if count > 1)
    assert repeated <= in_flight + 7
    hosts = {file.name.rpartition("-")[0] for file in (run / "cache").glob("*.verdicts")}
    elsewhere = socket.gethostname() if os.geteuid() else "came-back-elsewhere"
    assert hosts == (set() if server else {socket.gethostname(), elsewhere})
    assert "verdicts are kept in" in output
    launcher.wait_until_gone()
    code, output = launcher.train(*words)
    assert code == 0 and "is finished" in output


@pytest.mark.soak
def test_an_asynchronous_run_continues_where_it_was_in_the_data_though_it_generates_ahead(launcher, tiny, judge_server):
    run = launcher.directory / "runs" / "run"
    more = ["openrlhf.rollout.vllm_generate_batch_size=16"]
    config = "configs/grpo_async_cpu.yaml"
    process = launcher.start(*launcher.train_words(*settings(judge_server, tiny, *more), config=config))
    launcher.wait_for(lambda: saved(run, 1), process)
    process.kill()
    process.wait()
    launcher.wait_until_gone()
    code, output = launcher.train(*settings(judge_server, tiny, *more), config=config)
    assert code == 0, output
    assert json.loads((run / "summary.json").read_text())["steps"] == 6
    assert len({record["id"] for record in records(run)}) == 24


def test_a_run_survives_its_judge_worker_and_stops_when_its_judge_gives_no_more_verdicts(launcher, tiny, judge_server):
    """The void rate passes its limit: no training on invented numbers, no endless run."""
    judge_server.latency = 0.3
    run = launcher.directory / "runs" / "run"
    more = ["reward.judge.max_attempts=1", "reward.void_window=8"]
    process = launcher.start(*launcher.train_words(*settings(judge_server, tiny, *more)))
    launcher.wait_for(lambda: records(run) if (run / "store").is_dir() else [], process)
    killed = launcher.wait_for(lambda: pids(launcher, "ray::JudgeWorker"), process)
    os.kill(killed[0], signal.SIGKILL)
    # Its successor scores: a second file appears, and every answer of the run is there in the end.
    launcher.wait_for(lambda: len(list((run / "store").glob("*.jsonl"))) == 2, process)
    count = len(records(run))
    launcher.wait_for(lambda: len(records(run)) >= count + 16, process)
    assert all(record.get("total") is not None for record in records(run))
    judge_server.script = {"helpfulness": lambda *_: "gone"}
    code, output = launcher.finish(process)
    assert code == 1, output
    assert "of the last 8 rewards are void" in output and "last checkpoint" in output
    assert "Traceback" not in output, output
    launcher.wait_until_gone()


@pytest.mark.soak
@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("ray::RolloutRayActor", "a rollout engine died (process"),
        ("ray::PolicyModelActor", "a learner died"),
        ("gcs_server", "Ray's head at"),
    ],
)
def test_an_engine_a_learner_or_rays_head_that_dies_ends_the_run_in_a_sentence(
    launcher, tiny, judge_server, part, said
):
    run = launcher.directory / "runs" / "run"
    process = launcher.start(*launcher.train_words(*settings(judge_server, tiny)))
    launcher.wait_for(lambda: saved(run, 1), process)
    for pid in pids(launcher, part):
        os.kill(pid, signal.SIGKILL)
    code, output = launcher.finish(process)
    assert code == 1, output
    assert said in output and "Traceback" not in output, output
    assert "resume=true" in output
    launcher.wait_until_gone()


@pytest.mark.soak
def test_a_judge_that_is_away_for_a_while_costs_time_and_no_reward(launcher, tiny, judge_server):
    """Longer than a call's own deadline."""
    from aiohttp import web

    down_since: list[float] = []

    def away(kind):
        def reply(prompt, number):
            if kind == "helpfulness" and number == 12:
                down_since.append(time.monotonic())
            if down_since and time.monotonic() - down_since[0] < 15:
                return web.json_response({"error": {"message": "away"}}, status=503)
            return judge_server._default(kind, prompt)

        return reply

    kinds = ("helpfulness", "logicality", "completeness", "statements", "verify", "extract")
    judge_server.script = {kind: away(kind) for kind in kinds}
    more = ["reward.judge.call_timeout_s=4", "reward.answer_timeout_s=10", "reward.judge.retry_base_s=0.1"]
    code, output = launcher.train(*settings(judge_server, tiny, *more))
    assert code == 0, output
    summary = json.loads((launcher.directory / "runs" / "run" / "summary.json").read_text())
    assert (summary["steps"], summary["void_rate"]) == (6, 0)
    assert down_since
