"""The one way from a configuration to a run: the plan with its findings, refusing, and the dry run.

Every command and every dry run begins with a plan, so a dry run finds all that a run would refuse.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from longreward.errors import ConfigError
from longreward.preflight.finding import Finding, Severity
from rl.config import RunConfig
from rl.data import prompt_files
from rl.monitor import canaries
from rl.plan import Kind, Resources, RunPlan
from rl.reward_functions import registry, reward_model
from rl.rollout import reward_client
from rl.run import judge_estimate, run_directory
from rl.run.checks import advantage, batches, disk, files, late, lora, placement, policy_tokenizer, ranking, services
from rl.run.openrlhf_command import command_line
from rl.trainer import cpu_backend, learner_process, model_folder, openrlhf_flags, openrlhf_run
from rl.trainer.openrlhf_flags import Flags
from rl.trainer.openrlhf_parser import MODULE
from rl.trainer.seams import remote_code
from rl.trainer.seams.advantages import PerDimension

C = TypeVar("C", bound=RunConfig)


def make(
    config: C, kind: Kind, *, resume: bool | None = None, counts_prompts: bool = False, engines: bool = True
) -> RunPlan[C]:
    """Plan a run of `kind`, with findings of all that can be known without a network. `config` stays as it is.

    `resume` changes the plan's own copy of it. `counts_prompts`: read all of data.train for findings that are as exact
    as can be; else it is read only where a problem depends on it. `engines`: whether a run that does not train online
    starts any. ConfigError where there can be no plan: for flags that OpenRLHF does not take or that cannot work, an
    unknown reward, or a run that cannot be resumed.
    """
    started, run_id = time.monotonic(), uuid.uuid4().hex[:8]
    config = config.model_copy(deep=True)
    config.resume = config.resume if resume is None else resume
    if kind != "sft":  # nothing is scored there
        registry.check(config.reward)
    before = run_directory.earlier(config) if config.resume else None
    config.wandb.run_id = (before and before.wandb.run_id) or run_id
    config.openrlhf = openrlhf_flags.with_absolute_folders(config.openrlhf)
    if config.starts_judge and Path(config.reward.judge.model or "").is_dir():
        config.reward.judge.model = str(Path(config.reward.judge.model or "").absolute())
    device = choose_device(config)
    argv = command_line(config, device)
    flags = openrlhf_flags.parse(argv, device)
    if before is not None:
        run_directory.check_same_run(before, config, evaluates=kind == "evaluation")
    findings, prompts = _findings(config, flags, kind, counts_prompts)
    reward_models = config.reward.gpus * config.reward.workers
    return RunPlan(
        kind=kind,
        config=config,
        device=device,
        flags=flags,
        argv=argv,
        resources=Resources.of(flags, kind, reward_models, _judge_gpus(config), engines=engines),
        environment=_environment(config, flags, kind, device, run_id),
        run_id=run_id,
        started=started,
        before=before,
        findings=tuple(findings),
        prompts=prompts,
    )


def choose_device(config: RunConfig) -> Literal["cpu", "gpu"]:
    """What the run computes on. ConfigError for a LONGREWARD_DEVICE that is neither cpu nor gpu."""
    if config.run.device != "auto":
        return config.run.device
    try:
        return "cpu" if cpu_backend.is_needed() else "gpu"
    except ValueError as error:
        raise ConfigError(str(error)) from None


def refuse(findings: Sequence[Finding]) -> None:
    """ConfigError with the first problem, where there is one."""
    for finding in findings:
        if finding.severity is Severity.PROBLEM:
            raise ConfigError(finding.text)


def dry_run(plan: RunPlan[RunConfig], expected: Iterable[str] | None = None) -> int:
    """Refuse what the run would refuse, write down beside the run's directory what it would do, and print what is worth
    knowing: what the judge will be asked in training, or the sentences of `expected`. Needs no cluster, no judge and no
    GPU. Returns 0."""
    refuse(plan.findings)
    config, learners = plan.config, plan.learners
    if plan.trains_online:
        # A configuration for GPUs can be checked on a laptop: here only OpenRLHF's imports have to work.
        os.environ.pop(cpu_backend.DEVICE_VARIABLE, None)
        cpu_backend.apply()
        openrlhf_run.validate(plan.argv)
    if plan.before is None:
        config = config.model_copy(deep=True)
        config.wandb.run_id = None  # made when a run begins
    directory = config.directory.with_name(f"{config.run.name}-dry-run")
    run_directory.write_config(directory, config)
    command = ["python", "-m", MODULE, *plan.argv]
    if learners is not None:
        command = learner_process.command(learners.program.module, learners.argv, learners.count)
    run_directory.write_command(directory, command)
    notes = [finding for finding in plan.findings if finding.severity is Severity.NOTE]
    if plan.kind != "sft":
        steps = plan.flags.prompts_per_step if plan.trains_online else 0
        notes += files.notes(config, steps, train=plan.kind != "evaluation")
    # The run may be started on another machine, with another environment: no key is no reason to refuse here.
    for finding in [*notes, *services.keys(config)]:
        print(f"note: {finding.text}")
    if expected is None and plan.uses_ray and config.reward.asks_judge:
        expected = [judge_estimate.sentence(judge_estimate.expected(config, plan.flags), config.reward.judge)]
    for sentence in expected or ():
        print(sentence)
    if plan.resources.gpus:
        then = ", then the learners" if learners is not None else ""
        print(f"needs {plan.resources.gpus} GPUs ({plan.resources.parts}){then}")
    print(f"{directory}: config.yaml and command.txt are written")
    return 0


def _judge_gpus(config: RunConfig) -> int:
    return config.reward.judge.gpus * config.reward.judge.replicas if config.starts_judge else 0


def _findings(config: RunConfig, flags: Flags, kind: Kind, counts_prompts: bool) -> tuple[list[Finding], int | None]:
    """All findings, and the number of prompts where they were counted."""
    found = files.findings(config, flags, documents=kind != "sft")
    if kind != "sft" and not model_folder.missing_model("", flags.policy):
        found += policy_tokenizer.findings(flags, trust_remote_code=config.run.trust_remote_code)
    readable = all(finding.severity is not Severity.PROBLEM for finding in found)
    if kind == "sft":
        return found, None
    if config.starts_judge:
        found += model_folder.missing_model("reward.judge.model", config.reward.judge.model or "")
    if "openrlhf" in config.reward.parts:
        found += reward_model.problems(config.reward.openrlhf, flags)
    found += late.findings(config.reward, flags, kind)
    found += ranking.findings(config.reward, flags, kind)
    if problem := canaries.check(config):
        found.append(problem)

    @cache
    def count() -> int | None:
        if not readable:
            return None
        reference, criteria = config.reward.reference_field, config.reward.uses_criteria
        return prompt_files.count(config.data.train, flags.data_max_samples, reference, criteria=criteria)

    prompts = count() if counts_prompts else None
    if kind == "online":
        found += placement.findings(flags)
        found += lora.findings(flags)
        found += advantage.findings(config.reward, flags)
        found += batches.findings(flags, prompts or (count() if batches.last_step_decides(flags) else None))
        found += disk.findings(config, flags, prompts, count)
    return found, prompts


def _environment(config: RunConfig, flags: Flags, kind: Kind, device: str, run_id: str) -> dict[str, str]:
    """Variables of every process of the run. No keys: Ray shows them in its logs and on its dashboard."""
    variables = {cpu_backend.DEVICE_VARIABLE: device, "TOKENIZERS_PARALLELISM": "true"}
    variables[remote_code.VARIABLE] = str(int(config.run.trust_remote_code))
    if device == "cpu":
        # What the user exports goes first: how many threads an engine may take depends on the machine.
        variables |= {name: os.environ.get(name, value) for name, value in cpu_backend.environment().items()}
    if config.wandb.mode != "disabled":
        variables |= {"WANDB_MODE": config.wandb.mode, "WANDB_DIR": str(config.directory), "WANDB_SILENT": "true"}
        # OpenRLHF's logger asks for neither, and takes them from here.
        variables |= {"WANDB_RUN_ID": config.wandb.run_id or run_id, "WANDB_RESUME": "allow"}
    if kind == "sft":
        return variables
    if config.reward.advantage == "per_dimension":
        least = config.reward.min_group_spread
        variables |= PerDimension(config.reward.compared, None if least == "auto" else least).environment()
    estimator, filtering = flags.algo_advantage_estimator, flags.algo_dynamic_filtering_enable
    settings = reward_client.Settings.of(
        config, run_id, estimator=estimator, filtering=filtering, synchronous=not flags.train_async_enable
    )
    return variables | settings.environment()
