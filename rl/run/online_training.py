"""The part of a run that OpenRLHF does: watched while it goes on, kept as far as it got when it is broken off."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from longreward import store
from longreward.schema import OK, ScoredAnswer, Usage
from rl.config import RunConfig
from rl.errors import RUN_FAILED, PartDiedError
from rl.monitor.progress import TrainingProgress
from rl.monitor.step_watch import StepWatch
from rl.run import run_directory
from rl.run.failures import dead_part, in_rollout
from rl.run.interrupt import Interrupt, interruptible
from rl.run.session import Session
from rl.run.watchdog import Watchdog
from rl.trainer import adapter, openrlhf_run


@contextmanager
def watched(run: Session) -> Iterator[Interrupt]:
    """Around whatever waits for Ray: it is ended, with the reason, where Ray's head is gone or nothing moves."""

    def last_words(error: Exception) -> None:
        name = "train" if run.plan.trains_online else "run"
        print(f"{name}: failed: {error}", file=sys.__stderr__, flush=True)
        run.say(f"failed: {error}")
        run.tell_last_checkpoint()

    with (
        interruptible() as interrupt,
        Watchdog(
            run.workers,
            interrupt,
            run.config.log,
            start_s=run.config.run.deadline_start_s,
            stall_s=run.config.run.stall_s,
            last_words=last_words,
        ),
    ):
        yield interrupt


def fit(run: Session) -> dict[str, Any]:
    """Train to the end. Returns what summary.json says of it.

    An error that ends the training is raised again, after a checkpoint was saved where that is possible.
    """
    config, flags = run.config, run.flags
    batch, samples = flags.rollout_batch_size, flags.rollout_n_samples_per_prompt
    steps = math.ceil(run.prompts / batch) * flags.train_num_episodes
    run.say(f"training: {steps} steps of {batch} prompts x {samples} answers")
    begun, begun_at = time.monotonic(), time.time()

    try:
        with (
            watched(run) as interrupt,
            StepWatch(run.plan, run.screen, run.workers, interrupt.raise_in_main, first_step=run.first_step) as watch,
            TrainingProgress(
                run.plan, run.screen, run.workers, watch.on_step, steps=steps, first_step=run.first_step
            ) as progress,
        ):
            openrlhf_run.run(run.plan.argv)
    except BaseException as error:
        part = None if isinstance(error, (*RUN_FAILED, KeyboardInterrupt)) else dead_part(error, begun_at)
        # In async mode the learners are at work on another batch when a rollout ends in an error.
        if in_rollout(error) and not flags.train_async_enable:
            run.keep_what_was_learned(error)
        run.tell_last_checkpoint()
        if part:
            raise PartDiedError(f"{part}; see the log for what it said last") from error
        raise
    train_s = time.monotonic() - begun
    openrlhf_run.release()
    if flags.ds_lora_rank:
        run.say("merging the adapter into the model")
        adapter.merge(config.directory, flags.policy, flags.ds_param_dtype, config.log, config.run.stall_s)
    waited = progress.waited
    if sentence := waited.sentence():
        run.say(sentence)
    estimator = flags.algo_advantage_estimator
    return {
        "kind": {"gae": "ppo", "group_norm": "grpo"}.get(estimator, estimator),
        "steps": run_directory.steps_done(config),
        "train_s": round(train_s, 1),
        **waited.summary(),
        **watch.summary(),
    }


def judged(config: RunConfig) -> dict[str, Any]:
    """What summary.json says of the judge, held-out answers included, over all parts of a run that was continued: the
    workers' own counts begin anew when one is restarted.

    An answer that was scored twice, because its worker died, counts once; its cost counts twice.
    """
    usage, found = Usage(), dict[tuple[str, str], tuple[tuple[bool, float], str]]()
    for path in store.files(config.directory / "store"):
        for _, _, record in store.read(path, [], ScoredAnswer):
            usage += record.usage
            answer, this = (record.rollout, record.query), (store.rank(record.total, record.time), record.status)
            found[answer] = max(found.get(answer, this), this)
    void = Counter(status for _, status in found.values() if status != OK)
    return {
        "judge_calls": usage.calls,
        "judge_tokens": usage.tokens,
        "cost": round(usage.cost, 4) if config.reward.judge.knows_prices else None,
        "void_rate": round(void.total() / max(1, len(found)), 4),
        "void_reasons": dict(void),
    }
