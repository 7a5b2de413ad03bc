"""OpenRLHF's train_dpo and train_sft, as installed: their flags from a configuration, their processes by DeepSpeed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from longreward import jsonlines
from longreward.errors import ConfigError
from longreward.text.amounts import clock
from rl.config import RunConfig
from rl.errors import PartDiedError, StalledError
from rl.offline.config import FinetuneConfig
from rl.run import preflight, run_directory
from rl.run.openrlhf_command import directories_and_tracking
from rl.run.session import Session
from rl.trainer import checkpoints, cpu_backend, openrlhf_flags
from rl.trainer.learner import DRIVER
from rl.trainer.openrlhf_flags import LearnerFlags

_TELL_S = 5  # seconds between two lines of progress
_STEP = re.compile(r"Train step of epoch (\d+):[^|]*\|[^|]*\| *(\d+)/(\d+) \[[^\]=]*?((?:, \w+=[-+.\w]+)*)\]")


@dataclass(frozen=True)
class Program:
    """One of OpenRLHF's programs that are no Ray jobs."""

    module: str
    section: str
    """Where the configuration has its flags."""
    defaults: Mapping[str, Any]
    """Where ours is another than OpenRLHF's."""
    owned: Mapping[str, str]
    """Flags that the run sets itself, and what to set instead."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What they are set to whatever the run."""


DPO = Program(
    module="openrlhf.cli.train_dpo",
    section="train_dpo",
    # The paper's (section 4.1); a checkpoint now and then, OpenRLHF's own is never.
    defaults={
        "model.beta": 0.15,
        "model.nll_loss_coef": 0.1,
        "adam.lr": 1e-6,
        "train.batch_size": 16,
        "train.micro_batch_size": 1,
        "ckpt.save_steps": 50,
    },
    owned=openrlhf_flags.OWNED_BY_EVERY_RUN
    | {
        "model.model_name_or_path": "set openrlhf.actor.model_name_or_path",
        "data.dataset": "the pairs are made from data.train",
        "data.prompt_key": "the pairs are made from data.train",
        "data.chosen_key": "the pairs are made from data.train",
        "data.rejected_key": "the pairs are made from data.train",
        "data.max_len": "set openrlhf.data.max_len",
    },
    fixed={"data.prompt_key": "prompt", "data.chosen_key": "chosen", "data.rejected_key": "rejected"},
)
SFT = Program(
    module="openrlhf.cli.train_sft",
    section="train_sft",
    defaults={"adam.lr": 1e-5, "train.batch_size": 8, "train.micro_batch_size": 1, "ckpt.save_steps": 50},
    owned=openrlhf_flags.OWNED_BY_EVERY_RUN
    | {
        "model.model_name_or_path": "set openrlhf.actor.model_name_or_path",
        "data.max_len": "set openrlhf.data.max_len",
        "data.dataset": "set data.train",
        "data.input_key": "prompts are prepared from data.train",
        "data.output_key": "prompts are prepared from data.train",
    },
    # An empty template: the prompt as it is.
    fixed={"data.input_key": "prompt", "data.output_key": "answer", "data.input_template": ""},
)


def argv(program: Program, config: FinetuneConfig, device: str) -> tuple[list[str], LearnerFlags, dict[str, Any]]:
    """The program's argument list, with what `openrlhf_flags.parse_learner` reads off it.

    ConfigError for an unknown flag, one that the run owns, or a value that OpenRLHF's parser does not take.
    """
    flags = getattr(config, program.section)
    for flag in flags:
        if flag in program.owned:
            raise ConfigError(f"{program.section}.{flag} is set by the run itself: {program.owned[flag]}")
    _, policy = preflight.flags(config, device)
    machine = {"ds.attn_implementation": "sdpa"} if device == "cpu" else {}
    owned = {
        "model.model_name_or_path": policy.policy,
        "data.dataset": config.examples,
        "data.max_len": policy.data_max_len,  # examples are made to fit it; train_dpo's own default is another
        **directories_and_tracking(config),
    }
    words = openrlhf_flags.to_argv(
        {**program.defaults, **machine, **flags, **program.fixed, **owned}, program.module, program.section
    )
    found, deciding = openrlhf_flags.parse_learner(words, program.module, program.section, device)
    steps = {"ckpt.save_steps": found.ckpt_save_steps, "logger.logging_steps": found.logger_logging_steps}
    for name, every in steps.items():
        if every == 0:
            raise ConfigError(f"{program.section}.{name} is 0, and OpenRLHF divides by it; set -1 for never")
    if found.ds_ring_attn_size > 1 and not found.ds_packing_samples:
        raise ConfigError(f"{program.section}.ds.ring_attn_size needs {program.section}.ds.packing_samples=true")
    return words, found, deciding


