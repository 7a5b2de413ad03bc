"""A judge with a call in each step that takes until the next one: a real run leaves that answer behind."""

from __future__ import annotations

import asyncio
import json

import pytest

pytestmark = pytest.mark.e2e

ANSWERS, STEPS = 16, 6


def test_a_step_leaves_its_slowest_answer_behind_and_keeps_its_scores(launcher, tiny, judge_server, curves):
    async def helpfulness(number: int) -> str:
        if number % ANSWERS == ANSWERS // 2:
            # Where the others in its group have the same reward, the step waits for it.
            for _ in range(600):
                if judge_server.calls["helpfulness"] >= number + ANSWERS:
                    break
                await asyncio.sleep(0.1)
        return f"[[{number % 7 + 2}]]"

    judge_server.script = {"helpfulness": lambda _, number: helpfulness(number)}
    code, output = launcher.train(
        *tiny,
        "run.name=late",
        "data.heldout=null",
        "reward.judge.kind=openai",
        f"reward.judge.base_url={judge_server.url}",
        "reward.judge.model=judge",
        "reward.judge.attempt_timeout_s=1000",
        "reward.judge.call_timeout_s=1200",
        "reward.judge.hedge.budget=0",  # a second request would be quicker
        "reward.late.share=0.1",
        "openrlhf.rollout.temperature=2.0",  # answers of a group that differ
        f"openrlhf.data.max_samples={STEPS * 4}",
    )
    assert code == 0, output
    run = launcher.directory / "runs" / "late"
    late = curves(run / "tensorboard" / "late")["train/longreward/void_late"].values()
    assert max(late) <= 1.5 / ANSWERS  # one of a step
    assert sum(late) >= 2 / ANSWERS
    # Their scores came with the next step. Only the last one's may not have come.
    files = (run / "store").glob("answers-*.jsonl")
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(records) >= ANSWERS * STEPS - 1 and all(record.get("total") is not None for record in records)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == STEPS and 0 < summary["judge_wait_share"] < 1
    watched = curves(run / "tensorboard" / "late-watch")
    assert all(0 < share < 1 for share in watched["longreward/judge_wait_share"].values())
    assert "the judge held the GPUs for" in output or summary["judge_wait_share"] < 0.1
    launcher.wait_until_gone()
