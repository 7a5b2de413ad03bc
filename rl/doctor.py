"""Everything about a training run that can be known before a GPU is taken: files, GPUs, data, disk, judge, cost, pace.

    python rl/doctor.py --config configs/grpo_cpu.yaml [section.key=value ...]

Takes nothing and changes nothing; asks the judge some 16 short questions per endpoint. Exit code 0, 1 where there is a
problem that would end the run, 2 for a configuration that cannot be read. `rl/train.py --dry-run` lets OpenRLHF itself
check its flags besides.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console

from longreward.commands.doctor import check_judge, show, verdict
from longreward.errors import ConfigError, LongRewardError
from longreward.preflight import settings_checks
from longreward.preflight.estimate import Estimate, throughput
from longreward.preflight.finding import Finding, Severity
from longreward.text.amounts import duration, in_words
from rl.config import RunConfig, load
from rl.data import prompt_files
from rl.reward_functions import registry
from rl.run import cluster, disk, judge_estimate, preflight
from rl.trainer.openrlhf_flags import Flags


def main(argv: list[str] | None = None) -> int:
    """Check one configuration. Returns 0; 1 where there is a problem; 2 for a user's error; 130 if stopped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, required=True, help="a YAML file, see configs/")
    options, overrides = parser.parse_known_args(argv)
    try:
        return check_run(load(options.config, overrides), Console())
    except LongRewardError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def check_run(config: RunConfig, out: Console) -> int:
    """Print what is found out about a run. Returns 0, or 1 where there is a problem.

    ConfigError for flags that OpenRLHF's parser does not take, or an unknown reward.
    """
    registry.check(config.reward)
    # A configuration for GPUs can be looked at on a laptop.
    device = "gpu" if config.run.device == "gpu" else preflight.choose_device(config)
    _, flags = preflight.flags(config, device)

    missing = [Finding(Severity.PROBLEM, "files", *_halves(text)) for text in preflight.paths(config, flags)]
    findings = show(out, missing or [Finding(Severity.OK, "files", "data and model are there")])
    findings += show(
        out, [Finding(Severity.PROBLEM, "reward", *_halves(text)) for text in preflight.reward(config, flags)]
    )
    findings += show(out, [*_tracking(config), *preflight.placement(flags)])
    with out.status("looking for GPUs"):
        gpus = list(_gpus(config, flags, device))
    findings += show(out, gpus)

    prompts: int | None = None
    if not missing:
        with out.status("reading the data with the policy's tokenizer"):
            data, prompts = _data(config, flags)
        findings += show(out, data)
    findings += show(out, [*_batches(flags, prompts), *_disk(config, flags, prompts)])

    latency_s: float | None = None
    if config.needs_judge:
        found, latency_s = check_judge(out, config.reward, "reward.")
        findings += found
    else:
        findings += show(out, [Finding(Severity.OK, "judge", "no judge is asked")])
    if "remote" in config.reward.parts:
        with out.status("asking the reward server"):
            findings += show(out, _reward_server(config))
    if prompts and config.reward.asks_judge:
        with out.status("counting what the judge will be asked"):
            episode = judge_estimate.of_episode(config, flags)
            cost = [*_cost(config, flags, episode, prompts), *_pace(config, flags, episode, prompts, latency_s)]
        findings += show(out, [finding.within("reward.") for finding in cost])
    return verdict(out, findings)


def _tracking(config: RunConfig) -> Iterator[Finding]:
    try:
        preflight.tracking(config)
    except ConfigError as error:
        yield Finding(Severity.PROBLEM, "keys", *_halves(str(error)))


def _reward_server(config: RunConfig) -> list[Finding]:
    try:
        preflight.remote_reward(config)
    except ConfigError as error:
        return [Finding(Severity.PROBLEM, "reward", *_halves(str(error)))]
    return [Finding(Severity.OK, "reward", "the reward server scores an answer")]


