"""OpenRLHF's train_dpo and train_sft: their flags, what is refused before they start, their progress and their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console

from longreward.config_file import apply_overrides
from longreward.errors import ConfigError
from rl.config import flatten, load_as
from rl.errors import PartDiedError, StalledError
from rl.monitor.live_view import Screen
from rl.offline import finetune
from rl.offline.config import DpoConfig, SftConfig
from rl.offline.planning import plan_dpo, plan_sft
from rl.plan import RunPlan
from rl.run import planning
from rl.trainer import learner_process, openrlhf_flags, openrlhf_parser
from rl.trainer.learner_programs import DPO, SFT, Learners, Program

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"


def dpo_words(*overrides: str, device: str = "cpu", file: Path = CONFIGS / "dpo_cpu.yaml") -> list[str]:
    return learners(plan_dpo(load_as(DpoConfig, file, [f"run.device={device}", *overrides]))).argv


def sft_words(*overrides: str, device: str = "cpu", file: Path = CONFIGS / "sft_cpu.yaml") -> list[str]:
    return learners(plan_sft(load_as(SftConfig, file, [f"run.device={device}", *overrides]))).argv


def learners(plan: RunPlan[Any]) -> Learners:
    assert plan.learners is not None
    return plan.learners


def parsed(program: Program, words: list[str]) -> dict[str, Any]:
    return vars(openrlhf_parser.parser(program.module).parse_args(words))


def without(name: str, section: str, folder: Path) -> Path:
    """A shipped configuration without its section for the trainer."""
    content = yaml.safe_load((CONFIGS / name).read_text())
    del content[section]
    path = folder / name
    path.write_text(yaml.safe_dump(content))
    return path


def test_dpo_has_the_papers_settings_where_the_configuration_has_none(tmp_path: Path) -> None:
    flags = parsed(DPO, dpo_words(file=without("dpo_cpu.yaml", "train_dpo", tmp_path)))
    assert (flags["model.beta"], flags["model.nll_loss_coef"], flags["adam.lr"]) == (0.15, 0.1, 1e-6)
    assert flags["train.batch_size"] == 16
    assert flags["ckpt.save_steps"] > 0
    assert flags["ds.attn_implementation"] == "sdpa"


def test_sft_has_the_papers_settings_where_the_configuration_has_none(tmp_path: Path) -> None:
    flags = parsed(SFT, sft_words(file=without("sft_cpu.yaml", "train_sft", tmp_path)))
    assert (flags["adam.lr"], flags["train.batch_size"]) == (1e-5, 8)
    assert flags["ckpt.save_steps"] > 0


def test_dpo_reads_the_runs_pairs_as_they_are() -> None:
    flags = parsed(DPO, dpo_words("run.dir=/somewhere"))
    folder = "/somewhere/dpo_cpu"
    assert flags["data.dataset"] == f"{folder}/pairs/train.jsonl"
    assert [flags[f"data.{name}_key"] for name in ("prompt", "chosen", "rejected")] == ["prompt", "chosen", "rejected"]
    assert (flags["data.apply_chat_template"], flags["data.input_template"]) == (False, None)
    assert (flags["ckpt.path"], flags["ckpt.output_dir"]) == (f"{folder}/checkpoints", f"{folder}/model")
    assert flags["model.model_name_or_path"] == str(ROOT / "rl" / "toy" / "policy")
    assert (flags["adam.lr"], flags["train.max_epochs"]) == (1e-4, 2)  # the file's


def test_sft_reads_the_runs_examples_as_they_are() -> None:
    flags = parsed(SFT, sft_words("run.dir=/somewhere"))
    assert (flags["data.input_key"], flags["data.output_key"], flags["data.multiturn"]) == ("pieces", None, True)
    assert flags["data.dataset"] == "/somewhere/sft_cpu/data/sft.jsonl"


@pytest.mark.parametrize("program", [DPO, SFT])
def test_the_trainers_length_is_the_one_that_examples_are_made_to_fit(program: Program) -> None:
    words = dpo_words if program is DPO else sft_words
    assert parsed(program, words("openrlhf.data.max_len=700"))["data.max_len"] == 700
    # train_dpo's own default is a quarter of this: it would drop most pairs without a word.
    assert parsed(program, words("openrlhf.data.max_len=null"))["data.max_len"] == 2048


@pytest.mark.parametrize("program", [DPO, SFT])
def test_every_flag_that_the_run_owns_exists_and_is_refused(program: Program) -> None:
    known = {
        option[2:] for action in openrlhf_parser.parser(program.module)._actions for option in action.option_strings
    }
    assert {*program.owned, *program.defaults, *program.fixed} <= known
    words = dpo_words if program is DPO else sft_words
    for flag, instead in program.owned.items():
        with pytest.raises(ConfigError) as caught:
            words(f"{program.section}.{flag}=x")
        assert str(caught.value) == f"{program.section}.{flag} is set by the run itself: {instead}"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train_dpo.model.beat=1", "train_dpo.model.beat is not a flag of OpenRLHF; did you mean 'model.beta'?"),
        ("train_dpo.nonsense=1", "train_dpo.nonsense is not a flag of OpenRLHF; see `python -m openrlhf.cli.train_dpo"),
        ("train_dpo.model.beta=much", "invalid float value: 'much'; see `python -m openrlhf.cli.train_dpo --help`"),
        ("train_dpo.model.ipo_enable=1", "train_dpo.model.ipo_enable is a switch: true or false, got 1"),
        ("train_dpo.ckpt.output_dir=/x", "set run.dir"),
        ("train_dpo.data.max_len=1000", "set openrlhf.data.max_len"),
        ("train_dpo.model.model_name_or_path=x", "set openrlhf.actor.model_name_or_path"),
        ("train_dpo.logger.wandb.key=x", "export WANDB_API_KEY and set wandb.mode"),
        ("train_dpo.ds.packing_samples=true", "does not run without a GPU (unpadding is a flash attention kernel)"),
        ("train_dpo.ds.ring_attn_size=2", "does not run without a GPU (it is built on flash attention"),
        ("train_dpo.ds.adam_offload=true", "leave it out, or set run.device=gpu"),
        ("openrlhf.actor.model_name_or_path=null", "openrlhf.actor.model_name_or_path is not set"),
    ],
)
def test_a_mistake_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dpo_words(override)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_what_a_cpu_cannot_do_is_off_or_left_to_gpus() -> None:
    off = ("train_dpo.ds.packing_samples=false", "train_dpo.ds.ring_attn_size=1")
    assert "--ds.packing_samples" not in dpo_words(*off)
    on = dpo_words("train_dpo.ds.packing_samples=true", "train_dpo.ds.ring_attn_size=8", device="gpu")
    flags = parsed(DPO, on)
    assert flags["ds.packing_samples"] and flags["ds.ring_attn_size"] == 8
    assert flags["ds.attn_implementation"] == "flash_attention_2"


def test_ipo_cdpo_and_lora_are_flags_away() -> None:
    words = dpo_words(
        "train_dpo.model.ipo_enable=true", "train_dpo.model.label_smoothing=0.1", "train_dpo.ds.lora.rank=16"
    )
    flags = parsed(DPO, words)
    assert (flags["model.ipo_enable"], flags["model.label_smoothing"], flags["ds.lora.rank"]) == (True, 0.1, 16)


def test_wandb_gets_the_runs_name_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    on = ["wandb.mode=offline", "wandb.project=p", "wandb.entity=me", "wandb.group=g", "run.name=mine"]
    for program, words in ((DPO, dpo_words(*on)), (SFT, sft_words(*on))):
        flags = parsed(program, words)
        assert flags["logger.wandb.key"] == openrlhf_flags.WANDB_KEY_PLACEHOLDER
        assert [flags[f"logger.wandb.{name}"] for name in ("project", "org", "group", "run_name")] == [
            *["p", "me", "g", "mine"]
        ]
        assert "very-secret" not in " ".join(words)
    assert "--logger.wandb.key" not in dpo_words()


def test_the_command_starts_so_many_learners_of_ours() -> None:
    words = learner_process.command(DPO.module, ["--model.beta", "0.2"], 4)
    assert words[:3] == [sys.executable, "-m", "deepspeed.launcher.runner"]
    assert "--num_gpus=4" in words
    assert words[-4:] == ["rl.trainer.learner", "openrlhf.cli.train_dpo", "--model.beta", "0.2"]


SFT_LINE = (
    "Train step of epoch 0:   3%|▎         | 2/64 [00:28<07:44,  7.50s/it, gpt_loss=0.0646, lr=1e-5, grad_norm=0.975]"
)
DPO_LINE = (
    "Train step of epoch 1:  50%|█████     | 1/2 [00:04<00:04,  4.84s/it, loss=0.694, acc=0.5, "
    "chosen_reward=-0.000715, reject_reward=0, lr=0.0001, grad_norm=4.07, nll_loss=0.0501]"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SFT_LINE, "epoch 1  micro-batch 2/64  loss 0.065"),
        (SFT_LINE + "\x1b[A", "epoch 1  micro-batch 2/64  loss 0.065"),
        (DPO_LINE, "epoch 2  micro-batch 1/2  loss 0.694  accuracy 0.500  winner's loss 0.050"),
        (DPO_LINE.replace("0.694", "nan"), "epoch 2  micro-batch 1/2  loss nan  accuracy 0.500  winner's loss 0.050"),
        (
            DPO_LINE.replace("0.694", "1.2e+03"),
            "epoch 2  micro-batch 1/2  loss 1200.000  accuracy 0.500  winner's loss",
        ),
        ("Train step of epoch 0:   0%|          | 0/64 [00:00<?, ?it/s]", "epoch 1  micro-batch 0/64"),
        ("Train epoch:   0%|          | 0/2 [00:00<?, ?it/s]", None),
        ("Train step of epoch 0: soon", None),
        ("", None),
    ],
)
def test_a_step_is_a_short_line(text: str, shown: str | None) -> None:
    found = learner_process.step_line(text)
    assert found is None if shown is None else (found or "").startswith(shown)


class Run:
    """A run's directory; what would start is noted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
        self.config = load_as(DpoConfig, CONFIGS / "dpo_cpu.yaml", [f"run.dir={folder}", *overrides])
        self.console = Console(quiet=True)
        self.screen = Screen(self.console)
        monkeypatch.setattr(self.screen, "say", lambda text: self.said.append(text))
        self.said: list[str] = []
        self.started: list[list[str]] = []
        monkeypatch.setattr(learner_process, "start", self._started)
        self.pairs = self.config.examples
        self.monkeypatch = monkeypatch
        self.pairs.parent.mkdir(parents=True)
        self.write(40)

    def write(self, count: int) -> None:
        self.pairs.write_text("".join(json.dumps({"prompt": str(n)}) + "\n" for n in range(count)))

    def _started(self, words: list[str], *_: object) -> None:
        self.started.append(words)
        model = self.config.directory / "model"
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text("{}")

    def train(self, *overrides: str, learners: int = 1, device: str = "cpu", resume: bool = False) -> None:
        config = self.config.model_copy(update={"processes": learners or None})
        config.train_dpo = config.train_dpo | flatten(apply_overrides({}, list(overrides)))
        config.run = config.run.model_copy(update={"device": device})
        plan = plan_dpo(config, resume=resume)
        planning.refuse(plan.findings)
        finetune.train(plan, self.screen)

    def checkpoint(self, step: int) -> None:
        folder = self.config.checkpoints / f"global_step{step}"
        folder.mkdir(parents=True)
        (folder / "metric.json").write_text("{}")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch)


