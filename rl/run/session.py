"""A run while it is open: its plan, screen and judge workers, the prompts prepared - and their end, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from rich.console import Console

from longreward.judge import offline
from rl.config import RunConfig
from rl.data import prompt_files
from rl.monitor.live_view import Screen
from rl.plan import RunPlan
from rl.rollout import judge_replicas, judge_workers
from rl.run import cluster, planning, run_directory
from rl.run.checks import services
from rl.run.command import waiting
from rl.trainer import checkpoints, cpu_backend, openrlhf_run
from rl.trainer.openrlhf_flags import Flags
from rl.trainer.seams import remote_code


@dataclass
class Session:
    """What is open while a run goes on."""

    plan: RunPlan[RunConfig]
    screen: Screen
    workers: judge_workers.Workers = field(default_factory=lambda: judge_workers.Workers([]))
    reports: dict[str, prompt_files.PromptReport] = field(default_factory=dict)
    """What became of the prompts, by split: `train`, and `heldout` if there is one."""
    first_step: int = 0
    """The step of the checkpoint that the run continues from."""

    @property
    def config(self) -> RunConfig:
        return self.plan.config

    @property
    def flags(self) -> Flags:
        return self.plan.flags

    @property
    def console(self) -> Console:
        return self.screen.console

    @property
    def prompts(self) -> int:
        """Prompts that an episode trains on."""
        return min(self.reports["train"].kept, self.flags.data_max_samples)

    def say(self, text: str) -> None:
        """One line for the person who watches."""
        self.screen.say(text)

    def keep_what_was_learned(self, error: BaseException) -> None:
        """A checkpoint of the last complete step, for a run that `error` has ended at no fault of the policy."""
        step = run_directory.steps_done(self.config)
        if step > checkpoints.last_complete(self.config.checkpoints):
            self.say(f"training is broken off after {step} complete steps; saving a checkpoint")
            openrlhf_run.save_checkpoint(error, step, self.config.run.deadline_start_s)

    def tell_last_checkpoint(self) -> None:
        """Where the run can be continued."""
        if not self.plan.trains_online:
            self.say("all scores so far are kept; resume=true continues from there")
        elif saved := checkpoints.last_complete(self.config.checkpoints):
            self.say(f"checkpoint of step {saved} saved in {self.config.checkpoints}; resume=true continues there")
        else:
            self.say("there is no checkpoint; resume=true begins the training again, with the rewards paid for so far")


@contextmanager
def open_session(plan: RunPlan[RunConfig], *, verbose: bool) -> Iterator[Session]:
    """Ask the judge, connect to Ray, prepare the prompts and start the judge workers; stop all of it at the end.

    ConfigError or InputError with one sentence for everything that can be known to fail before.
    """
    planning.refuse(plan.findings)
    with waiting("asking the judge", verbose=verbose):
        planning.refuse(services.findings(plan.config))
    os.environ.update(plan.environment)
    cpu_backend.apply()
    remote_code.apply()
    import ray

    try:
        # Before the run directory is made: a cluster that is too small must not move an earlier run aside.
        with waiting("starting Ray, or connecting to it", verbose=verbose):
            cluster.connect(plan.config, plan.resources, plan.device, plan.environment)
        cluster.stop_on_sigterm()  # after Ray, which takes the signal over
        with _directory(plan, verbose=verbose) as session:
            _tell_beginning(session)
            try:
                prepare(session, ("train", "heldout"))
                _mend_position(session)
                with _judge(session):
                    for finding in services.cache(session.config):
                        session.say(finding.text)
                    session.workers = judge_workers.start(session.config, plan.tokenizer, plan.run_id)
                    try:
                        yield session
                    finally:
                        session.workers.kill()
            finally:
                ray.shutdown()
    finally:
        ray.shutdown()


@contextmanager
def _judge(session: Session) -> Iterator[None]:
    """The judge that the run serves itself, where it does: the session's plan then names its servers."""
    config = session.config
    if not config.starts_judge:
        yield
        return
    own = config.reward.judge
    session.say(f"starting the judge: {own.replicas} x {own.model}")
    with judge_replicas.replicas(config) as judge:
        reward = config.reward.model_copy(update={"judge": judge})
        # All replicas are alike: one tells whether they can be asked.
        first = reward.model_copy(update={"judge": judge.model_copy(update={"endpoints": judge.endpoints[:1]})})
        planning.refuse(services.judge(first, config.run.deadline_start_s))
        session.plan = replace(session.plan, config=config.model_copy(update={"reward": reward}))
        yield


