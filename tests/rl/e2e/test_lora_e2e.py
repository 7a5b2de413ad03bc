"""GRPO with LoRA by the real loop: engines answer from the merged weights, a killed run goes on, its model is whole.

OpenRLHF compares the log-probabilities of its engine with those of its learner (`vllm_kl`), and the learner's with
those of the policy that it began with (`kl`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[3]
STEPS = 6


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, new_launcher, tiny):
    """A run killed after a checkpoint and continued: exit code, what it said, its directory."""
    launcher = new_launcher(tmp_path_factory.mktemp("lora"))
    run = launcher.directory / "runs" / "run"
    words = [
        *["run.name=run", "resume=true", "data.heldout=null", *tiny],
        f"openrlhf.data.max_samples={4 * STEPS}",
        "openrlhf.ckpt.save_steps=1",
        "openrlhf.actor.adam.lr=5.0e-3",  # so that the policy is soon another
        # It makes OpenRLHF compare engine and learner.
        *["openrlhf.algo.advantage.is_correction_level=token", "openrlhf.algo.advantage.is_correction_mode=mask"],
        "openrlhf.algo.advantage.is_correction_threshold=[0.01,100.0]",
    ]
    process = launcher.start(*launcher.train_words(*words, config="configs/grpo_lora_cpu.yaml"))
    saved = run / "checkpoints" / "_actor" / f"global_step{STEPS // 2}" / "metric.json"
    launcher.wait_for(saved.is_file, process)
    process.kill()
    process.wait()
    code, output = launcher.train(*words, config="configs/grpo_lora_cpu.yaml")
    return code, output, run


def test_it_goes_on_at_its_checkpoint_and_ends(resumed):
    code, output, run = resumed
    assert code == 0, output
    assert "at the checkpoint of step" in output
    assert json.loads((run / "summary.json").read_text())["steps"] == STEPS


def test_the_engine_answers_from_the_merged_weights(resumed, curves):
    _, _, run = resumed
    found = curves(run / "tensorboard" / run.name)
    apart, moved = (found[f"train/{tag}"] for tag in ("vllm_kl", "kl"))
    assert sorted(apart) == sorted(moved) == list(range(1, STEPS + 1))
    assert moved[STEPS] > 0.03, moved  # an engine with the first policy's weights would be as far from the learner
    assert all(abs(value) < 0.01 for value in apart.values()), apart


def test_the_model_is_whole_and_its_adapter_is_kept(resumed):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _, _, run = resumed
    whole = AutoModelForCausalLM.from_pretrained(run / "model", dtype="auto")
    base = AutoModelForCausalLM.from_pretrained(ROOT / "rl/toy/policy", dtype=whole.dtype)
    before = {name: weights.clone() for name, weights in base.state_dict().items()}
    found = whole.state_dict()
    differ = {name for name in found if not torch.equal(found[name], before[name])}
    assert differ == {name for name in before if name.endswith("_proj.weight")}
    wanted = PeftModel.from_pretrained(base, run / "adapter").merge_and_unload().state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert AutoTokenizer.from_pretrained(run / "model").chat_template