def test_too_few_examples_for_a_batch_are_told_before_anything_starts(run: Run) -> None:
    run.write(15)
    with pytest.raises(ConfigError, match=r"has 15 examples .*less than train_dpo.train.batch_size=16; lower it, or"):
        run.train()
    run.write(40)
    with pytest.raises(ConfigError, match="has 8 examples"):
        run.train("data.max_samples=8")
    assert run.started == []


@pytest.mark.parametrize(
    ("overrides", "learners", "sentence"),
    [
        (
            ["train.micro_batch_size=6"],
            1,
            r"batch_size=16 is not a multiple of train.micro_batch_size=6 x 1 learners, so",
        ),
        ([], 2, r"is not a multiple of train.micro_batch_size=16 x 2 learners"),
        (["train.micro_batch_size=1"], 3, r"micro_batch_size=1 x 3 learners"),
        (
            ["ds.ring_attn_size=8", "ds.packing_samples=true"],
            4,
            r"4 learners cannot be divided into groups of 8 \(train_dpo.ds.ring_attn_size x",
        ),
        ([], 0, r"no GPU is visible here"),
    ],
)
def test_what_cannot_be_divided_is_told_before_anything_starts(
    run: Run, monkeypatch: pytest.MonkeyPatch, overrides: list[str], learners: int, sentence: str
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match=sentence):
        run.train(*overrides, learners=learners, device="gpu")
    assert run.started == []


