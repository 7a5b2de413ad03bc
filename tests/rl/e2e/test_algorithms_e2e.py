"""Advantage estimators in the real loop, with a judge that fails now and then: it trains, and no number is NaN. PPO is
in test_train_e2e.py, GRPO in test_kill_e2e.py."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[3]
KL_IN_REWARD = ("openrlhf.algo.kl.use_loss=false", "openrlhf.algo.kl.estimator=k1", "openrlhf.algo.kl.init_coef=0.01")
# Names of the settings, the configuration they change, and the settings.
ALGORITHMS = {
    "dr_grpo": (
        "configs/grpo_cpu.yaml",
        ("openrlhf.algo.advantage.estimator=dr_grpo", "data.heldout=null", *KL_IN_REWARD),
    ),
    "rloo, dynamic filtering": (
        "configs/grpo_cpu.yaml",
        # Groups whose mean reward is 7.8 or more are replaced: about half of them.
        (
            "openrlhf.algo.advantage.estimator=rloo",
            "openrlhf.algo.dynamic_filtering_enable=true",
            "openrlhf.algo.dynamic_filtering_range=[0.0, 0.78]",
            "openrlhf.data.max_samples=20",
            "data.heldout=null",
        ),
    ),
    "reinforce_baseline": (
        "configs/grpo_cpu.yaml",
        ("openrlhf.algo.advantage.estimator=reinforce_baseline", "data.heldout=null"),
    ),
    "async with partial rollout": (
        "configs/grpo_async_cpu.yaml",
        ("data.heldout=null", "openrlhf.data.max_samples=16", "openrlhf.rollout.vllm_generate_batch_size=8"),
    ),
}


SOAK = ("dr_grpo", "rloo, dynamic filtering", "reinforce_baseline")
"""Their advantages are tested in test_masking.py; that they train takes a minute each."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.soak if name in SOAK else ()) for name in ALGORITHMS]
)
def test_it_trains_and_void_answers_leave_no_nan(launcher, tiny, judge_server, curves, name):
    import torch
    from transformers import AutoModelForCausalLM

    config, settings = ALGORITHMS[name]
    judge_server.script = {
        # Every fifth rating is unreadable, from the second on: the preflight's comes first.
        "helpfulness": lambda _, number: "no verdict" if number % 5 == 0 else f"[[{number % 7 + 2}]]",
        "logicality": lambda _, number: f"[[{number % 11}]]",
    }
    overrides = [
        "run.name=run",
        "reward.judge.kind=openai",
        f"reward.judge.base_url={judge_server.url}",
        "reward.judge.model=judge",
        "reward.judge.max_attempts=1",
        *tiny,
        *settings,
    ]
    code, output = launcher.train(*overrides, config=config)
    assert code == 0, output
    run = launcher.directory / "runs" / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] >= 2 and set(summary["void_reasons"]) == {"parse_error"}
    seen = {tag: list(by_step.values()) for tag, by_step in curves(run / "tensorboard" / run.name).items()}
    assert not [tag for tag, values in seen.items() if not all(map(math.isfinite, values))]
    assert max(seen["train/longreward/void"]) > 0
    assert max(seen["train/longreward/void_parse_error"]) > 0
    assert max(seen["train/longreward/left_out"]) >= max(seen["train/longreward/void"])
    assert max(seen["train/longreward/helpfulness_spread"]) > 0
    assert min(seen["train/longreward/judge_p95_s"]) > 0
    before = AutoModelForCausalLM.from_pretrained(ROOT / "rl/toy/policy").state_dict()
    after = AutoModelForCausalLM.from_pretrained(run / "model").state_dict()
    assert all(torch.isfinite(weights).all() for weights in after.values())
    assert any(not torch.equal(before[key], after[key]) for key in before)
    if "filtering" in name:
        assert min(seen["train/dynamic_filtering_pass_rate"]) < 400  # of 4 answers a prompt: some groups were replaced
    launcher.wait_until_gone()