@contextmanager
def open_directory(plan: RunPlan[RunConfig], *, verbose: bool) -> Iterator[Session]:
    """A run's directory alone, for what needs neither Ray nor a judge; errors as for `open_session`."""
    planning.refuse([*plan.findings, *services.keys(plan.config)])
    os.environ.update(plan.environment)
    cluster.stop_on_sigterm()
    with _directory(plan, verbose=verbose) as session:
        yield session


@contextmanager
def _directory(plan: RunPlan[RunConfig], *, verbose: bool) -> Iterator[Session]:
    """The run directory, made or taken up again, with all logs going there."""
    config = plan.config
    there = config.directory.is_dir() and any(config.directory.iterdir())
    moved = run_directory.move_aside(config.directory) if there and not plan.before else None
    run_directory.write_config(config.directory, config)
    run_directory.write_command(config.directory, ["python", "-m", openrlhf_run.MODULE, *plan.argv])
    with run_directory.logs_to(config.log, verbose=verbose) as console:
        session = Session(plan, Screen(console, plan.started))
        session.say(f"device {plan.device}; all logs go to {config.log}")
        if moved:
            session.say(f"the earlier run of this name is kept in {moved}")
        with nullcontext() if verbose else session.screen.live():
            yield session


def _tell_beginning(session: Session) -> None:
    """What judge is asked, and where a run that is continued goes on."""
    plan, directory = session.plan, session.config.directory
    config = session.config
    asked = [config.reward.judge] if config.needs_judge else []
    asked += [config.grader] if config.is_graded else []
    if not all(judge.asks_endpoints for judge in asked):
        session.say(offline.NOTICE)
    if plan.before and not plan.trains_online:
        session.say(f"continuing {directory}")
    elif plan.before:
        session.first_step = checkpoints.prepare_resume(session.config.checkpoints)
        session.say(
            f"continuing {directory} at the checkpoint of step {session.first_step}"
            if session.first_step
            else f"continuing {directory}, which has no checkpoint yet: training begins at the start"
        )


def _mend_position(session: Session) -> None:
    flags = session.flags
    ahead = flags.prompts_at_once > flags.rollout_batch_size
    # With dynamic filtering nobody knows how many prompts a step took.
    if session.first_step and ahead and not flags.algo_dynamic_filtering_enable:
        batch = flags.rollout_batch_size
        checkpoints.mend_position(session.config.checkpoints, session.first_step, session.prompts, batch)


def prepare(session: Session, splits: Sequence[str]) -> None:
    """Prepare the prompts of data.train and data.heldout, those of `splits`. What is there of a run that is continued
    stays."""
    plan, config = session.plan, session.config
    tokenizer = prompt_files.load_tokenizer(plan.flags.policy, trust_remote_code=remote_code.allowed())
    budget = plan.flags.prompt_tokens
    sources = {"train": (config.data.train, None), "heldout": (config.data.heldout, config.evaluation.max_prompts)}
    for split in () if plan.kind == "evaluation" else splits:  # each policy that is evaluated has prompts of its own
        source, at_most = sources[split]
        if source is not None:
            out = config.prompts(split)
            # What was prepared before stays: the checkpoint knows its position in it, not in what the source is now.
            report = prompt_files.PromptReport.read(out) if config.resume else None
            reference, criteria = config.reward.reference_field, config.reward.uses_criteria
            report = report or prompt_files.prepare(
                source, out, tokenizer, budget, split, at_most, reference, criteria=criteria
            )
            session.reports[split] = report
            session.say(f"{split}: {report.sentence()}")
