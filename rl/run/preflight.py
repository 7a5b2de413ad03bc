"""What can be checked before anything heavy starts. Every problem is one ConfigError sentence.

`rl/doctor.py` shows what the checks find, problems or not, and makes some more that take longer.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterator
from pathlib import Path

from longreward.errors import ConfigError, InputError
from longreward.preflight import judge_checks
from longreward.preflight.finding import Finding, Severity
from rl.config import RunConfig
from rl.monitor import canaries
from rl.reward_functions import remote, reward_model
from rl.run import disk, judge_estimate
from rl.run.openrlhf_command import command_line
from rl.trainer import cpu_backend, openrlhf_flags
from rl.trainer.openrlhf_flags import Flags

_JUDGE_CHECK_S = 12  # seconds; the whole preflight has to answer within 20


def choose_device(config: RunConfig) -> str:
    """`cpu` or `gpu` for this run, told to this process and all it starts by LONGREWARD_DEVICE."""
    if config.run.device != "auto":
        os.environ[cpu_backend.DEVICE_VARIABLE] = config.run.device
    try:
        device = "cpu" if cpu_backend.is_needed() else "gpu"
    except ValueError as error:
        raise ConfigError(str(error)) from None
    os.environ[cpu_backend.DEVICE_VARIABLE] = device
    return device


def flags(config: RunConfig, device: str) -> tuple[list[str], Flags]:
    """OpenRLHF's argument list for this run and machine, and what is read of it; ConfigError for flags that cannot
    work."""
    for name in ("actor.model_name_or_path", "critic.model_name_or_path"):
        model = config.openrlhf.get(name)
        if isinstance(model, str) and Path(model).is_dir():
            # Workers may have another working directory.
            config.openrlhf[name] = str(Path(model).absolute())
    argv = command_line(config, device)
    return argv, openrlhf_flags.parse(argv, device)


def problems(config: RunConfig, flags: Flags, *, trains: bool = True) -> list[str]:
    """Problems that end the run before or in training, with what it reads, computes and writes: one sentence each,
    empty if all is well. `trains`: with them, not only rollouts."""
    found_so_far = paths(config, flags) + reward(config, flags)
    if not found_so_far and trains:
        found = [*placement(flags), *steps(flags, _prompts_if_they_matter(config, flags))]
        found += disk.findings(config, flags)
        found_so_far = [finding.text for finding in found if finding.severity is Severity.PROBLEM]
    return found_so_far


def paths(config: RunConfig, flags: Flags) -> list[str]:
    """Problems with the files that the run reads."""
    problems = []
    if config.watch.canaries is not None:
        try:
            canaries.load(config.watch.canaries, config.reward.reference_field)
        except InputError as error:
            problems.append(f"watch.canaries: {error}")
    for key, path in (("data.train", config.data.train), ("data.heldout", config.data.heldout)):
        if path is not None and not path.is_file():
            problems.append(f"{key} {path} does not exist; give a JSON-lines file with idx, context, query")
    if problem := no_model("openrlhf.actor.model_name_or_path", flags.policy):
        problems.append(problem)
    return problems


def reward(config: RunConfig, flags: Flags) -> list[str]:
    """Problems of the reward function with the rest of the run, as far as they can be told without a model."""
    problems = []
    if "openrlhf" in config.reward.parts:
        problems += reward_model.problems(config.reward.openrlhf, flags)
    if problem := canaries.check(config):
        problems.append(problem)
    return problems


def no_model(name: str, model: str) -> str | None:
    """What is wrong with a model that is named by `name`, as far as that can be told without a hub."""
    # A hub name has the form owner/name; whatever else looks like a path is one.
    looks_local = model.startswith((".", "/", "~")) or model.count("/") != 1 or Path(model.split("/")[0]).exists()
    if looks_local and not (Path(model) / "config.json").is_file():
        return f"{name} {model} holds no model (no config.json); give a model's folder"
    return None


def tracking(config: RunConfig) -> None:
    """ConfigError where W&B would ask for a key on a terminal that the trainer does not have."""
    # On a cluster that runs already, the trainer's environment is the node's: it cannot be looked at from here.
    has_key = os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").is_file()
    if config.wandb.mode == "online" and config.needs_own_cluster and not has_key:
        raise ConfigError("wandb.mode is online but WANDB_API_KEY is not set; export it, or set wandb.mode=offline")


def judge(config: RunConfig) -> None:
    """One real judge call of each kind to each endpoint, all at once; ConfigError says why one cannot be used."""
    for finding in asyncio.run(judge_checks.unusable(config.reward, _JUDGE_CHECK_S)):
        raise ConfigError(f"{finding.within('reward.').text}, or run rl/doctor.py")


def remote_reward(config: RunConfig) -> None:
    """One real answer scored by the reward server, if the reward asks one; ConfigError says why it cannot be used."""
    if "remote" in config.reward.parts and (why := asyncio.run(remote.problem(config.reward.remote, _JUDGE_CHECK_S))):
        raise ConfigError(
            f"the reward server gave no reward: {why}; check reward.remote.url, the server and reward.remote.token_env"
        )


def placement(flags: Flags) -> list[Finding]:
    """What OpenRLHF and vLLM would refuse after Ray has given them its GPUs, or only after hours."""
    found = []
    steps = {"ckpt.save_steps": flags.ckpt_save_steps, "logger.logging_steps": flags.logger_logging_steps}
    for name, every in steps.items():
        if every == 0:
            found.append(_problem("steps", f"openrlhf.{name} is 0, and OpenRLHF divides by it", "set -1 for never"))
    together = flags.gpus_per_answer
    for model in flags.models:
        if flags.gpus(model) % together:
            sentence = (
                f"the {flags.gpus(model)} GPUs of openrlhf.{model} cannot be divided into groups of {together} "
                "(openrlhf.ds.ring_attn_size x openrlhf.ds.tensor_parallel_size)"
            )
            found.append(_problem("GPUs", sentence, f"set openrlhf.{model}.num_gpus_per_node to a multiple of it"))
    shares = flags.train_colocate_all or flags.train_colocate_actor_ref
    if shares and "ref" in flags.models and flags.nodes_and_gpus("actor") != flags.nodes_and_gpus("ref"):
        share = "colocate_all" if flags.train_colocate_all else "colocate_actor_ref"
        sentence = (
            f"openrlhf.train.{share} puts ref on the actor's GPUs, but their num_nodes or num_gpus_per_node differ"
        )
        found.append(_problem("GPUs", sentence, "give openrlhf.ref what openrlhf.actor has"))
    if flags.train_colocate_all and "critic" in flags.models and flags.gpus("critic") > flags.gpus("actor"):
        sentence = "openrlhf.train.colocate_all puts the critic on the actor's GPUs, but it wants more"
        found.append(_problem("GPUs", sentence, "set openrlhf.critic.num_gpus_per_node to the actor's"))
    actor, engines = flags.gpus("actor"), flags.engine_gpus
    if flags.train_colocate_all and not flags.train_async_enable and actor != engines:
        sentence = f"openrlhf.train.colocate_all puts engines on the actor's {actor} GPUs, but they take {engines}"
        action = "make vllm.num_engines x vllm.tensor_parallel_size as many as actor.num_nodes x num_gpus_per_node"
        found.append(_problem("GPUs", sentence, action))
    if not flags.train_async_enable:
        ahead = flags.prompts_at_once > flags.rollout_batch_size
        for flag, value, wrong in (
            ("train.partial_rollout_enable", True, flags.train_partial_rollout_enable),
            ("rollout.vllm_generate_batch_size", flags.rollout_vllm_generate_batch_size, ahead),
        ):
            if wrong:
                sentence = f"openrlhf.{flag}={value} works only in asynchronous training"
                found.append(_problem("GPUs", sentence, "set openrlhf.train.async_enable=true, or leave it out"))
    elif flags.train_colocate_all and flags.vllm_enable_sleep:
        sentence = "openrlhf.vllm.enable_sleep does not go with asynchronous training"
        found.append(_problem("GPUs", sentence, "leave it out"))
    return found + list(_engines(flags))


def steps(flags: Flags, prompts: int | None = None) -> list[Finding]:
    """What becomes of the answers of a step, and of the last one, which is short where `prompts` (None: not known, the
    last step is left out) is no multiple of `rollout.batch_size`.

    Follows OpenRLHF: answers are dealt to the learners in batches of `rollout.micro_batch_size`, each learner trains on
    batches of `train.micro_batch_size` and drops the rest, and all learners wait for each other at every batch.
    """
    estimator, samples = flags.algo_advantage_estimator, flags.rollout_n_samples_per_prompt
    if samples < 2 and estimator in ("rloo", "reinforce_baseline", "group_norm", "dr_grpo"):
        sentence = f"{estimator} requires n_samples_per_prompt > 1: a prompt's answers are compared with each other"
        return [_problem("batches", sentence, "set openrlhf.rollout.n_samples_per_prompt=8, say")]
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
            found.append(_problem("batches", f"{sentence}: the policy would never change", "lower it, or add prompts"))
    return found


def _accumulation(flags: Flags) -> Iterator[Finding]:
    """DeepSpeed's own condition, for every model of the run."""
    batch, micro = flags.train_batch_size, flags.train_micro_batch_size
    for model in flags.models:
        each = micro * flags.learners(model)
        exempt = flags.train_dynamic_batch_enable and model != "ref"
        if not exempt and batch % each:
            sentence = (
                f"openrlhf.train.batch_size={batch} is no multiple of train.micro_batch_size={micro} x "
                f"{flags.learners(model)} learners ({model}), so DeepSpeed would refuse it"
            )
            nearest = max(each, round(batch / each) * each)
            yield _problem("batches", sentence, f"set openrlhf.train.batch_size={nearest}, say")
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
            yield _problem("batches", f"{sentence}: each needs one", more)
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
            yield _problem("batches", sentence, more)
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
                f"{got[0]} and drops what is no whole batch of train.micro_batch_size={micro}"
            )
            yield Finding(Severity.NOTE, "batches", sentence, "make train.micro_batch_size a divisor of that")
        accumulated = flags.train_batch_size // (micro * ranks)
        if which == "a step" and rounds[0] % accumulated:
            sentence = (
                f"{what} are no multiple of train.batch_size={flags.train_batch_size}: optimizer steps mix answers "
                "of two rollouts" + (", and not every step changes the policy" if rounds[0] < accumulated else "")
            )
            yield Finding(
                Severity.NOTE, "batches", sentence, "make rollout.batch_size x n_samples_per_prompt a multiple"
            )


