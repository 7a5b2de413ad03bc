"""Configurations of offline DPO and of the supervised start, and what their commands do without a cluster."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from longreward.errors import ConfigError
from rl import config, dpo, sft
from rl.offline.config import DpoConfig, SftConfig, load_any
from rl.offline.planning import plan_any
from rl.run import planning, run_directory

ROOT = Path(__file__).parents[3]
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
    def flags(*overrides: str) -> tuple[int, float]:
        found = bare(tmp_path, DpoConfig, "openrlhf.vllm.num_engines=1", *overrides)
        read = planning.make(found, "dpo").flags
        return read.rollout_n_samples_per_prompt, read.rollout_temperature

    assert flags() == (10, 1.0)
    told = flags("openrlhf.rollout.n_samples_per_prompt=4", "openrlhf.rollout.temperature=0.7")
    assert told == (4, 0.7)


def test_what_may_be_left_out(tmp_path):
    found = bare(tmp_path, DpoConfig)
    assert isinstance(found, DpoConfig)
    assert (found.pair.min_answers, found.processes, found.train_dpo) == (5, None, {})
    assert (found.collect.served, found.collect.pairs, found.short.train) == (None, None, None)
    assert found.examples == found.directory / "pairs" / "train.jsonl"
    start = bare(tmp_path, SftConfig)
    planning.make(start, "sft")  # no engine has to be thought of


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
        ("collect.served={base_url: 'http://u:pa55word@h/v1', model: m}", "holds a password"),
        ("run.name=..", "run.name: it names a folder"),
        ("collect.answers_in_flight=0", "collect.answers_in_flight"),
        ("short.share=1.5", "short.share"),
        ("pair.min_answers=1", "pair.min_answers"),
        ("processes=0", "processes"),
        ("pair.by=dimension", "pair.by"),
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
    assert sentence.startswith(f"dpo: there is no run in {tmp_path}/dpo_cpu yet; collect answers first, set run.name")
    assert sentence.count("\n") == 1
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


SHIPPED = [path for path in sorted((ROOT / "configs").rglob("*.yaml")) if "\ntrain_" in path.read_text()]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_dry_run_writes_what_would_be_done(path, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("LONGREWARD_DEVICE", "cpu")  # what a configuration says goes first; restored in the end
    kind, script = ("dpo", dpo) if "\ntrain_dpo" in path.read_text() else ("sft", sft)
    # The data of a configuration for GPUs are not in the repository, nor what an earlier run has made.
    toy, made = f"{ROOT}/rl/toy/data/train.jsonl", ["openrlhf.actor.model_name_or_path=o/m", "collect={}"]
    chats = [f"data.conversations={ROOT}/rl/toy/data/heldout.jsonl"]
    data = [f"data.train={toy}", "data.heldout=null", *(made if kind == "dpo" else chats)]
    data = data if path.parent.name == "paper" else []
    words = ["--config", str(path), f"run.dir={tmp_path}", "--dry-run", f"train_{kind}.adam.lr=3.0e-6", *data]
    assert script.main(words) == 0, capfd.readouterr().err
    assert "config.yaml and command.txt are written" in capfd.readouterr().out
    folder = tmp_path / f"{path.stem}-dry-run"
    assert [one.name for one in tmp_path.iterdir()] == [folder.name]
    assert {one.name for one in folder.iterdir()} == {"config.yaml", "command.txt"}
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved[f"train_{kind}"]["adam.lr"] == 3e-6
    command = (folder / "command.txt").read_text()
    assert f" --module rl.trainer.learner openrlhf.cli.train_{kind} " in command and " --adam.lr 3e-06 " in command


@pytest.mark.parametrize(("kind", "steps"), [("sft", 1800), ("dpo", 600), ("srm", 600)])
@pytest.mark.parametrize("model", ["llama31_8b", "glm4_9b"])
def test_the_papers_runs_have_its_number_of_steps(model, kind, steps):
    learners = plan_any(load_any(ROOT / "configs" / "paper" / f"{model}_{kind}.yaml", [])).learners
    flags = learners.flags
    assert learners.examples_at_once == 1, "eight GPUs of one ring"
    assert flags.data_max_samples * flags.train_max_epochs / flags.train_batch_size == steps


@pytest.mark.parametrize("model", ["llama31_8b", "glm4_9b"])
def test_the_online_run_has_as_many_answers_judged_as_the_offline_one(model):
    folder = ROOT / "configs" / "paper"
    online, offline = (load_any(folder / f"{model}_{kind}.yaml", []) for kind in ("online", "dpo"))
    flags = [planning.make(one, kind).flags for one, kind in ((online, "online"), (offline, "dpo"))]
    assert [one.rollout_n_samples_per_prompt for one in flags] == [10, 10]
    # 9,900 prompts are in the file; online in whole steps.
    assert flags[0].data_max_samples == 9900 // flags[0].rollout_batch_size * flags[0].rollout_batch_size
    for name in ("judge", "chunking", "retrieval", "weights"):
        assert getattr(online.reward, name) == getattr(offline.reward, name)


@pytest.mark.parametrize("script", ["dpo.py", "sft.py", "evaluate.py"])
def test_help_is_there_at_once(script):
    heavy = ("torch", "ray", "transformers", "vllm", "openrlhf", "deepspeed")
    code = (
        f"import runpy, sys; sys.argv = ['{script}', '--help']\n"
        f"try: runpy.run_path('rl/{script}', run_name='__main__')\n"
        f"except SystemExit: print([m for m in {heavy} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and "--config" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]", "help needs no framework, whose import takes many seconds"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("grpo_cpu", config.RunConfig), ("dpo_cpu", DpoConfig), ("sft_cpu", SftConfig)],
    ids=lambda x: str(x),
)
def test_a_policy_can_be_evaluated_with_any_kind_of_configuration(name, kind):
    assert type(load_any(ROOT / "configs" / f"{name}.yaml", ["run.name=x"])) is kind


def test_scores_of_two_reward_functions_are_not_compared(tmp_path):
    def continued(*overrides):
        before = load(f"run.dir={tmp_path}", "reward.name=reference", "reward.reference.field=context")
        run_directory.check_same_run(before, load(f"run.dir={tmp_path}", *overrides))

    continued("reward.name=reference", "reward.reference.field=context", "reward.python.function=unused.py:f")
    with pytest.raises(ConfigError, match=r"reward.name is 'longreward' and was 'reference'"):
        continued()
    with pytest.raises(ConfigError, match=r"reward.reference is .*'field': 'answers'"):
        continued("reward.name=reference", "reward.reference.field=answers")


ONLINE = ROOT / "configs" / "grpo_cpu.yaml"


def online(folder: Path, *overrides: str) -> config.RunConfig:
    return config.load(ONLINE, [f"run.dir={folder}", *overrides])


PARTS = "reward.composite.parts={longreward: {weight: 2}, reference: {weight: 1, gate: 3}}"


@pytest.mark.parametrize(
    ("then", "now", "sentence"),
    [
        (["name=python", "python.function=a.py:f"], ["python.function=b.py:f"], "reward.python is"),
        (["name=python", "python.function=a.py:f"], ["python.allow=true"], None),
        (["name=reference"], ["reference.match=exact"], "reward.reference is"),
        (["name=reference"], ["reference.field=gold"], "'field': 'gold'"),
        (["name=remote", "remote.url=http://a/x"], ["remote.url=http://b/x"], "reward.remote is"),
        (
            ["name=remote", "remote.url=http://a/x"],
            ["remote.timeout_s=9", "remote.max_in_flight=3", "remote.token_env=T"],
            None,
        ),
        (["name=openrlhf", "openrlhf.model_name_or_path=o/m"], ["openrlhf.max_len=9"], "reward.openrlhf is"),
        (["name=openrlhf", "openrlhf.model_name_or_path=o/m"], ["openrlhf.gpus=1", "openrlhf.batch_size=2"], None),
        (["name=longreward"], ["weights={helpfulness: 1}"], "reward.weights is"),
        (["name=longreward"], ["gates={faithfulness: 5}"], "reward.gates is"),
        (["name=longreward", "copying.loss=0"], ["copying.loss=0.8"], "reward.copying is"),
        (["name=longreward", "copying.loss=0"], ["copying.row=8"], None),
        (["name=longreward"], ["helpfulness.way=ranking"], "way is 'ranking' and was 'rating'"),
        (["name=longreward"], ["truncated_loss=0.2"], "reward.truncated_loss is 0.2 and was 0.0"),
        (["name=longreward"], ["reference.field=gold", "python.function=a.py:f", "options={a: 1}"], None),
        (["name=of_a_package", "options={a: 1}"], ["options={a: 2}"], "reward.options is {'a': 2} and was {'a': 1}"),
        (["name=reference"], ["name=of_a_package"], "reward.name is 'of_a_package' and was 'reference'"),
    ],
)
def test_an_online_run_does_not_go_on_with_another_reward(tmp_path, then, now, sentence):
    before = online(tmp_path, *(f"reward.{word}" for word in then))
    after = online(tmp_path, *(f"reward.{word}" for word in [*then, *now]))
    run_directory.check_same_run(before, online(tmp_path, *(f"reward.{word}" for word in then)))
    if sentence is None:
        run_directory.check_same_run(before, after)
    else:
        with pytest.raises(ConfigError, match=re.escape(sentence)):
            run_directory.check_same_run(before, after)


@pytest.mark.parametrize(
    ("old", "new"), [("weight: 2", "weight: 3"), ("gate: 3", "gate: 4"), ("reference", "python"), (", gate: 3", "")]
)
def test_nor_with_other_parts_weights_or_gates(tmp_path, old, new):
    before = online(tmp_path, "reward.name=composite", PARTS)
    run_directory.check_same_run(before, online(tmp_path, "reward.name=composite", PARTS))
    with pytest.raises(ConfigError, match=r"reward\.(composite|weights|python)"):
        run_directory.check_same_run(before, online(tmp_path, "reward.name=composite", PARTS.replace(old, new)))


def test_references_that_were_not_prepared_are_not_there_later(tmp_path):
    found = [online(tmp_path, f"reward.name={name}").scored_by() for name in ("longreward", "reference")]
    assert [one["reward.reference.field"] for one in found] == ["", "reference"]


def test_a_run_of_before_there_were_these_sections_goes_on(tmp_path):
    made = online(tmp_path)
    dumped = made.model_dump(mode="json")
    for name in ("reference", "remote", "python", "openrlhf", "composite", "options", "gates"):
        del dumped["reward"][name]
    made.directory.mkdir(parents=True)
    (made.directory / "config.yaml").write_text(yaml.safe_dump(dumped))
    before = run_directory.earlier(made)
    assert before is not None
    run_directory.check_same_run(before, made)


def test_the_supervised_start_does_not_ask_what_scores(tmp_path):
    before, now = (config.load_as(SftConfig, SFT, [f"run.dir={tmp_path}", *more]) for more in ([], ["reward.name=x"]))
    run_directory.check_same_run(before, now)


def test_a_judge_is_needed_where_something_asks_it(tmp_path):
    assert online(tmp_path).needs_judge and online(tmp_path, "reward.name=composite", PARTS).needs_judge
    assert not online(tmp_path, "reward.name=reference").needs_judge
    for name in ("longbench", "longbench_chat", "short"):
        assert online(tmp_path, "reward.name=reference", f"evaluation.{name}=x.json").needs_judge
    assert not load("reward.name=reference", "short.heldout=null").needs_judge
    assert load("reward.name=reference", "short.heldout=x.jsonl").needs_judge


def test_pairs_by_dimension_need_weights():
    with pytest.raises(ConfigError, match=r"the reward reference has no dimensions with weights; set pair\.weights"):
        load("pair.by=per_dimension", "reward.name=reference")
    assert load("pair.by=per_dimension").pair.by == "per_dimension"
    assert load("pair.by=per_dimension", "reward.name=reference", "pair.weights={faithfulness: 1}").pair.weights
