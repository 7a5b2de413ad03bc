"""What becomes of a step's answers: whether they fill batches, and whether all learners get the same number."""

from __future__ import annotations

import math
from collections.abc import Iterator

from longreward.preflight.finding import Finding, Severity
from rl.trainer.openrlhf_flags import Flags
from rl.trainer.seams.advantages import COMPARE_WITHIN_GROUPS


def findings(flags: Flags, prompts: int | None = None) -> list[Finding]:
    """What becomes of the answers of a step, and of the last one, which is short where `prompts` (None: not known, the
    last step is left out) is not a multiple of `rollout.batch_size`.

    Follows OpenRLHF: answers are dealt to the learners in batches of `rollout.micro_batch_size`, each learner trains on
    batches of `train.micro_batch_size` and drops the rest, and all learners wait for each other at every batch.
    """
    estimator, samples = flags.algo_advantage_estimator, flags.rollout_n_samples_per_prompt
    if samples < 2 and estimator in COMPARE_WITHIN_GROUPS:
        sentence = f"{estimator} requires n_samples_per_prompt > 1: a prompt's answers are compared with each other"
        return [Finding.problem("batches", sentence, "set openrlhf.rollout.n_samples_per_prompt=8, say")]
    found = list(_accumulation(flags))
    if found:
        return found  # what follows counts in whole batches
    batch = flags.prompts_per_step
    found = list(_step(flags, batch, "a step"))
    last = prompts % batch if prompts is not None else 0
    if last and not flags.algo_dynamic_filtering_enable:
        found += _step(flags, last, "the last step of an episode")
    if prompts is not None:
        answers = prompts * samples * flags.train_num_episodes * flags.train_max_epochs
        if answers < flags.train_batch_size:
            sentence = f"the run trains on {answers} answers, less than train.batch_size={flags.train_batch_size}"
            found.append(
                Finding.problem("batches", f"{sentence}: the policy would never change", "lower it, or add prompts")
            )
    if found:
        return found
    batch, whole = flags.prompts_per_step, f"{flags.steps(prompts)} " if prompts else ""
    sentence = f"{whole}steps of {batch} prompts x {samples} answers; train.batch_size is {flags.train_batch_size}"
    return [Finding.ok("batches", sentence)]


def last_step_decides(flags: Flags) -> bool:
    """Whether some number of prompts would be a problem in the last step, so that they have to be counted."""
    if list(_accumulation(flags)):
        return False
    numbers = range(1, flags.prompts_per_step)
    return any(f.severity is Severity.PROBLEM for left in numbers for f in _step(flags, left, "the last step"))


def _accumulation(flags: Flags) -> Iterator[Finding]:
    """DeepSpeed's own condition, for every model of the run."""
    batch, micro = flags.train_batch_size, flags.train_micro_batch_size
    for model in flags.models:
        each = micro * flags.learners(model)
        exempt = flags.train_dynamic_batch_enable and model != "ref"
        if not exempt and batch % each:
            sentence = (
                f"openrlhf.train.batch_size={batch} is not a multiple of train.micro_batch_size={micro} x "
                f"{flags.learners(model)} learners ({model}), so DeepSpeed would refuse it"
            )
            nearest = max(each, round(batch / each) * each)
            yield Finding.problem("batches", sentence, f"set openrlhf.train.batch_size={nearest}, say")
            return


def _step(flags: Flags, prompts: int, which: str) -> Iterator[Finding]:
    samples, piece = flags.rollout_n_samples_per_prompt, flags.rollout_micro_batch_size
    answers, micro = prompts * samples, flags.train_micro_batch_size
    what = f"{which}: {prompts} prompts x {samples} answers"
    more = "change openrlhf.rollout.batch_size, n_samples_per_prompt or micro_batch_size"
    if which != "a step":
        more = f"set openrlhf.data.max_samples to a multiple of rollout.batch_size, or {more}"
    dynamic = flags.train_dynamic_batch_enable  # dealt by length, not by number
    pieces = answers if dynamic else math.ceil(answers / piece)
    for model in flags.models:
        ranks = flags.learners(model)
        # OpenRLHF's own check of a full step counts whole batches only.
        if (answers // piece if which == "a step" and model == "actor" else pieces) < ranks:
            sentence = f"{what} are too few batches of rollout.micro_batch_size={piece} for {ranks} learners ({model})"
            yield Finding.problem("batches", f"{sentence}: each needs one", more)
            return
        if dynamic:
            continue
        each = math.ceil(pieces / ranks)
        dealt = [max(0, min(each, pieces - each * rank)) for rank in range(ranks)]
        got = [max(0, min(each * piece, answers - each * piece * rank)) for rank in range(ranks)]
        rounds = [0 if model == "ref" else number // micro for number in got]
        if len(set(rounds)) > 1 or (flags.ds_zero_stage == 3 and len(set(dealt)) > 1):
            sentence = (
                f"{what} are dealt to {ranks} learners ({model}) unevenly, {got[0]} to one and {got[-1]} to another; "
                "they wait for each other at every batch, so the run would hang"
            )
            yield Finding.problem("batches", sentence, more)
            return
        if model != "actor":
            continue
        dropped = answers - sum(rounds) * micro
        if dropped == answers:
            sentence = f"{what} give a learner {got[0]}, less than train.micro_batch_size={micro}: it drops them all"
            severity = Severity.PROBLEM if which == "a step" else Severity.NOTE
            yield Finding(severity, "batches", sentence, "lower openrlhf.train.micro_batch_size")
            return
        if dropped:
            sentence = (
                f"{what} are generated and judged, and {dropped} of the answers never trained on: a learner gets "
                f"{got[0]} and drops what is not a whole batch of train.micro_batch_size={micro}"
            )
            yield Finding.note("batches", sentence, "make train.micro_batch_size a divisor of that")
        accumulated = flags.train_batch_size // (micro * ranks)
        if which == "a step" and rounds[0] % accumulated:
            sentence = (
                f"{what} are not a multiple of train.batch_size={flags.train_batch_size}: optimizer steps mix answers "
                "of two rollouts" + (", and not every step changes the policy" if rounds[0] < accumulated else "")
            )
            yield Finding.note("batches", sentence, "make rollout.batch_size x n_samples_per_prompt a multiple")
