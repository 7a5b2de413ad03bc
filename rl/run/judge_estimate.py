"""What a training run will ask of its judge, before anything is spent: from its configuration and its prompt files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from longreward.config import PriceConfig
from longreward.preflight.estimate import Estimate, estimate
from longreward.text.amounts import in_words
from rl.config import RunConfig
from rl.data import prompt_files

_LOOKED_INTO = 50  # documents of a file, as for `longreward score`


def expected(config: RunConfig, flags: Mapping[str, Any]) -> Estimate:
    """Judge calls, tokens and cost of the whole run: training, and the held-out set before and after it.

    `flags` are OpenRLHF's. Answers are taken to be half as long as they may be.
    """
    return of_run(config, flags, of_episode(config, flags))


def of_episode(config: RunConfig, flags: Mapping[str, Any]) -> Estimate:
    """Judge calls, tokens and cost of training once on all prompts."""
    return _estimate(config, flags, config.data.train, flags["data.max_samples"], flags["rollout.n_samples_per_prompt"])


def of_run(config: RunConfig, flags: Mapping[str, Any], episode: Estimate) -> Estimate:
    """As `expected`, where what one episode takes is known already."""
    total = episode.scaled(flags["train.num_episodes"])
    if config.data.heldout is None:
        return total
    evaluation = config.evaluation
    once = _estimate(config, flags, config.data.heldout, evaluation.max_prompts, evaluation.n_samples_per_prompt)
    heldout = once.scaled(2 + _evaluations(flags, episode.documents))
    return Estimate(
        **(total + heldout).model_dump(),
        answers=total.answers + heldout.answers,
        documents=total.documents + heldout.documents,
        sampled=total.sampled + heldout.sampled,
        dimensions={name: usage + heldout.dimensions[name] for name, usage in total.dimensions.items()},
    )


def sentence(found: Estimate, price: PriceConfig) -> str:
    return f"the judge is expected to be asked about {in_words(found, price)} for {found.answers:,} answers"


def counts(flags: Mapping[str, Any], prompts: int) -> tuple[int, int]:
    """Prompts of a full step and steps of the whole run, where `prompts` are trained on in each episode."""
    batch = max(1, min(flags["rollout.batch_size"], generated(flags)))
    return batch, math.ceil(prompts / batch) * flags["train.num_episodes"]


def generated(flags: Mapping[str, Any]) -> int:
    """Prompts whose answers are generated at a time."""
    return int(flags["rollout.vllm_generate_batch_size"] or flags["rollout.batch_size"])


def count_prompts(config: RunConfig, flags: Mapping[str, Any]) -> int:
    """Prompts that an episode trains on, read off data.train as prepare_data reads it."""
    rows = prompt_files.rows(config.data.train, [], config.reward.reference_field)
    return sum(1 for _ in islice(rows, flags["data.max_samples"]))


def _evaluations(flags: Mapping[str, Any], prompts: int) -> int:
    """Of the held-out set, while the run trains."""
    if not flags.get("eval.dataset") or flags["eval.steps"] < 1:
        return 0
    return counts(flags, prompts)[1] // int(flags["eval.steps"])


def _estimate(
    config: RunConfig, flags: Mapping[str, Any], source: Path, max_prompts: int | None, answers: int
) -> Estimate:
    """Of so many answers to each of the prompts that prepare_data takes from a file."""
    rows = prompt_files.rows(source, [], config.reward.reference_field)
    prompts = ((row.context, row.query) for row in islice(rows, max_prompts))
    tokens = max(1, flags["rollout.max_new_tokens"] // 2)
    return estimate(prompts, config.reward, answers_per_prompt=answers, answer_tokens=tokens, sample=_LOOKED_INTO)
