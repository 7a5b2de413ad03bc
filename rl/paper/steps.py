"""What makes a row: the commands of rl/, each continued where it stopped, and never a second time."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rl
from longreward.errors import ConfigError
from longreward.files.locks import lock
from rl.offline.config import DpoConfig, SftConfig, load_any
from rl.paper import record
from rl.paper.config import ReproductionConfig, RowSection
from rl.run.run_directory import make_folder

POLICY = "actor.model_name_or_path"
PROGRAMS = Path(rl.__file__).parent
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Step:
    """One command of rl/."""

    name: str
    """Of its run: the row's, with `-evaluation` behind it for an evaluation."""
    program: str
    words: tuple[str, ...]
    done: Path
    """The file that is there at its end."""
    made_of: Any
    """All that decides what comes out, as JSON."""
    begins_with: str
    """The policy that the first of the rows which it builds on begins with."""

    @property
    def is_done(self) -> bool:
        return self.done.is_file()

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(PROGRAMS / self.program), *self.words]

    @property
    def shown(self) -> str:
        return " ".join(["python", f"rl/{self.program}", *self.words])


def steps(config: ReproductionConfig, only: Sequence[str] = ()) -> list[Step]:
    """The steps of the rows `only`, or of all, in their order: those rows' policies, those that they build on, and the
    evaluation of each of those rows; before them, that of the row they are compared with.

    ConfigError for an unknown row, and for a row whose configuration cannot be read or is of another program.
    """
    if unknown := [name for name in only if name not in config.rows]:
        raise ConfigError(f"--only {unknown[0]}: there is no such row; known: {', '.join(config.rows)}")
    shown = {*only, config.against} if only else set(config.rows)
    needed = set(shown)
    for name in reversed(config.rows):
        if name in needed:
            needed |= {*config.rows[name].needs}
    found, made_of, first = list[Step](), dict[str, Any](), dict[str, str]()
    waiting: list[str] = []  # for the evaluation that theirs are compared with
    for name in config.rows:
        if name not in needed:
            continue
        row = config.rows[name]
        if row.model is not None:
            made_of[name] = first[name] = row.model
        else:
            step = _training(config, name, row, made_of, first)
            made_of[name], first[name] = step.made_of, step.begins_with
            found.append(step)
        if name in shown:
            waiting.append(name)
        if config.against in made_of:
            waiting.sort(key=lambda one: one != config.against)
            found += [_evaluation(config, one, made_of, first[one]) for one in waiting]
            waiting.clear()
    return found


def model_of(config: ReproductionConfig, name: str) -> str:
    """A row's policy: where it is, or will be."""
    row = config.rows[name]
    return row.model or str(config.directory / name / "model")


def _training(
    config: ReproductionConfig, name: str, row: RowSection, made_of: dict[str, Any], first: dict[str, str]
) -> Step:
    assert row.config is not None
    settings = [*config.settings, *row.settings]
    try:
        loaded = load_any(row.config, settings)
    except ConfigError as error:
        raise ConfigError(f"rows.{name}: {error}") from None
    kind, own = type(loaded), list[str]()
    begins_with = first[row.start] if row.start else str(loaded.openrlhf.get(POLICY))
    if row.start is not None:
        own.append(f"openrlhf.{POLICY}={model_of(config, row.start)}")
    if kind is not SftConfig:
        own.append("data.heldout=null")  # rl/evaluate.py measures all rows alike
    program, stages, end = "train.py", list[str](), "summary.json"
    if kind is SftConfig:
        program = "sft.py"
    elif kind is DpoConfig:
        program = "dpo.py"
        own.append("short.heldout=null")
    if row.answers or row.rescored:
        source = row.answers or row.rescored
        if kind is not DpoConfig:
            key = "answers" if row.answers else "rescored"
            raise ConfigError(
                f"rows.{name}.{key} is for rl/dpo.py, and {row.config} is of rl/{program}; take it out, or give a "
                "configuration with train_dpo"
            )
        store = config.directory / str(source) / "store"
        own.append(f"collect.stores={[str(store)]}" if row.answers else f"collect.responses={store}")
        stages, end = (["pair", "train"] if row.answers else ["collect", "pair", "train"]), "trained.json"
    words = ["--config", str(row.config), *(word for stage in stages for word in ("--stage", stage))]
    words += [f"run.dir={config.directory}", f"run.name={name}", "resume=true", *settings, *own]
    made = {"settings": record.deciding(load_any(row.config, [*settings, *own]))}
    made |= {"of": {needed: made_of[needed] for needed in row.needs}}
    return Step(name, program, tuple(words), config.directory / name / end, made, begins_with)


def _evaluation(config: ReproductionConfig, name: str, made_of: dict[str, Any], begins_with: str) -> Step:
    words = ["--config", str(config.evaluation), "--model", model_of(config, name)]
    # The tokenizer that counts chunks is the same for all rows.
    own = [f"openrlhf.{POLICY}={model_of(config, config.against)}"]
    try:
        evaluated_by = load_any(config.evaluation, [*config.settings, *own]).evaluated_by
    except ConfigError as error:
        raise ConfigError(f"evaluation: {error}") from None
    made = {"settings": record.as_json(evaluated_by), "of": made_of[name]}
    if name != config.against:
        words += ["--against", str(evaluation_of(config, config.against))]
        made["against"] = made_of[config.against]
    words += [f"run.dir={config.directory}", f"run.name={name}", "resume=true", *config.settings, *own]
    done = evaluation_of(config, name) / "summary.json"
    return Step(f"{name}-evaluation", "evaluate.py", tuple(words), done, made, begins_with)


def evaluation_of(config: ReproductionConfig, name: str) -> Path:
    """The directory of a row's evaluation."""
    return config.directory / f"{name}-evaluation"


@contextmanager
def alone(directory: Path) -> Iterator[int]:
    """Make the directory and hold it: no other reproduction works there. Yields a descriptor; a process that has it
    open holds the directory too, so that one which outlives us is waited for. ConfigError where another holds it."""
    make_folder(directory)
    try:
        file = lock(directory / ".lock")
    except BlockingIOError:
        raise ConfigError(
            f"another rl/reproduce.py works in {directory}, or a command of one has not ended yet; wait for its end, "
            "or set name"
        ) from None
    with file:
        yield file.fileno()


def check(directory: Path, todo: Sequence[Step]) -> None:
    """ConfigError where a step was made with other settings than it has now."""
    for step in todo:
        record.check(directory, step.name, step.made_of, done=step.is_done)


def run(directory: Path, step: Step, lock: int) -> int:
    """Carry out a step to its end. Returns its exit code; KeyboardInterrupt where it or we were stopped. It ends with
    this process, however that ends."""
    record.write(directory, step.name, step.made_of)
    process = subprocess.Popen(step.command, pass_fds=[lock], preexec_fn=_end_with_parent)
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True
        process.send_signal(signal.SIGTERM)

    # Ctrl-C reaches the command by itself; what ends a job reaches us alone.
    earlier = signal.signal(signal.SIGTERM, end)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, earlier)
    if ended or code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    return code


def _end_with_parent() -> None:
    """In a new process: have Linux send it SIGTERM when its parent is gone."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