def _gpus(config: RunConfig, flags: Flags, device: str) -> Iterator[Finding]:
    """What the run needs of Ray, and what is there. No cluster is started."""
    needed = cluster.needed(flags, config)
    need = f"the run takes {needed.gpus} GPU{'s' * (needed.gpus != 1)} ({needed.parts}) and {needed.cpus} CPUs"
    if not config.needs_own_cluster:
        yield from _on_cluster(config, needed, device, need)
    elif device == "cpu":
        here = f"without a GPU they are logical ones, of a Ray of its own on this machine's {os.cpu_count()} cores"
        yield Finding(Severity.OK, "GPUs", f"{need}; {here}")
    else:
        import torch

        there = torch.cuda.device_count()
        if there >= needed.gpus:
            yield Finding(Severity.OK, "GPUs", f"{need}; this machine has {there} GPUs and {os.cpu_count()} CPUs")
        elif there:
            action = "start it on a cluster (ray.address), or need fewer (openrlhf.train.colocate_all)"
            yield Finding(Severity.PROBLEM, "GPUs", f"{need}, and this machine has {there} GPUs", action)
        else:
            action = "run the doctor there, or with ray.address=HOST:PORT"
            yield Finding(
                Severity.NOTE, "GPUs", f"{need}; the machine or cluster that has them was not looked at", action
            )


def _on_cluster(config: RunConfig, needed: cluster.Resources, device: str, need: str) -> Iterator[Finding]:
    import ray

    address = config.ray.address or os.environ["RAY_ADDRESS"]
    try:
        cluster.connect(config, needed, device, {})
        there, free = ray.cluster_resources(), ray.available_resources()
    except ConfigError as error:
        yield Finding(Severity.PROBLEM, "GPUs", *_halves(str(error)))
        return
    finally:
        ray.shutdown()
    gpus, cpus, idle = (int(number) for number in (there.get("GPU", 0), there.get("CPU", 0), free.get("GPU", 0)))
    yield Finding(Severity.OK, "GPUs", f"{need}; Ray at {address} has {gpus} GPUs and {cpus} CPUs")
    if idle < needed.gpus:
        sentence = f"only {idle} of Ray's {gpus} GPUs are free now: the run would wait for others to end"
        yield Finding(Severity.NOTE, "GPUs", sentence, "see `ray status`")


def _data(config: RunConfig, flags: Flags) -> tuple[list[Finding], int | None]:
    """Findings about the prompts, and how many an episode trains on; None where that cannot be told."""
    findings: list[Finding] = []
    budget = flags.prompt_tokens
    prompts: int | None = None
    try:
        tokenizer = prompt_files.load_tokenizer(flags.policy)
        if config.reward.tokenizer == "policy" and not tokenizer.is_fast:
            sentence = f"the tokenizer of {flags.policy} tells no character offsets"
            findings.append(Finding(Severity.PROBLEM, "data", sentence, "set reward.tokenizer=words"))
        for key, source, most in (
            ("data.train", config.data.train, None),
            ("data.heldout", config.data.heldout, config.evaluation.max_prompts),
        ):
            if source is not None:
                report = prompt_files.measure(source, tokenizer, budget, most, config.reward.reference_field)
                findings += _about_prompts(key, report, budget, flags)
                if key == "data.train":
                    prompts = min(report.kept, flags.data_max_samples)
                    if prompts < report.kept:
                        sentence = f"the first {prompts:,} of {report.kept:,} prompts are trained on"
                        findings.append(Finding(Severity.NOTE, "data", sentence, "that is openrlhf.data.max_samples"))
    except LongRewardError as error:
        findings.append(Finding(Severity.PROBLEM, "data", *_halves(str(error))))
    return findings, prompts