def test_learners_of_one_ring_share_an_example(run: Run) -> None:
    ring = ["ds.ring_attn_size=8", "ds.packing_samples=true"]
    run.train("train.batch_size=2", "train.micro_batch_size=1", *ring, learners=8, device="gpu")
    assert len(run.started) == 1
    # 40 pairs, 2 epochs
    assert "training: 40 examples, 40 steps of 2, 8 learners" in run.said


def test_what_was_trained_is_not_trained_again_unless_data_or_settings_differ(run: Run) -> None:
    assert finetune.steps_done(run.config) == 0
    run.train()
    assert finetune.steps_done(run.config) == 4  # two whole batches of 16 in each of two epochs
    run.train(resume=True)
    assert len(run.started) == 1 and "the model is trained already" in run.said[-1]
    run.train("model.beta=0.3", resume=True)
    run.write(48)
    run.train("model.beta=0.3", resume=True)
    assert len(run.started) == 3


def test_a_continued_run_begins_at_its_last_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(learner_process, "start", killed)
        run.train()
    run.checkpoint(2)
    run.train(resume=True)
    assert run.started[-1][-1] == "--ckpt.load_enable"
    assert "from the checkpoint of step 2" in run.said[-2]
    assert "--ckpt.load_enable" in (run.config.directory / "command.txt").read_text()


