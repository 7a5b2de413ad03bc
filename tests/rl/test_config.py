"""Configurations: every shipped one parses, every mistake is a sentence, every OpenRLHF flag can be reached."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections import Counter
from dataclasses import fields
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from longreward.errors import ConfigError
from rl import config
from rl.offline import config as offline_config
from rl.offline.planning import plan_any
from rl.run import planning
from rl.trainer import cpu_backend, openrlhf_flags, openrlhf_parser

ROOT = Path(__file__).parents[2]
CONFIGS = [path for path in sorted((ROOT / "configs").rglob("*.yaml")) if "\nrows:" not in path.read_text()]
CPU = ROOT / "configs" / "grpo_cpu.yaml"
KINDS = (offline_config.DpoConfig, offline_config.SftConfig)
OURS = (
    "rl.config",
    "rl.offline.config",
    "rl.offline.pairs",
    "rl.reward_functions",
    "longreward.config",
)


def load(path: Path) -> config.RunConfig:
    """A shipped configuration."""
    return offline_config.load_any(path, [])


def sections(*kinds: type) -> list[type]:
    """Those configurations and all their sections."""
    inner = {field.annotation for kind in kinds for field in kind.model_fields.values()}
    return [*kinds, *sorted((one for one in inner if hasattr(one, "model_fields")), key=lambda one: one.__name__)]


def argv(*overrides: str, device: str = "cpu") -> list[str]:
    return plan(*overrides, device=device).argv


def parsed(*overrides: str, device: str = "cpu"):
    return plan(*overrides, device=device).flags


def plan(*overrides: str, device: str = "cpu"):
    return planning.make(config.load(CPU, [f"run.device={device}", *overrides]), "online")


def parsed_by_openrlhf(*overrides: str, device: str = "cpu"):
    return vars(openrlhf_parser.parser().parse_args(argv(*overrides, device=device)))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_is_good(path):
    made = plan_any(load(path))
    assert made.resources.gpus >= 1 or made.kind == "sft"
    assert path.read_text().startswith("# "), "a configuration opens with what it is for"


@pytest.mark.parametrize(
    "section",
    [*sections(config.RunConfig, *KINDS), offline_config.ServedPolicySection],
    ids=lambda s: s.__name__,
)
def test_every_field_says_what_it_does(section):
    for klass in [k for k in section.__mro__ if "model_fields" in dir(k) and k.__module__.startswith(OURS)]:
        source = ast.parse(Path(sys.modules[klass.__module__].__file__).read_text())
        (body,) = [n.body for n in source.body if isinstance(n, ast.ClassDef) and n.name == klass.__name__]
        for this, following in zip(body, [*body[1:], None], strict=True):
            if isinstance(this, ast.AnnAssign) and this.target.id not in ("name", "model_config", "must_stay"):
                assert isinstance(following, ast.Expr), f"{klass.__name__}.{this.target.id} has no docstring line"


def flags_in_openrlhfs_source() -> set[str]:
    spec = importlib.util.find_spec(openrlhf_parser.MODULE)
    text = Path(spec.origin).read_text()
    return set(re.findall(r'add_argument\(\s*"--([\w.]+)"', text))


def test_every_flag_of_openrlhf_can_be_given():
    flags = flags_in_openrlhfs_source()
    assert len(flags) > 120
    known = {option[2:] for action in openrlhf_parser.parser()._actions for option in action.option_strings}
    assert flags <= known
    # The same for both models; written with a loop in OpenRLHF's source.
    assert {"actor.adam.lr", "critic.adam.lr", "actor.lr_scheduler"} <= known


def test_every_flag_we_emit_exists_in_openrlhfs_source():
    flags = flags_in_openrlhfs_source() | {"actor.adam.lr", "actor.lr_scheduler"}
    for path in CONFIGS:
        words = plan_any(load(path)).argv + argv()
        assert {word[2:] for word in words if word.startswith("--")} <= flags | openrlhf_known()
    assert set(openrlhf_flags.OWNED) <= openrlhf_known()
    assert set(cpu_backend.UNSUPPORTED_FLAGS) <= openrlhf_known()


def openrlhf_known() -> set[str]:
    return {option[2:] for action in openrlhf_parser.parser()._actions for option in action.option_strings}


@pytest.mark.parametrize(
    ("typed", "module"),
    [
        (openrlhf_flags.Flags, openrlhf_parser.MODULE),
        (openrlhf_flags.LearnerFlags, "openrlhf.cli.train_dpo"),
        (openrlhf_flags.LearnerFlags, "openrlhf.cli.train_sft"),
    ],
)
def test_every_flag_that_is_read_exists_in_openrlhfs_parser(typed, module):
    known = Counter(action.dest.replace(".", "_") for action in openrlhf_parser.parser(module)._actions)
    assert {field.name: known[field.name] for field in fields(typed)} == {field.name: 1 for field in fields(typed)}


def test_flags_are_overridden_from_the_command_line_whatever_their_spelling_in_the_file():
    changed = ("openrlhf.actor.adam.lr=1e-6", "openrlhf.algo.kl.init_coef=0", "openrlhf.vllm.num_engines=2")
    assert parsed_by_openrlhf(*changed)["actor.adam.lr"] == 1e-6
    assert parsed(*changed).algo_kl_init_coef == 0
    assert parsed(*changed).vllm_num_engines == 2


def test_lists_switches_and_nulls_become_words():
    words = openrlhf_flags.to_argv(
        {"reward.clip_range": [-1, 1], "vllm.enforce_eager": True, "ds.adam_offload": False, "data.max_samples": None}
    )
    assert words == ["--reward.clip_range", "-1", "1", "--vllm.enforce_eager"]


def test_machine_defaults_can_be_overridden():
    assert parsed_by_openrlhf()["vllm.sync_backend"] == "gloo"
    assert parsed("openrlhf.vllm.gpu_memory_utilization=0.2").vllm_gpu_memory_utilization == 0.2
    assert parsed_by_openrlhf(device="gpu")["ds.attn_implementation"] == "flash_attention_2"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "openrlhf.actor.adam.lrr=1",
            "openrlhf.actor.adam.lrr is not a flag of OpenRLHF; did you mean 'actor.adam.lr'?",
        ),
        ("openrlhf.algo.advantage.estimator=grpo", "invalid choice: 'grpo'"),
        ("openrlhf.train.batch_size=many", "invalid int value: 'many'"),
        ("openrlhf.vllm.enforce_eager=3", "is a switch: true or false, got 3"),
        ("openrlhf.ckpt.path=/x", "openrlhf.ckpt.path is set by the run itself"),
        ("openrlhf.reward.remote_url=http://x", "set reward.name=remote and reward.remote.url"),
        ("openrlhf.data.max_len=10", "leaves no room for a prompt"),
        ("openrlhf.ds.packing_samples=true", "does not run without a GPU (unpadding is a flash attention kernel)"),
        ("reward.judge.kindd=x", "unknown key 'reward.judge.kindd'; did you mean 'kind'?"),
        ("rewards.name=x", "unknown key 'rewards'; did you mean 'reward'?"),
        ("run.name=a/b", "run.name"),
        ("reward.workers=0", "reward.workers"),
        (
            "reward.workers=4 reward.judge.kind=openai reward.judge.model=j reward.judge.base_url=http://j/v1",
            "workers=4: a reward that asks a judge has one worker, which makes some 1000 calls a second; leave",
        ),
        ("reward.weights.honesty=1", "reward.weights"),
        ("nonsense", "is not a setting; write section.key=value"),
        ("run.name.x=1", "not a section"),
    ],
)
def test_a_mistake_is_one_sentence(override, sentence):
    with pytest.raises(ConfigError) as caught:
        argv(*override.split())
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "gpus"),
    [
        ([], 1),
        (["openrlhf.train.colocate_all=false"], 3),
        (["openrlhf.train.colocate_all=false", "openrlhf.algo.kl.init_coef=0", "openrlhf.algo.kl.use_loss=false"], 2),
        (["openrlhf.train.colocate_all=false", "openrlhf.train.colocate_actor_ref=true"], 2),
        (
            [
                "openrlhf.train.colocate_all=false",
                "openrlhf.vllm.num_engines=2",
                "openrlhf.vllm.tensor_parallel_size=2",
            ],
            6,
        ),
        (["openrlhf.train.async_enable=true"], 2),
        (
            [
                "openrlhf.train.colocate_all=false",
                "openrlhf.algo.advantage.estimator=gae",
                "openrlhf.critic.num_gpus_per_node=2",
            ],
            5,
        ),
    ],
)
def test_the_gpus_a_run_needs(overrides, gpus):
    assert plan(*overrides).resources.gpus == gpus


def test_wandb_key_is_a_placeholder(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    words = argv("wandb.mode=online")
    assert "very-secret" not in " ".join(words)
    assert openrlhf_flags.WANDB_KEY_PLACEHOLDER in words
    assert "--logger.wandb.key" not in argv()


def test_no_file_or_folder_of_rl_shadows_a_module():
    """`python rl/train.py` puts rl/ first on sys.path, in the driver and in every Ray worker."""
    folders = {path.name for path in (ROOT / "rl").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    names = {path.stem for path in (ROOT / "rl").glob("*.py")} - {"__init__"} | folders
    assert {"config", "run"} <= names
    assert not names & sys.stdlib_module_names
    assert not names & packages_distributions().keys()


def test_the_gpus_of_a_judge_that_the_run_serves_are_counted():
    offline = plan().resources
    own = ("reward.judge.kind=vllm", "reward.judge.model=owner/judge", "reward.judge.replicas=2", "reward.judge.gpus=4")
    counted = plan(*own).resources
    assert counted.gpus == offline.gpus + 8 and counted.cpus == offline.cpus
    assert "8 the judge" in counted.parts
    assert plan(*own, "reward.name=reference").resources.gpus == offline.gpus, "it is not asked"
