"""A run that serves its judge itself: SmolLM2-135M-Instruct on vLLM's real server, and a replica that is killed."""

from __future__ import annotations

import json
import os
import signal

import pytest

from longreward import store
from longreward.errors import Reason
from longreward.schema import ScoredAnswer

pytestmark = pytest.mark.e2e

REPLICAS = 2
LONG_S = 1400  # no machine is so slow: deadlines are not what is tested


def settings(model, tiny):
    """One short question about each of few answers: this judge generates some 100 tokens a second."""
    given = {
        "run.name": "own-judge",
        "reward.judge.kind": "vllm",
        "reward.judge.model": model,
        "reward.judge.replicas": REPLICAS,
        "reward.judge.args": "{max-model-len: 4096, dtype: float32}",
        "reward.judge.verdict": "constrained",
        "reward.judge.max_tokens": 256,
        "reward.judge.extra_body": "{repetition_penalty: 1.1}",
        "reward.judge.start_timeout_s": LONG_S,
        "reward.judge.attempt_timeout_s": LONG_S,
        "reward.judge.call_timeout_s": LONG_S,
        "reward.answer_timeout_s": LONG_S,
        "reward.weights": "{helpfulness: 1}",
        "data.heldout": "null",
        "openrlhf.rollout.batch_size": 2,
        "openrlhf.train.batch_size": 8,
        "openrlhf.data.max_samples": 4,
    }
    return [*tiny, *(f"{key}={value}" for key, value in given.items())]


def scored(run) -> list[ScoredAnswer]:
    return [record for path in store.files(run / "store") for _, _, record in store.read(path, [], ScoredAnswer)]


def leads(pid: int) -> bool:
    """Whether it leads a session of its own, as a server does and none of its children."""
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:  # a child that lived for a moment
        return False


def test_a_replica_that_is_killed_costs_no_answer_and_nothing_is_left_behind(launcher, tiny, smollm2):
    process = launcher.start(*launcher.train_words(*settings(smollm2, tiny)))
    run = launcher.directory / "runs" / "own-judge"

    def servers() -> list[int]:
        return [pid for pid, command in launcher.descendants().items() if "run_vllm" in command and leads(pid)]

    launcher.wait_for(lambda: scored(run), process)
    killed, *others = servers()
    assert len(others) == REPLICAS - 1
    os.kill(killed, signal.SIGKILL)
    code, output = launcher.finish(process)
    assert code == 0, output
    summary = json.loads((run / "summary.json").read_text())
    # This judge now and then repeats itself without end; the kill alone must cost nothing.
    assert summary["steps"] == 2 and set(summary["void_reasons"]) <= {Reason.TRUNCATED}, summary
    assert len(scored(run)) == 2 * 8
    logs = [(run / "logs" / f"judge-{index}.log").read_text() for index in range(REPLICAS)]
    assert sum("the server ended with code -9; it is started again" in log for log in logs) == 1
    launcher.wait_until_gone()
