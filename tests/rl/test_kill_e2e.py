"""Processes of a real run killed: it goes on, or ends with one sentence and continues at its last checkpoint."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter

import pytest

pytestmark = pytest.mark.e2e


def settings(judge_server, tiny, *more):
    return [
        "run.name=run",
        "data.heldout=null",
        "reward.judge.kind=openai",
        f"reward.judge.base_url={judge_server.url}",
        "reward.judge.model=judge",
        *tiny,
        "openrlhf.ckpt.save_steps=1",
        "openrlhf.data.max_samples=24",  # six steps
        "resume=true",
        *more,
    ]


def pids(launcher, name: str) -> list[int]:
    return [pid for pid, command in launcher.descendants().items() if name in command]


def wait_for(what, seconds: float, process):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
    return found


def saved(run, step: int) -> bool:
    return (run / "checkpoints" / "_actor" / f"global_step{step}" / "metric.json").is_file()


def records(run):
    return [json.loads(line) for path in (run / "store").glob("*.jsonl") for line in path.read_text().splitlines()]


def test_a_driver_that_is_killed_continues_at_its_checkpoint_and_pays_for_nothing_twice(launcher, tiny, judge_server):
    judge_server.latency = 0.05
    run = launcher.directory / "runs" / "run"
    # One worker: this judge finds the same three statements in every answer, which two workers would ask at once.
    process = launcher.start(*launcher.train_words(*settings(judge_server, tiny)))
    wait_for(lambda: saved(run, 2), 300, process)
    in_flight = judge_server.in_flight
    process.kill()
    process.wait()
    launcher.wait_until_gone(120)  # nothing outlives its driver, though Ray's own agents take a minute
    code, output = launcher.train(*settings(judge_server, tiny), timeout=300)
    assert code == 0, output
    assert "continuing" in output and "at the checkpoint of step" in output
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 6
    # Each of the 24 prompts was trained on: none was left out, none came twice but those of the step that was lost.
    groups = Counter(record["id"] for record in records(run))
    assert len(groups) == 24 and set(groups.values()) <= {4, 5, 6, 7, 8}
    assert sum(groups.values()) <= 24 * 4 + 16
    asked = Counter(prompt for _, prompt in judge_server.prompts)
    # The preflights ask the same question each time: six kinds, two starts.
    repeated = sum(count - 1 for count in asked.values() if count > 1)
    assert repeated <= in_flight + 6
    launcher.wait_until_gone(20)
    code, output = launcher.train(*settings(judge_server, tiny), timeout=60)
    assert code == 0 and "is finished" in output


@pytest.mark.soak
def test_an_asynchronous_run_continues_where_it_was_in_the_data_though_it_generates_ahead(launcher, tiny, judge_server):
    run = launcher.directory / "runs" / "run"
    more = ["openrlhf.rollout.vllm_generate_batch_size=16"]
    config = "configs/grpo_async_cpu.yaml"
    process = launcher.start(*launcher.train_words(*settings(judge_server, tiny, *more), config=config))
    wait_for(lambda: saved(run, 1), 300, process)
    process.kill()
    process.wait()
    launcher.wait_until_gone(120)
    code, output = launcher.train(*settings(judge_server, tiny, *more), config=config, timeout=400)
    assert code == 0, output
    assert json.loads((run / "summary.json").read_text())["steps"] == 6
    assert len({record["id"] for record in records(run)}) == 24


def test_a_run_survives_its_judge_worker_and_ends_in_a_sentence_when_an_engine_dies(launcher, tiny, judge_server):
    judge_server.latency = 0.3
    run = launcher.directory / "runs" / "run"
    process = launcher.start(*launcher.train_words(*settings(judge_server, tiny)))
    wait_for(lambda: records(run) if (run / "store").is_dir() else [], 300, process)
    killed = wait_for(lambda: pids(launcher, "ray::JudgeWorker"), 10, process)
    os.kill(killed[0], signal.SIGKILL)
    # Its successor scores: a second file appears, and every answer of the run is there in the end.
    wait_for(lambda: len(list((run / "store").glob("*.jsonl"))) == 2, 60, process)
    count = len(records(run))
    wait_for(lambda: len(records(run)) >= count + 16, 60, process)
    for pid in pids(launcher, "ray::RolloutRayActor"):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "a rollout engine died (process" in output and "Traceback" not in output, output
    assert "resume=true continues there" in output, output
    assert all(record.get("total") is not None for record in records(run))
    launcher.wait_until_gone(30)


@pytest.mark.soak
@pytest.mark.parametrize("part", ["ray::PolicyModelActor", "gcs_server"])
def test_a_learner_or_rays_head_that_dies_ends_the_run_in_a_sentence(launcher, tiny, judge_server, part):
    run = launcher.directory / "runs" / "run"
    process = launcher.start(*launcher.train_words(*settings(judge_server, tiny)))
    wait_for(lambda: saved(run, 1), 300, process)
    for pid in pids(launcher, part):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    said = "a learner died" if "Policy" in part else "Ray's head at"
    assert said in output and "Traceback" not in output, output
    assert "resume=true" in output
    launcher.wait_until_gone(120)


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
    code, output = launcher.train(*settings(judge_server, tiny, *more), timeout=300)
    assert code == 0, output
    summary = json.loads((launcher.directory / "runs" / "run" / "summary.json").read_text())
    assert (summary["steps"], summary["void_rate"]) == (6, 0)
    assert down_since
