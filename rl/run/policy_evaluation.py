"""Policies evaluated one after the other: their answers, what the judge says of them, and the page that shows it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longreward.errors import ConfigError
from longreward.evaluation import EvaluationItem, Kind, compare, load, score, summarise, summarise_pairs
from longreward.files import jsonlines
from longreward.report.reading.sources import POLICIES
from rl.config import RunConfig
from rl.data.prompt_files import prepare
from rl.monitor import progress
from rl.rollout import evaluation_answers, heldout_scores
from rl.rollout.engines import rollout_engines
from rl.rollout.heldout_scores import HeldoutScores
from rl.run import online_training, run_directory
from rl.run.session import Session


@dataclass
class Evaluated:
    """What one policy said and got."""

    name: str
    heldout: HeldoutScores | None = None
    answers: dict[Kind, dict[str, str]] = field(default_factory=dict)
    """By evaluation and item."""


def evaluate_policies(run: Session, models: Sequence[str], sets: Mapping[Kind, list[EvaluationItem]]) -> None:
    """Sample each policy's answers, have them judged, and write summary.json and evaluation.md."""
    config, names = run.config, names_of(models)
    policies: list[Evaluated] = []
    sampled: list[dict[str, Any]] = []
    for model, name in zip(models, names, strict=True):
        # The store has the answers of all of them: those of one were scored before the next one began.
        sampled.append({"name": name, "model": model, "begun": time.time()})
        jsonlines.write_json(config.directory / POLICIES, {"policies": sampled})
        with online_training.watched(run):
            policies.append(_sample(run, model, name, sets))
    summary: dict[str, Any] = {"kind": "evaluation", "models": dict(zip(names, models, strict=True))}
    page = [f"# {' against '.join(reversed(names))}", f"Judge: {evaluation_answers.judge_name(config)}."]
    heldout = [policy.heldout for policy in policies if policy.heldout is not None]
    if heldout:
        page.append(heldout_scores.markdown(names, heldout))
        summary |= progress.show_heldout(run.console, heldout, names)
    for kind, items in sets.items():
        run.say(f"judging the answers to {kind}")
        result = asyncio.run(_judged(config, kind, items, policies))
        summary[kind] = result.to_json()
        page.append(result.markdown())
        run.console.print(result.markdown(), highlight=False, markup=False, soft_wrap=True)
    run_directory.write_summary(config, summary)
    jsonlines.write_text(config.directory / "evaluation.md", "\n\n".join(page) + "\n")
    run.say(f"done; summary.json, evaluation.md and the answers are in {config.directory}")


def load_sets(config: RunConfig, *, two: bool) -> dict[Kind, list[EvaluationItem]]:
    """The items of each evaluation that is configured; rows that cannot be used are named."""
    section, broken = config.evaluation, list[str]()
    paths: dict[Kind, Path | None] = {"longbench": section.longbench, "longbench_chat": section.longbench_chat}
    if two:
        paths["short"] = section.short
    elif section.short is not None:
        raise ConfigError("evaluation.short compares two policies: give --model and --against")
    few_shots = {"longbench_chat": section.few_shots}
    given = [(kind, path) for kind, path in paths.items() if path is not None]
    sets = {kind: load(path, kind, broken, few_shots=few_shots.get(kind)) for kind, path in given}
    for problem in broken:
        print(f"evaluate: skipped: {problem}", file=sys.stderr)
    if not sets and config.data.heldout is None:
        raise ConfigError(
            "there is nothing to evaluate on: set data.heldout, evaluation.longbench, longbench_chat or short"
        )
    return sets


def _sample(run: Session, model: str, name: str, sets: Mapping[Kind, list[EvaluationItem]]) -> Evaluated:
    config, evaluated = run.config, Evaluated(name)
    with rollout_engines(config, model, run.flags) as engines:
        if config.data.heldout is not None:
            run.say(f"scoring {name} on the held-out documents")
            # Rendered with this policy's own chat template, which need not be the configuration's.
            prompts = config.directory / "data" / f"heldout-{name}.jsonl"
            budget = engines.max_len - engines.max_new_tokens
            most, field = config.evaluation.max_prompts, config.reward.reference_field
            criteria, tokenizer = config.reward.uses_criteria, engines.tokenizer
            prepare(config.data.heldout, prompts, tokenizer, budget, "heldout", most, field, criteria=criteria)
            evaluated.heldout = heldout_scores.evaluate(config, engines, prompts)
        for kind, items in sets.items():
            run.say(f"sampling {name}'s answers to {kind}")
            evaluated.answers[kind], report = evaluation_answers.answers(items, engines, config.evaluation.temperature)
            run.say(f"{kind}: {report.sentence()}")
    return evaluated


async def _judged(config: RunConfig, kind: Kind, items: list[EvaluationItem], policies: Sequence[Evaluated]) -> Any:
    name, strip = evaluation_answers.judge_name(config), config.reward.strip_thoughts
    async with evaluation_answers.opened_judge(config) as judge:
        if kind == "short":
            first, last = policies
            both = first.answers[kind], last.answers[kind]
            compared = await compare(items, *both, judge, strip_thoughts=strip)
            _keep(config, kind, "compared", [one.record() for one in compared])
            return summarise_pairs(first.name, last.name, compared, name)
        scored = {
            policy.name: await score(items, policy.answers[kind], judge, strip_thoughts=strip) for policy in policies
        }
    for policy in policies:
        records = [one.record() | {"answer": policy.answers[kind].get(one.item.id)} for one in scored[policy.name]]
        _keep(config, kind, policy.name, records)
    return summarise(scored, name)


def _keep(config: RunConfig, kind: Kind, name: str, records: list[dict[str, Any]]) -> None:
    folder = config.directory / "answers"
    folder.mkdir(exist_ok=True)
    jsonlines.rewrite(folder / f"{kind}-{name}.jsonl", records)


def names_of(models: Sequence[str]) -> list[str]:
    """Short and different: the last parts of the paths, as many as it takes."""
    parts = [Path(model).parts for model in models]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return [name.replace("/", "") for name in names]
    raise ConfigError(f"--model and --against are the same policy, {models[0]}")