def _engines(flags: Flags) -> Iterator[Finding]:
    """vLLM's own conditions on the model, as far as its folder tells."""
    model = disk.model_config(flags.policy)
    heads, parallel = model.get("num_attention_heads"), flags.vllm_tensor_parallel_size
    if isinstance(heads, int) and heads % parallel:
        sentence = f"the policy has {heads} attention heads, which vllm.tensor_parallel_size={parallel} does not divide"
        yield _problem("GPUs", sentence, "set openrlhf.vllm.tensor_parallel_size to a divisor")
    longest = model.get("max_position_embeddings")
    rope = model.get("rope_parameters") or model.get("rope_scaling") or {}
    # Scaled in one of many ways, or differently from layer to layer: left to vLLM.
    scaled = any(isinstance(value, dict) for value in rope.values()) or rope.get("rope_type", "default") != "default"
    allowed = scaled or os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    if isinstance(longest, int) and flags.data_max_len > longest and not allowed:
        sentence = f"the policy reads {longest:,} tokens at most and openrlhf.data.max_len is {flags.data_max_len:,}"
        yield _problem("GPUs", sentence, "lower openrlhf.data.max_len, or take a model for longer texts")


def _prompts_if_they_matter(config: RunConfig, flags: Flags) -> int | None:
    """The number of prompts where some number of them would be a problem in the last step: counting reads the data."""
    if list(_accumulation(flags)):
        return None
    batch = flags.prompts_per_step
    if any(f.severity is Severity.PROBLEM for left in range(1, batch) for f in _step(flags, left, "the last step")):
        return judge_estimate.count_prompts(config, flags)
    return None


def _problem(about: str, sentence: str, action: str) -> Finding:
    return Finding(Severity.PROBLEM, about, sentence, action)
