"""A run's surroundings: preflight, Ray, prompt files, judge workers - and their end, however the run ends."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from rich.console import Console

from longreward.errors import ConfigError
from longreward.judge import offline
from longreward.text.amounts import clock
from rl.config import RunConfig
from rl.data import prompt_files
from rl.monitor.live_view import Screen
from rl.reward_functions import registry
from rl.rollout import judge_workers, reward_client
from rl.run import cluster, preflight, run_directory
from rl.trainer import checkpoints, cpu_backend, openrlhf_run
from rl.trainer.openrlhf_flags import Flags


@dataclass
class Session:
    """What a run can use while it is open."""

    config: RunConfig
    console: Console
    argv: list[str]
    flags: Flags
    started: float
    """`time.monotonic()` when the run began."""
    trains: bool = True
    """Whether OpenRLHF's online loop is what it is open for."""
    workers: judge_workers.Workers = field(default_factory=lambda: judge_workers.Workers([]))
    reports: dict[str, prompt_files.Report] = field(default_factory=dict)
    """What became of the prompts, by split: `train`, and `heldout` if there is one."""
    first_step: int = 0
    """The step of the checkpoint that the run continues from."""

    def __post_init__(self) -> None:
        self.screen = Screen(self.console)

    @property
    def command(self) -> str:
        """What to call it on the screen."""
        return "train" if self.trains else "run"

    @property
    def tokenizer(self) -> str | None:
        """The policy whose tokenizer counts chunk sizes; None where words do."""
        return self.flags.policy if self.config.reward.tokenizer == "policy" else None

    @property
    def prompts(self) -> int:
        """Prompts that an episode trains on."""
        return min(self.reports["train"].kept, self.flags.data_max_samples)

    def say(self, text: str) -> None:
        """One line for the person who watches."""
        passed = clock(time.monotonic() - self.started)
        self.console.print(f"[{passed}] {text}", highlight=False, markup=False, soft_wrap=True)
        self.screen.line_printed()

    def keep_what_was_learned(self, error: BaseException) -> None:
        """A checkpoint of the last complete step, for a run that `error` has ended at no fault of the policy."""
        step = run_directory.steps_done(self.config)
        if step > checkpoints.last_complete(self.config.checkpoints):
            self.say(f"training is broken off after {step} complete steps; saving a checkpoint")
            openrlhf_run.save_checkpoint(error, step, self.config.run.deadline_start_s)

    def tell_last_checkpoint(self) -> None:
        """Where the run can be continued."""
        if not self.trains:
            self.say("what was scored so far is kept; resume=true goes on from there")
        elif saved := checkpoints.last_complete(self.config.checkpoints):
            self.say(f"checkpoint of step {saved} saved in {self.config.checkpoints}; resume=true continues there")
        else:
            self.say("there is no checkpoint; resume=true begins the training again, with the rewards paid for so far")


@contextmanager
def open_session(config: RunConfig, *, verbose: bool, trains: bool = True) -> Iterator[Session]:
    """Check, connect, prepare and start the judge workers; stop all of it at the end.

    `trains`: OpenRLHF's online loop, not only rollouts. ConfigError or InputError with one sentence for everything that
    can be known to fail before.
    """
    with _waiting("checking the configuration and the judge", verbose=verbose):
        registry.check(config.reward)
        plan = _checked(config, trains=trains)
        if config.needs_judge:
            preflight.judge(config)
        preflight.remote_reward(config)
    os.environ.update(plan.env_vars)
    cpu_backend.apply()
    import ray

    try:
        # Before the run directory is made: a cluster that is too small must not move an earlier run aside.
        with _waiting("starting Ray, or connecting to it", verbose=verbose):
            cluster.connect(config, cluster.needed(plan.flags, config, trains=trains), plan.device, plan.env_vars)
        cluster.stop_on_sigterm()  # after Ray, which takes the signal over
        with _directory(plan, verbose=verbose) as session:
            if config.needs_judge and config.reward.judge.kind == "offline":
                session.say(offline.NOTICE)
            if plan.before and not trains:
                session.say(f"continuing {config.directory}")
            elif plan.before:
                session.first_step = checkpoints.prepare_resume(config.checkpoints)
                session.say(
                    f"continuing {config.directory} at the checkpoint of step {session.first_step}"
                    if session.first_step
                    else f"continuing {config.directory}, which has no checkpoint yet: training begins at the start"
                )
            try:
                _prepare(session)
                _mend_position(session)
                session.workers = judge_workers.start(config, session.tokenizer, plan.run_id)
                yield session
            finally:
                session.workers.kill()
                ray.shutdown()
    finally:
        ray.shutdown()


