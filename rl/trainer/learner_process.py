"""The processes of train_dpo and train_sft: DeepSpeed's launcher, watched line by line, ended with the run."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rl.errors import PartDiedError, StalledError
from rl.trainer.learner import DRIVER

_STEP = re.compile(r"Train step of epoch (\d+):[^|]*\|[^|]*\| *(\d+)/(\d+) \[[^\]=]*?((?:, \w+=[-+.\w]+)*)\]")


def count_learners(wanted: int | None, device: str) -> int:
    """Learners on this machine: as many as are wanted, else one for each GPU, or one where the device is a CPU."""
    if wanted is not None or device == "cpu":
        return wanted or 1
    import torch

    return torch.cuda.device_count()


def command(module: str, argv: list[str], count: int) -> list[str]:
    """What starts `count` learners on this machine, each running OpenRLHF's program `module`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # With --num_gpus DeepSpeed takes the first GPUs of the machine, whichever are visible.
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    which = f"--include=localhost:{','.join(visible[:count])}" if len(visible) >= count else f"--num_gpus={count}"
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", which, f"--master_port={port}"]
    return [*launcher, "--no_local_rank", "--module", "rl.trainer.learner", module, *argv]


def start(words: list[str], log: Path, on_step: Callable[[str], None], stall_s: float) -> None:
    """Run a command to its end, its output in `log`. PartDiedError where it fails, StalledError where it
    says nothing for `stall_s`.

    `on_step` gets a line for each step. The learners end with this process, however it ends.
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
