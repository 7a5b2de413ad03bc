"""Plans of DPO and SFT runs: an online run's plan, with the learners and the files that only they have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from longreward import rows, store
from longreward.preflight.finding import Finding
from rl.config import RunConfig
from rl.data import prompt_files
from rl.offline import published_files, sft_examples
from rl.offline.config import STAGES, DpoConfig, FinetuneConfig, SftConfig
from rl.plan import Resources, RunPlan
from rl.run import planning
from rl.run.checks import policy_tokenizer
from rl.run.checks.files import unusable
from rl.run.openrlhf_command import directories_and_tracking
from rl.trainer import learner_process, learner_programs
from rl.trainer.learner_programs import DPO, SFT, Program
from rl.trainer.model_folder import looks_local, missing_model
from rl.trainer.openrlhf_flags import Flags

F = TypeVar("F", bound=FinetuneConfig)


def plan_dpo(
    config: DpoConfig, stages: Sequence[str] = STAGES, *, resume: bool | None = None, counts_prompts: bool = False
) -> RunPlan[DpoConfig]:
    """Plan the stages of a DPO run. Arguments and errors as for `planning.make`; of what only training reads nothing is
    looked at where it is not among the stages."""
    engines = _starts_engines(config, stages)
    plan = planning.make(config, "dpo", resume=resume, counts_prompts=counts_prompts, engines=engines)
    if not asks(config, stages):
        plan = replace(plan, resources=Resources.none())
    found = [*_answers(plan.config, stages), *_gpus(plan)]
    if plan.uses_ray and plan.config.starts_judge and plan.device == "gpu" and "train" in stages:
        sentence = "reward.judge.kind is vllm, and its GPUs would not be free for train_dpo"
        action = "run the stages one by one (--stage), or serve the judge elsewhere (reward.judge.kind=openai)"
        found.append(Finding.problem("GPUs", sentence, action))
    if "train" not in stages:
        return replace(plan, findings=(*plan.findings, *found))
    found += _pairs(plan.config)
    return _with_learners(plan, DPO, plan.config.train_dpo, found)


def plan_sft(config: SftConfig) -> RunPlan[SftConfig]:
    """Plan an SFT run. Errors as from `planning.make`."""
    plan = planning.make(config, "sft")
    return _with_learners(plan, SFT, plan.config.train_sft, list(_supervised(plan.config, plan.flags)))


def plan_any(config: RunConfig, *, counts_prompts: bool = False) -> RunPlan[RunConfig]:
    """Plan a run of whatever kind the configuration is of."""
    if isinstance(config, SftConfig):
        return plan_sft(config)
    if isinstance(config, DpoConfig):
        return plan_dpo(config, counts_prompts=counts_prompts)
    return planning.make(config, "online", counts_prompts=counts_prompts)


def asks(config: DpoConfig, stages: Sequence[str]) -> bool:
    """Whether the stages generate or score anything."""
    return _starts_engines(config, stages) or ("collect" in stages and config.collect.pairs is None)


def _starts_engines(config: DpoConfig, stages: Sequence[str]) -> bool:
    collects, wanted = "collect" in stages, config.collect
    elsewhere = wanted.pairs is not None or wanted.responses is not None or wanted.served is not None
    return (collects and not elsewhere) or (config.evaluates and (collects or "evaluate" in stages))


def _gpus(plan: RunPlan[DpoConfig]) -> Iterator[Finding]:
    """A note where collecting takes more GPUs at once than the machine has that the learners are for."""
    needed = plan.resources
    there = learner_process.count_learners(plan.config.processes, plan.device) if plan.device == "gpu" else 0
    if 0 < there < needed.gpus:
        sentence = f"collecting takes {needed.gpus} GPUs at once ({needed.parts}), and training {there} of one machine"
        action = "lower openrlhf.vllm.num_engines or reward.workers, or give Ray as many as that (ray.address)"
        yield Finding.note("GPUs", sentence, action)


def _with_learners(plan: RunPlan[F], program: Program, section: dict[str, Any], found: Sequence[Finding]) -> RunPlan[F]:
    """The plan with the learners of `program`, whose flags are `section`; with what was found and what they find."""
    owned = {"data.dataset": plan.config.examples, **directories_and_tracking(plan.config)}
    count = learner_process.count_learners(plan.config.processes, plan.device)
    learners = learner_programs.learners(program, section, owned, plan.flags, plan.device, count)
    return replace(plan, learners=learners, findings=(*plan.findings, *found, *learners.findings()))


def _supervised(config: SftConfig, flags: Flags) -> Iterator[Finding]:
    """Problems with what is trained on, and with the tokenizer that makes prompts of it."""
    data = config.data
    for name, path in (("data.train", data.train), ("data.conversations", data.conversations)):
        # That data.train does not exist is told with the other files.
        if path is not None and (rows.exists(path) or name != "data.train"):
            yield from unusable(name, path, published_files.sft, "context, query and answer, or with messages")
    if data.conversations is not None and data.conversations.resolve() == data.train.resolve():
        sentence = f"data.conversations {data.conversations} is the file of data.train"
        yield Finding.problem("files", sentence, "leave data.conversations out: one file may hold both")
    template = data.chat_template
    if template is not None and looks_local(template) and not Path(template).exists():
        sentence = f"data.chat_template {template} does not exist"
        yield Finding.problem("files", sentence, "give a Jinja file, or a model whose tokenizer has a template")
    elif all(looks_local(one) for one in (flags.policy, template or ".")) and not missing_model("", flags.policy):
        trusted = config.run.trust_remote_code
        yield from policy_tokenizer.of_loaded(
            lambda: sft_examples.tokenizer_of(config, flags, trust_remote_code=trusted)
        )


def _answers(config: DpoConfig, stages: Sequence[str]) -> Iterator[Finding]:
    """Problems with answers that come from elsewhere."""
    own, lacking = config.directory / "store", "holds no answers (no answers-*.jsonl)"
    source = config.collect.responses
    if source is not None and "collect" in stages:
        if source.resolve() == own.resolve():
            action = "give the run that scores them anew a name of its own (run.name)"
            yield Finding.problem("files", f"collect.responses {source} is the store of this very run", action)
        elif not store.files(source) and (source.name == "store" or (source / "store").is_dir()):
            action = "give a file of responses, or the store/ folder of a run"
            yield Finding.problem("files", f"collect.responses {source} {lacking}", action)
        elif not store.files(source):
            yield from _responses(config, source)
    if "pair" in stages and config.collect.pairs is None:
        if config.pair.by == "contrast" and rows.exists(config.data.train):
            wanted = "context, query and answer, which pair.by=contrast chooses"
            yield from unusable("data.train", config.data.train, _answered, wanted)
        if "collect" not in stages and not config.collect.stores and not store.files(own):
            yield Finding.problem("files", f"{own} {lacking}", "run the stage collect before")
        groups = len(config.collect.stores) + ("collect" in stages or bool(store.files(own)))
        if groups > 1 and config.reward.ranks and config.pair.by != "contrast":
            sentence = "collect.stores holds answers of other groups, and reward.helpfulness.way is ranking: a place"
            action = "take collect.stores out, or set reward.helpfulness.way=rating"
            yield Finding.problem("reward", f"{sentence} in one group says nothing in another", action)
        for folder in config.collect.stores:
            if not store.files(folder):
                why = lacking if folder.is_dir() else "does not exist"
                yield Finding.problem("files", f"collect.stores {folder} {why}", "give the store/ folder of a run")


def _responses(config: DpoConfig, source: Path) -> Iterator[Finding]:
    """Problems with a file of answers that the reward is to score."""
    # Nothing is known there of the rendered prompt, nor of reference answers.
    asking = ["reference", "remote"] + ["openrlhf"] * (config.reward.openrlhf.reads == "prompt")
    if unknown := [name for name in asking if name in config.reward.parts]:
        sentence = (
            f"collect.responses cannot be scored by reward {unknown[0]}, which needs the prompt or reference "
            "answers that are not there"
        )
        other = "reward.openrlhf.reads=query" if unknown[0] == "openrlhf" else "reward.name=longreward"
        action = f"leave collect.responses out and generate the answers, or set {other}"
        yield Finding.problem("reward", sentence, action)
    elif rows.exists(config.data.train):
        criteria = config.reward.uses_criteria
        wanted = f"idx, query and answer, and a context{' and criteria' if criteria else ''} there or in data.train"
        read = partial(published_files.responses, sft=config.data.train, criteria=criteria)
        yield from unusable("collect.responses", source, read, wanted)


def _answered(source: Path, broken: list[str]) -> Iterator[prompt_files.Row]:
    """The rows with an answer of their own."""
    return (row for row in prompt_files.rows(source, broken) if row.answer.strip())


def _pairs(config: DpoConfig) -> Iterator[Finding]:
    """Problems with pairs and instructions that come from elsewhere."""
    if config.collect.pairs is not None:
        wanted = "context, query, win_response and lose_response"
        yield from unusable("collect.pairs", config.collect.pairs, published_files.pairs, wanted)
    for name, path in (("short.train", config.short.train), ("short.heldout", config.short.heldout)):
        if path is not None and not rows.exists(path):
            yield Finding.problem("files", f"{name} {path} does not exist", f"correct the path, or leave {name} out")
