"""Configurations of offline DPO and of the supervised start, and what their commands do without a cluster."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from longreward.errors import ConfigError
from rl import config, dpo, openrlhf_args, preflight, sft
from rl.dpo_config import DpoConfig, SftConfig, load_any

ROOT = Path(__file__).parents[2]
DPO = ROOT / "configs" / "dpo_cpu.yaml"
SFT = ROOT / "configs" / "sft_cpu.yaml"


def load(*overrides: str) -> DpoConfig:
    return config.load_as(DpoConfig, DPO, list(overrides))


def bare(folder: Path, kind: type[config.RunConfig], *overrides: str) -> config.RunConfig:
    """The least that can be written."""
    path = folder / "bare.yaml"
    content = {"run": {"name": "x"}, "data": {"train": "x.jsonl"}, "openrlhf": {"actor.model_name_or_path": "o/m"}}
    content["openrlhf"]["rollout.max_new_tokens"] = 64  # type: ignore[assignment]
    path.write_text(yaml.safe_dump(content))
    return config.load_as(kind, path, list(overrides))


def test_ten_answers_at_temperature_one_unless_told_otherwise(tmp_path):
    def flags(*overrides: str) -> dict:
        found = bare(tmp_path, DpoConfig, "openrlhf.vllm.num_engines=1", *overrides)
        return vars(openrlhf_args.parse(preflight.flags(found, "cpu")))

    assert [flags()[f"rollout.{name}"] for name in ("n_samples_per_prompt", "temperature")] == [10, 1.0]
    told = flags("openrlhf.rollout.n_samples_per_prompt=4", "openrlhf.rollout.temperature=0.7")
    assert [told[f"rollout.{name}"] for name in ("n_samples_per_prompt", "temperature")] == [4, 0.7]


def test_what_may_be_left_out(tmp_path):
    found = bare(tmp_path, DpoConfig)
    assert isinstance(found, DpoConfig)
    assert (found.pair.min_answers, found.processes, found.train_dpo) == (5, None, {})
    assert (found.collect.served, found.collect.pairs, found.short.train) == (None, None, None)
    assert found.pairs == found.directory / "pairs" / "train.jsonl"
    start = bare(tmp_path, SftConfig)
    preflight.flags(start, "cpu")  # no engine has to be thought of


def test_flags_of_the_trainer_are_overridden_whatever_their_spelling(tmp_path):
    content = yaml.safe_load(DPO.read_text())
    content["train_dpo"] = {"model": {"beta": 0.2}, "adam.lr": 1.0}
    path = tmp_path / "dpo.yaml"
    path.write_text(yaml.safe_dump(content))
    assert config.load_as(DpoConfig, path, []).train_dpo == {"model.beta": 0.2, "adam.lr": 1.0}
    assert config.load_as(DpoConfig, path, ["train_dpo.model.beta=0.3"]).train_dpo["model.beta"] == 0.3
    for override in ("train_dpo.adam.lr=2.0e-6", "train_dpo.adam={lr: 2.0e-6}"):
        assert config.load_as(DpoConfig, path, [override]).train_dpo == {"model.beta": 0.2, "adam.lr": 2e-6}


def test_flags_of_the_supervised_start_too():
    found = config.load_as(SftConfig, SFT, ["train_sft.train.max_epochs=3", "openrlhf.data.max_len=700"])
    assert found.train_sft["train.max_epochs"] == 3 and found.openrlhf["data.max_len"] == 700


def test_a_written_configuration_is_read_back_as_it_was(tmp_path):
    found = load("collect.served={base_url: 'http://h/v1', model: m}", "pair.weights={faithfulness: 1}", "processes=2")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(found.model_dump(mode="json")))
    assert config.load_as(DpoConfig, path, []) == found


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("pairs.min_answers=3", "unknown key 'pairs'; did you mean 'pair'?"),
        ("pair.min_answer=3", "unknown key 'pair.min_answer'; did you mean 'min_answers'?"),
        ("collect.sed=1", "unknown key 'collect.sed'; did you mean 'seed'?"),
        ("collect.served={base_url: 'http://h/v1', modl: m}", "unknown key 'collect.served.modl'"),
        ("collect.answers_in_flight=0", "collect.answers_in_flight"),
        ("short.share=1", "short.share"),
        ("pair.min_answers=1", "pair.min_answers"),
        ("processes=0", "processes"),
        ("train_sft.adam.lr=1", "unknown key 'train_sft'; did you mean 'train_dpo'?"),
        ("--stages", "unrecognized arguments: --stages"),
    ],
)
def test_a_mistake_is_one_sentence(override, sentence):
    with pytest.raises(ConfigError) as caught:
        load(override)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", ["pair", "train"])
def test_a_stage_without_a_run_is_one_sentence_and_exit_code_2(stage, tmp_path, capfd):
    code = dpo.main(["--config", str(DPO), f"run.dir={tmp_path}", "--stage", stage])
    assert code == 2
    sentence = capfd.readouterr().err
    assert sentence == f"dpo: there is no run in {tmp_path}/dpo_cpu yet; collect answers first, or set run.name\n"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_stage_lists_the_known_ones(tmp_path, capfd):
    with pytest.raises(SystemExit) as caught:
        dpo.main(["--config", str(DPO), "--stage", "pairs"])
    assert caught.value.code == 2
    assert "collect" in capfd.readouterr().err


@pytest.mark.parametrize(("main", "path"), [(dpo.main, DPO), (sft.main, SFT)])
def test_a_mistake_is_exit_code_2(main, path, tmp_path, capfd):
    assert main(["--config", str(path), f"run.dir={tmp_path}", "run.nam=x", "--dry-run"]) == 2
    assert "unknown key 'run.nam'; did you mean 'name'?" in capfd.readouterr().err


@pytest.mark.parametrize("path", [*sorted((ROOT / "configs").glob("dpo_*")), *sorted((ROOT / "configs").glob("sft_*"))])
def test_a_dry_run_writes_what_would_be_done(path, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("LONGREWARD_DEVICE", "cpu")  # what a configuration says goes first; restored in the end
    kind, script = ("dpo", dpo) if path.name.startswith("dpo_") else ("sft", sft)
    assert script.main(["--config", str(path), f"run.dir={tmp_path}", "--dry-run", f"train_{kind}.adam.lr=3.0e-6"]) == 0
    assert "config.yaml and command.txt are written" in capfd.readouterr().out
    folder = tmp_path / f"{path.stem}-dry-run"
    assert [one.name for one in tmp_path.iterdir()] == [folder.name]
    assert {one.name for one in folder.iterdir()} == {"config.yaml", "command.txt"}
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved[f"train_{kind}"]["adam.lr"] == 3e-6
    command = (folder / "command.txt").read_text()
    assert f" --module rl.learner openrlhf.cli.train_{kind} " in command and " --adam.lr 3e-06 " in command


@pytest.mark.parametrize("script", ["dpo.py", "sft.py", "evaluate.py"])
def test_help_is_there_at_once(script):
    started = time.monotonic()
    words = [sys.executable, f"rl/{script}", "--help"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    wall = time.monotonic() - started
    assert result.returncode == 0 and "--config" in result.stdout
    assert wall < 5  # half a second where the machine is idle


@pytest.mark.parametrize(
    ("name", "kind"),
    [("grpo_cpu", config.RunConfig), ("dpo_cpu", DpoConfig), ("sft_cpu", SftConfig)],
    ids=lambda x: str(x),
)
def test_a_policy_can_be_evaluated_with_any_kind_of_configuration(name, kind):
    assert type(load_any(ROOT / "configs" / f"{name}.yaml", ["run.name=x"])) is kind