def _about_prompts(key: str, report: prompt_files.Report, budget: int, flags: Flags) -> Iterator[Finding]:
    longest = f"the longest has {report.longest_uncut:,} tokens, the budget is {budget:,}"
    yield Finding(Severity.OK, "data", f"{key}: {report.kept:,} prompts kept; {longest}")
    if report.cut:
        whole = report.longest_uncut + flags.rollout_max_new_tokens
        sentence = f"{key}: {report.cut:,} prompts over the budget are cut in the middle of the document"
        yield Finding(Severity.NOTE, "data", sentence, f"openrlhf.data.max_len={whole} would keep all of them whole")
    if report.broken:
        sentence = f"{key}: {len(report.broken):,} unreadable rows are passed over; the first: {report.broken[0]}"
        yield Finding(Severity.NOTE, "data", sentence, "mend them if they matter")


def _batches(flags: Flags, prompts: int | None) -> list[Finding]:
    batch, steps = flags.prompts_per_step, flags.steps(prompts or 0)
    answers = f"{batch} prompts x {flags.rollout_n_samples_per_prompt} answers"
    each = f"train.batch_size is {flags.train_batch_size}"
    whole = f"{steps} steps of {answers}" if prompts else f"steps of {answers}"
    return preflight.steps(flags, prompts) or [Finding(Severity.OK, "batches", f"{whole}; {each}")]


def _disk(config: RunConfig, flags: Flags, prompts: int | None) -> Iterator[Finding]:
    yield from disk.findings(config, flags, prompts)
    every, steps = flags.ckpt_save_steps, flags.steps(prompts) if prompts else None
    if every < 0 or flags.ckpt_disable_ds:
        yield Finding(
            Severity.NOTE, "disk", "no checkpoint is saved: a crash loses everything", "set openrlhf.ckpt.save_steps=20"
        )
    elif steps is not None and every > steps:
        sentence = f"a checkpoint is saved every {every} steps and the run has {steps}: a crash loses everything"
        yield Finding(Severity.NOTE, "disk", sentence, "lower openrlhf.ckpt.save_steps")


def _cost(config: RunConfig, flags: Flags, episode: Estimate, prompts: int) -> Iterator[Finding]:
    judge, steps = config.reward.judge, flags.steps(prompts)
    whole = judge_estimate.of_run(config, flags, episode)
    heldout = " and the held-out scores" if config.data.heldout else ""
    sentence = f"{steps} steps{heldout} take about {in_words(whole, judge.price)} of the judge, retries left out"
    yield Finding(Severity.OK, "cost", sentence)
    yield from settings_checks.spend(whole, judge)


def _pace(
    config: RunConfig, flags: Flags, episode: Estimate, prompts: int, latency_s: float | None
) -> Iterator[Finding]:
    """Whether the judge can keep up. How long generation takes nobody knows before; so the other way round."""
    if latency_s is None:
        yield Finding(Severity.NOTE, "pace", "no judge call was measured: how fast a step is judged cannot be told")
        return
    batch, samples = flags.prompts_per_step, flags.rollout_n_samples_per_prompt
    step = episode.scaled(min(batch, prompts) / prompts)
    found = throughput(step, config.reward.judge, latency_s)
    seconds = duration(found.seconds)
    yield Finding(
        Severity.OK,
        "pace",
        f"a step of {batch} prompts x {samples} answers asks {in_words(step, config.reward.judge.price)}: at "
        f"{latency_s:.2g} s a call at least {seconds} of judging, by {found.limit}. Answers are judged while others "
        f"are generated, so the judge holds nothing up where generating a step takes longer than {seconds}; the last "
        f"ones add {duration(2 * latency_s)}",
    )
    if found.seconds > config.reward.answer_timeout_s:
        sentence = f"answers that wait longer than reward.answer_timeout_s={config.reward.answer_timeout_s:g} are void"
        action = f"raise it over {seconds}, or the limit that decides"
        yield Finding(Severity.NOTE, "pace", sentence, action)


def _halves(text: str) -> Iterable[str]:
    """An error's sentence and its next action."""
    sentence, _, action = text.rpartition("; ")
    return (sentence, action) if sentence else (text,)


if __name__ == "__main__":
    sys.exit(main())
