"""A run's directory: what is written there at the start, while it trains, and at the end."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich.console import Console

from longreward import config_file
from longreward.errors import ConfigError
from longreward.files import jsonlines
from rl.config import RunConfig

C = TypeVar("C", bound=RunConfig)
_LAST_WORDS_S = 2  # seconds for what was printed last to reach the screen


def move_aside(directory: Path) -> Path:
    """Give a folder the time of its last change as a part of its name. Returns where it is now."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(directory.stat().st_mtime))
    aside = directory.with_name(f"{directory.name}.{stamp}")
    for number in itertools.count(2):
        if not aside.exists():
            break
        aside = directory.with_name(f"{directory.name}.{stamp}-{number}")
    return directory.rename(aside)


def earlier(config: C) -> C | None:
    """The configuration with which the run of this name was last started; None where there is no such run."""
    path = config.directory / "config.yaml"
    return config_file.validate(type(config), config_file.load_yaml(path), str(path)) if path.is_file() else None


def check_same_run(before: RunConfig, config: RunConfig, *, evaluates: bool = False) -> None:
    """ConfigError where `resume` would continue a run with settings that its checkpoint or its data do not fit; one
    that `evaluates` policies, with settings that its answers and verdicts do not fit."""
    pairs: dict[str, tuple[Any, Any]] = {}
    if not evaluates:
        flags = {
            f"openrlhf.{flag}": (before.openrlhf.get(flag), config.openrlhf.get(flag)) for flag in config.must_stay
        }
        pairs = flags | {"data.train": (str(before.data.train.absolute()), str(config.data.train.absolute()))}
    then, now = (one.evaluated_by if evaluates else one.scored_by() for one in (before, config))
    # What was left out before is not there yet, and what is left out now is not needed.
    pairs |= {name: (old, now[name]) for name, old in then.items() if old is not None and now.get(name) is not None}
    for name, (old, new) in pairs.items():
        if old != new:
            raise ConfigError(
                f"resume=true: {name} is {new!r} and was {old!r} when {config.directory} began, and what is "
                "there does not fit that; set it back, or begin another run (run.name)"
            )


def make_folder(directory: Path) -> None:
    """ConfigError where it cannot be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made ({error.strerror}); set run.dir to a folder of yours") from None


def write_config(directory: Path, config: RunConfig) -> None:
    """`config.yaml`: the configuration with everything resolved. The directory is made where it is not there."""
    make_folder(directory)
    resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    jsonlines.write_text(directory / "config.yaml", resolved)


def write_command(directory: Path, words: list[str]) -> None:
    """`command.txt`: what OpenRLHF is started with."""
    jsonlines.write_text(directory / "command.txt", shlex.join(words) + "\n")


@contextmanager
def logs_to(path: Path, *, verbose: bool) -> Iterator[Console]:
    """Send all that engines, learners, this process and its children print to `path`; to the screen too if `verbose`.

    Yields the console for what a person is to see.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(jsonlines.PRIVATE)
    sys.stdout.flush()
    sys.stderr.flush()
    # The descriptors, not sys.stdout: compilers and other children of this process write past Python.
    screen = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    errors = os.dup(2)
    tee = None
    if verbose:
        # In a session of its own: Ctrl-C must not end it before the last words are written.
        words = ["tee", "-a", str(path)]
        tee = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=errors, start_new_session=True)
    log = tee.stdin if tee and tee.stdin else path.open("ab")
    try:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        yield Console(file=screen)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(screen.fileno(), 1)
        os.dup2(errors, 2)
        log.close()
        if tee:
            try:
                tee.wait(_LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                # A helper process of Python's that lives as long as this one may hold the pipe: tee has had its time.
                tee.terminate()
                tee.wait()
        os.close(errors)
        screen.close()


def steps_done(config: RunConfig) -> int:
    """Training steps in the run's TensorBoard files, OpenRLHF's own record."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = config.directory / "tensorboard" / config.run.name
    if not folder.is_dir():
        return 0
    events = EventAccumulator(str(folder), size_guidance={"scalars": 1})
    events.Reload()
    return max(
        (events.Scalars(tag)[-1].step for tag in events.Tags()["scalars"] if tag.startswith("train/")), default=0
    )


def read_summary(config: RunConfig) -> dict[str, Any]:
    """Of the run that is there; empty where it has not ended, or where there is none."""
    return jsonlines.read_json(config.directory / "summary.json") or {}


def write_summary(config: RunConfig, summary: dict[str, Any]) -> None:
    jsonlines.write_json(config.directory / "summary.json", summary)
