"""What cannot work with LoRA is told before a run begins, in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from longreward.errors import ConfigError
from longreward.preflight.finding import Severity
from rl import config
from rl.run import planning
from rl.trainer.openrlhf_parser import parser

ROOT = Path(__file__).parents[3]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan of the LoRA toy with changes."""
    monkeypatch.chdir(ROOT)
    path = ROOT / "configs/grpo_lora_cpu.yaml"
    return lambda *changes: planning.make(
        config.load(path, [f"run.dir={tmp_path}", "run.device=cpu", *changes]), "online"
    )


def told(made, severity=Severity.PROBLEM):
    return [finding.text for finding in made.findings if finding.severity is severity]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["lora.rank=-1"], r"ds\.lora\.rank is -1; set a rank such as 16, or 0"),
        (["lora.alpha=0"], r"ds\.lora\.alpha is 0, and the adapter is scaled by alpha / rank; set it to"),
        (["lora.dropout=1.5"], r"ds\.lora\.dropout is 1\.5; set it to at least 0 and below 1"),
        (["lora.target_modules=[q_proj,query]"], r"=q_proj,query: the policy has no query; take some of .*v_proj"),
        (["lora.target_modules=[]"], r"target_modules= names none; take some of"),
        (["lora.target_modules=[proj]"], r"has no proj; take some"),
        (["lora.target_modules=[q_proj,lm_head]"], r"are one weight, which an adapter would split; leave out lm_head"),
        (["lora.target_modules=[embed_tokens]"], r"are one weight.*; leave out embed_tokens"),
        (["tensor_parallel_size=2"], r"ds\.tensor_parallel_size does not go with openrlhf\.ds\.lora\.rank: DeepSpeed"),
        (["load_in_4bit=true"], r"ds\.load_in_4bit does not work online: vLLM holds the weights in bfloat16.*leave it"),
        (["load_in_4bit=true", "lora.rank=0"], r"ds\.load_in_4bit does not work online"),
    ],
)
def test_what_cannot_work_is_one_sentence(plan, changes, sentence):
    made = plan(*(f"openrlhf.ds.{change}" for change in changes))
    assert [text for text in told(made) if re.search(sentence, text)], told(made)
    with pytest.raises(ConfigError):
        planning.refuse(made.findings)


def test_an_averaged_model_is_refused(plan):
    with pytest.raises(ConfigError, match=r"train\.enable_ema does not go with .*averaged model has no adapter"):
        planning.refuse(plan("openrlhf.train.enable_ema=true").findings)


@pytest.mark.parametrize("targets", ["[q_proj]", "[self_attn.q_proj,down_proj]", "all-linear", "[all-linear]"])
def test_what_the_policy_has_is_taken(plan, targets):
    made = plan(f"openrlhf.ds.lora.target_modules={targets}")
    assert told(made) == []
    taken = vars(parser().parse_args(made.argv))["ds.lora.target_modules"]
    # PEFT knows all-linear as a word alone, and takes it in a list for the name of a module.
    assert taken == ("all-linear" if "all-linear" in targets else targets.strip("[]").split(","))


def test_a_critic_whose_value_head_learns_nothing_is_a_note(plan):
    gae = ["openrlhf.algo.advantage.estimator=gae", "openrlhf.critic.num_gpus_per_node=1"]
    made = plan(*gae, "openrlhf.ds.lora.target_modules=[q_proj]")
    assert [text for text in told(made, Severity.NOTE) if "value head, score, would stay at its random" in text]
    for targets in ("[q_proj,score]", "all-linear"):
        made = plan(*gae, f"openrlhf.ds.lora.target_modules={targets}")
        assert told(made) == [] and not [text for text in told(made, Severity.NOTE) if "value head" in text]


def test_the_disk_is_for_whole_weights_without_adam_and_for_the_merged_model(plan):
    told_of_disk = next(finding.sentence for finding in plan().findings if finding.about == "disk")
    assert "checkpoints of 1.04 MB" in told_of_disk and "the model, 1.04 MB" in told_of_disk
    assert "Adam" not in told_of_disk


@pytest.mark.parametrize("change", ["rank=8", "alpha=1", "target_modules=[q_proj]"])
def test_another_adapter_does_not_continue_a_run(plan, tmp_path, change):
    before = plan().config
    (before.directory).mkdir(parents=True)
    before.directory.joinpath("config.yaml").write_text(before.model_dump_json())
    assert plan("resume=true").before is not None
    with pytest.raises(ConfigError, match=rf"ds\.lora\.{change.split('=')[0]} is .* and was .* when"):
        plan("resume=true", f"openrlhf.ds.lora.{change}")
