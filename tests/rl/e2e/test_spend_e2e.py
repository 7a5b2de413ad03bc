"""The spend cap of a real run: it stops with a checkpoint of what it has learned, or pauses until there is more. And
Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.e2e


def settings(judge_server, tiny, **more):
    """Nine small steps, judged over the network; each call is 110 tokens by the judge's own count."""
    given = {
        "run.name": "capped",
        "data.heldout": "null",
        "openrlhf.train.num_episodes": 3,
        "reward.judge.kind": "openai",
        "reward.judge.base_url": judge_server.url,
        "reward.judge.model": "judge",
        "reward.judge.max_tokens": 64,
        "reward.judge.price.prompt_per_million": 10,
        **more,
    }
    return [*tiny, "openrlhf.data.max_samples=12", *(f"{key}={value}" for key, value in given.items())]


def spend(run) -> dict:
    return json.loads((run / "spend.json").read_text())


@pytest.mark.soak
def test_a_run_that_reaches_its_cap_stops_with_a_checkpoint_of_its_last_step(launcher, tiny, judge_server):
    cap = 20_000
    code, output = launcher.train(*settings(judge_server, tiny, **{"reward.judge.spend.max_tokens": cap}))
    run = launcher.directory / "runs" / "capped"
    assert code == 1, output
    assert "judge.spend is used up" in output and "Traceback" not in output, output
    (saved,) = (run / "checkpoints" / "_actor").glob("global_step*")
    step = int(saved.name.removeprefix("global_step"))
    assert step >= 1 and f"checkpoint of step {step} saved" in output
    assert any(saved.iterdir())
    assert cap * 0.7 < spend(run)["used"]["tokens"] <= cap
    assert spend(run)["reached"] and not spend(run)["paused"]
    # Seven calls before the run ask whether the judge is there, and reads all of a long prompt.
    assert judge_server.calls.total() * 110 <= cap + 7 * 110
    launcher.wait_until_gone()


def test_a_paused_run_goes_on_when_the_cap_is_raised_and_ctrl_c_ends_it(launcher, tiny, judge_server):
    more = {"reward.judge.spend.max_cost": 0.1, "reward.on_spend_cap": "pause", "reward.answer_timeout_s": 5}
    # So many steps that the run is not over before Ctrl-C, however quick the machine is.
    more["openrlhf.train.num_episodes"] = 300
    process = launcher.start(*launcher.train_words(*settings(judge_server, tiny, **more)))
    run = launcher.directory / "runs" / "capped"
    deadline = time.monotonic() + 900
    while not ((run / "spend.json").exists() and spend(run)["paused"]):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.3)
    asked = judge_server.calls.total()
    time.sleep(8)  # longer than an answer may take: a paused one is not given up
    assert judge_server.calls.total() == asked
    assert spend(run)["used"]["cost"] <= 0.1
    done = subprocess.run(
        [sys.executable, "rl/spend.py", str(run), "max_cost=100"], capture_output=True, text=True, check=True
    )
    assert "0.1" in done.stdout or "of 100.00" in done.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("step") and any("goes on" in earlier for earlier in said):
            break
    assert process.poll() is None, "".join(said)
    assert any("paused:" in line for line in said)
    assert any("EngineCore" in c or "ray::" in c for c in launcher.descendants().values())
    process.send_signal(signal.SIGINT)
    launcher.wait_until_gone()
    output = process.stdout.read()
    assert process.wait() == 130
    assert "stopped" in output and "Traceback" not in output, output
    answers = [json.loads(line) for path in (run / "store").glob("*") for line in path.read_text().splitlines()]
    assert all(answer.get("total") is not None for answer in answers), "waiting for money makes nothing void"
    # Each call is 100 prompt tokens of 10 in money a million.
    assert 0.1 < spend(run)["used"]["cost"] == pytest.approx(spend(run)["used"]["tokens"] / 110 * 1e-3, rel=0.01)