def processes(config_processes: int | None, device: str) -> int:
    """Learners on this machine."""
    if config_processes is not None or device == "cpu":
        return config_processes or 1
    import torch

    return torch.cuda.device_count()


def command(program: Program, words: list[str], count: int) -> list[str]:
    """What starts `count` learners on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # With --num_gpus DeepSpeed takes the first GPUs of the machine, whichever are visible.
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    which = f"--include=localhost:{','.join(visible[:count])}" if len(visible) >= count else f"--num_gpus={count}"
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", which, f"--master_port={port}"]
    return [*launcher, "--no_local_rank", "--module", "rl.trainer.learner", program.module, *words]


def train(run: Session, program: Program, config: FinetuneConfig) -> None:
    """Train on `config.examples` to the end, from the last complete checkpoint if it is of the same data and flags and
    `resume` is set.

    ConfigError for data that do not fill a batch or a batch that cannot be divided among the learners.
    """
    device, data = os.environ[cpu_backend.DEVICE_VARIABLE], config.examples
    words, flags, deciding = argv(program, config, device)
    learners = processes(config.processes, device)
    rows, batch = min(_rows(data), flags.data_max_samples), flags.train_batch_size
    if rows < batch:
        raise ConfigError(
            f"{data} has {rows} examples to train on, less than {program.section}.train.batch_size={batch}; lower it, "
            "or add some"
        )
    if not learners:
        raise ConfigError("no GPU is visible here, and the learners run on the machine that this is started on")
    together = flags.ds_ring_attn_size * flags.ds_tensor_parallel_size
    if learners % together:
        raise ConfigError(
            f"{learners} learners cannot be divided into groups of {together} ({program.section}.ds.ring_attn_size x "
            "ds.tensor_parallel_size); set processes to a multiple of it"
        )
    at_once = flags.train_micro_batch_size * (learners // together)
    if batch % at_once:
        of = f", {together} of which work on one example" if together > 1 else ""
        raise ConfigError(
            f"{program.section}.train.batch_size={batch} is no multiple of train.micro_batch_size="
            f"{flags.train_micro_batch_size} x {learners} learners{of}, so DeepSpeed would refuse it"
        )
    this = {"data": digest(data), "flags": json.loads(json.dumps(deciding, default=str)), "learners": learners}
    done, begun = _done(config), config.checkpoints / "begun.json"
    # Its windows of gradient accumulation go on from one epoch to the next.
    steps = flags.train_max_epochs * (rows // at_once) // (batch // at_once)
    if config.resume and (_read(done) or {}).get("of") == this and (config.directory / "model/config.json").is_file():
        run.say("the model is trained already, with these settings on these data")
        return
    step = 0
    if config.resume and _read(begun) == this:
        step = checkpoints.prepare_resume(config.checkpoints)
    elif config.checkpoints.is_dir():
        aside = run_directory.move_aside(config.checkpoints)
        run.say(f"training begins at the start: the checkpoints in {aside} are of other data or settings")
    done.unlink(missing_ok=True)
    config.checkpoints.mkdir(parents=True, exist_ok=True)
    jsonlines.write_json(begun, this)
    command_line = command(program, words + ["--ckpt.load_enable"] * bool(step), learners)
    run_directory.write_command(config, command_line)
    at = f", from the checkpoint of step {step}" if step else ""
    run.say(f"training: {rows} examples, {steps} steps of {batch}, {learners} learner{'s' * (learners > 1)}{at}")
    last, latest = 0.0, "the learners start"

    def tell(line: str) -> None:
        nonlocal last, latest
        latest = line
        if time.monotonic() - last > _TELL_S and not run.screen.is_live:
            last = time.monotonic()
            run.console.print(line, highlight=False, soft_wrap=True)

    begun_at = time.monotonic()
    with run.screen.showing(lambda: Text(f"{latest}  {clock(time.monotonic() - begun_at)}")):
        start(command_line, config.log, tell, config.run.stall_s)
    if flags.ds_lora_rank:
        _merge(config, flags.model_model_name_or_path, flags.ds_param_dtype)
    jsonlines.write_json(done, {"of": this, "steps": steps})
    run.say(f"trained in {time.monotonic() - begun_at:.0f} s; the model is in {config.directory / 'model'}")


def steps_done(config: RunConfig) -> int:
    """Steps of the model that is trained to the end; 0 where it is not. With W&B on, OpenRLHF's programs write no
    TensorBoard files where they could be counted."""
    state = _read(_done(config))
    return int(state["steps"]) if state else 0


def begun_and_done(config: FinetuneConfig) -> tuple[bool, bool]:
    """Whether training on the very examples that are there has begun, and whether it is done."""
    data = config.examples
    if not data.is_file():
        return False, False
    now = digest(data)
    begun = (_read(config.checkpoints / "begun.json") or {}).get("data") == now
    done = ((_read(_done(config)) or {}).get("of") or {}).get("data") == now
    return begun or done, done and (config.directory / "model" / "config.json").is_file()


def _merge(config: RunConfig, base: str, dtype: str) -> None:
    """OpenRLHF saves a LoRA adapter alone; vLLM, and the next stage, need the whole model."""
    model, adapter = config.directory / "model", config.directory / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    model.rename(adapter)
    words = ["--model_path", base, "--lora_path", str(adapter), "--output_path", str(model)]
    words = ["openrlhf.cli.lora_combiner", *words, "--ds.param_dtype", dtype]
    start([sys.executable, "-m", "rl.trainer.learner", *words], config.log, lambda line: None, config.run.stall_s)


def _done(config: RunConfig) -> Path:
    return config.directory / "trained.json"


def _rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def start(words: list[str], log: Path, on_step: Callable[[str], None], stall_s: float) -> None:
    """Run a command of `command` to its end, its output in `log`. PartDiedError where it fails, StalledError where it
    says nothing for `stall_s`.

    `on_step` gets a line for each step. Whatever ends this process ends the learners.
    """
    environment = os.environ | {DRIVER: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is ours to pass on: DeepSpeed's launcher leaves learners behind
    )
    try:
        assert process.stdout is not None
        with process.stdout, log.open("ab") as file:
            told = ""
            for line in _lines(process.stdout.fileno(), stall_s):
                file.write(line + b"\n")
                file.flush()
                if (step := step_line(line.decode(errors="replace"))) and step != told:
                    told = step
                    on_step(step)
        if process.wait():
            raise PartDiedError(f"a learner failed (exit code {process.returncode}); its last words are in {log}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def step_line(text: str) -> str | None:
    """A step of OpenRLHF's progress bar in short; None for any other line."""
    match = _STEP.search(text)
    if match is None:
        return None
    epoch, step, steps, figures = match.groups()
    values = dict(pair.split("=") for pair in figures.removeprefix(", ").split(", ") if pair)
    shown = [f"{name} {float(values[key]):.3f}" for key, name in _SHOWN.items() if key in values]
    return "  ".join([f"epoch {int(epoch) + 1}  micro-batch {step}/{steps}", *shown])


_SHOWN = {"loss": "loss", "gpt_loss": "loss", "acc": "accuracy", "nll_loss": "winner's loss"}


def _lines(descriptor: int, stall_s: float) -> Iterator[bytes]:
    """Lines of a pipe; a progress bar's carriage returns end them too."""
    rest = b""
    while True:
        if not select.select([descriptor], [], [], stall_s)[0]:
            raise StalledError(
                f"the learners have said nothing for {stall_s:.0f} s (run.stall_s); see the log for what they said "
                "last, then continue with resume=true"
            )
        if not (chunk := os.read(descriptor, 1 << 16)):
            break
        *lines, rest = re.split(rb"[\r\n]", rest + chunk)
        yield from (line for line in lines if line.strip())
    if rest.strip():
        yield rest