@contextmanager
def open_directory(config: RunConfig, *, verbose: bool) -> Iterator[Session]:
    """A run's directory alone, for what needs neither Ray nor a judge; errors as for `open_session`."""
    plan = _checked(config, trains=False)
    os.environ.update(plan.env_vars)
    cluster.stop_on_sigterm()
    with _directory(plan, verbose=verbose) as session:
        yield session


@dataclass(frozen=True)
class _Plan:
    """A configuration that was found to work on this machine."""

    config: RunConfig
    trains: bool
    started: float
    run_id: str
    before: RunConfig | None
    """The configuration of the run that is continued."""
    device: str
    argv: list[str]
    flags: Flags
    env_vars: dict[str, str]
    """Of every process of the run. The driver needs them too: a cluster of its own and OpenRLHF's imports inherit them
    from it."""


def _checked(config: RunConfig, *, trains: bool) -> _Plan:
    started, run_id = time.monotonic(), uuid.uuid4().hex[:8]
    before = run_directory.earlier(config) if config.resume else None
    config.wandb.run_id = (before and before.wandb.run_id) or run_id
    device = preflight.choose_device(config)
    argv, flags = preflight.flags(config, device)
    if before is not None:
        run_directory.check_same_run(before, config)
    problems = preflight.problems(config, flags, trains=trains)
    if problems:
        raise ConfigError(problems[0])
    preflight.tracking(config)
    return _Plan(config, trains, started, run_id, before, device, argv, flags, _environment(config, device, run_id))


@contextmanager
def _directory(plan: _Plan, *, verbose: bool) -> Iterator[Session]:
    """The run directory, made or taken up again, with all logs going there."""
    config = plan.config
    moved = None if plan.before else run_directory.make_room(config)
    run_directory.write_plan(config, plan.argv)
    with run_directory.logs_to(config.log, verbose=verbose) as console:
        session = Session(config, console, plan.argv, plan.flags, plan.started, plan.trains)
        session.say(f"device {plan.device}; all logs go to {config.log}")
        if moved:
            session.say(f"the earlier run of this name is kept in {moved}")
        with nullcontext() if verbose else session.screen.live():
            yield session


@contextmanager
def _waiting(text: str, *, verbose: bool) -> Iterator[None]:
    """A sign of life on a terminal, while there is no run directory yet and so no log."""
    console = Console()
    if verbose or not console.is_terminal:
        yield
        return
    with console.status(text):
        console.show_cursor(True)  # a run that is killed would leave the terminal without one
        yield


def _environment(config: RunConfig, device: str, run_id: str) -> dict[str, str]:
    """Variables of every process of the run. No keys: Ray shows them in its logs and on its dashboard."""
    variables = {cpu_backend.DEVICE_VARIABLE: device, "TOKENIZERS_PARALLELISM": "true"}
    if device == "cpu":
        # What the user exports goes first: how many threads an engine may take depends on the machine.
        variables |= {name: os.environ.get(name, value) for name, value in cpu_backend.environment().items()}
    if config.wandb.mode != "disabled":
        variables |= {"WANDB_MODE": config.wandb.mode, "WANDB_DIR": str(config.directory), "WANDB_SILENT": "true"}
        # OpenRLHF's logger asks for neither, and takes them from here.
        variables |= {"WANDB_RUN_ID": config.wandb.run_id or run_id, "WANDB_RESUME": "allow"}
    return variables | reward_client.Settings.of(config, run_id).environment()


def _mend_position(session: Session) -> None:
    flags = session.flags
    ahead = flags.prompts_at_once > flags.rollout_batch_size
    # With dynamic filtering nobody knows how many prompts a step took.
    if session.first_step and ahead and not flags.algo_dynamic_filtering_enable:
        batch = flags.rollout_batch_size
        checkpoints.mend_position(session.config.checkpoints, session.first_step, session.prompts, batch)


def _prepare(session: Session) -> None:
    config, flags = session.config, session.flags
    tokenizer = prompt_files.load_tokenizer(flags.policy)
    budget = flags.prompt_tokens
    sources = {"train": (config.data.train, None), "heldout": (config.data.heldout, config.evaluation.max_prompts)}
    for split, (source, at_most) in sources.items():
        if source is not None:
            out = config.prompts(split)
            # What was prepared before stays: the checkpoint knows its position in it, not in what the source is now.
            report = prompt_files.Report.read(out) if config.resume else None
            report = report or prompt_files.prepare(
                source, out, tokenizer, budget, split, at_most, config.reward.reference_field
            )
            session.reports[split] = report
            session.say(f"{split}: {report.sentence()}")