def test_checkpoints_of_other_pairs_are_not_continued_from(run: Run) -> None:
    run.train()
    run.checkpoint(2)
    run.write(48)
    run.train(resume=True)
    assert "--ckpt.load_enable" not in run.started[-1]
    assert any("training begins at the start: the checkpoints in " in line for line in run.said)
    assert not (run.config.checkpoints / "global_step2").exists()


def test_flags_that_change_no_weight_do_not_cost_the_checkpoints(run: Run) -> None:
    run.train()
    run.train("logger.logging_steps=5", "ckpt.save_steps=7", resume=True)
    assert len(run.started) == 1


def test_only_visible_gpus_are_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    run.train("train.micro_batch_size=8", learners=2, device="gpu")
    assert "--include=localhost:4,5" in run.started[-1] and "--num_gpus=2" not in run.started[-1]


def test_a_program_that_says_nothing_is_ended(tmp_path: Path) -> None:
    with pytest.raises(StalledError, match=r"said nothing for 1 s \(run.stall_s\)"):
        learner_process.start([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", print, 0.6)


def test_a_failed_program_says_where_its_words_are(tmp_path: Path) -> None:
    log, steps = tmp_path / "train.log", list[str]()
    lines = [SFT_LINE, SFT_LINE, "Traceback: no memory"]
    code = f"import sys; print({chr(13).join(lines)!r}, flush=True); sys.exit(3)"
    with pytest.raises(PartDiedError, match=r"exit code 3\); its last words are in .*train.log"):
        learner_process.start([sys.executable, "-c", code], log, steps.append, 60)
    assert steps == ["epoch 1  micro-batch 2/64  loss 0.065"]
    assert log.read_text().splitlines() == lines


def test_an_interrupt_ends_the_whole_program(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    # A launcher that leaves its learner behind when it is stopped.
    code = f"""
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))
print({SFT_LINE!r}, flush=True)
child.wait()
"""

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learner_process.start([sys.executable, "-c", code], tmp_path / "log", interrupt, 60)
    assert gone(int(pid_file.read_text()), 5)


def test_a_learner_ends_when_its_driver_is_killed() -> None:
    learner = (
        "import os, time; from rl.trainer import cpu_backend; cpu_backend.end_with(os.getppid()); print(1, flush=True)"
    )
    driver = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {learner + "; time.sleep(100)"!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(100)
"""
    process = subprocess.Popen([sys.executable, "-c", driver], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        pid = int(process.stdout.readline())
        assert not gone(pid, 0.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert gone(pid, 5)


def test_a_learner_whose_driver_is_gone_already_does_not_begin() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    words = [sys.executable, "-m", "rl.trainer.learner", "openrlhf.cli.train_dpo"]
    environment = os.environ | {"LONGREWARD_DRIVER": str(ended.pid), "LONGREWARD_DEVICE": "cpu"}
    result = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "")


def test_learners_are_one_for_each_gpu_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(device_count=lambda: 8)))
    assert learner_process.count_learners(None, "gpu") == 8
    assert learner_process.count_learners(2, "gpu") == learner_process.count_learners(2, "cpu") == 2
    assert learner_process.count_learners(None, "cpu") == 1


def gone(pid: int, seconds: float) -> bool:
    """Whether a process ends within so many seconds; one that waits to be collected has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False
