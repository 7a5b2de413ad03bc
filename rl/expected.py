"""What a training run will ask of its judge, from its configuration and its prompt files, before anything is spent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longreward import store
from longreward.estimate import Estimate, estimate
from rl.config import RunConfig


def expected(config: RunConfig, flags: Mapping[str, Any]) -> Estimate:
    """Judge calls, tokens and cost of the whole run: training, and the held-out set before and after it.

    `flags` are OpenRLHF's. Answers are taken to be half as long as they may be.
    """
    tokens = max(1, flags["rollout.max_new_tokens"] // 2)
    most, samples = flags["data.max_samples"], flags["rollout.n_samples_per_prompt"]
    total = estimate(
        _prompts(config.data.train, most), config.reward, answers_per_prompt=samples, answer_tokens=tokens
    ).scaled(flags["train.num_episodes"])
    if config.data.heldout is None:
        return total
    heldout = estimate(
        _prompts(config.data.heldout, config.evaluation.max_prompts or math.inf),
        config.reward,
        answers_per_prompt=config.evaluation.n_samples_per_prompt,
        answer_tokens=tokens,
    ).scaled(2)
    return Estimate(
        **(total + heldout).model_dump(),
        answers=total.answers + heldout.answers,
        documents=total.documents + heldout.documents,
        sampled=total.sampled + heldout.sampled,
        dimensions={name: usage + heldout.dimensions[name] for name, usage in total.dimensions.items()},
    )


def sentence(found: Estimate, *, priced: bool) -> str:
    cost = f", cost {found.cost:,.2f}" if priced else ""
    return f"expected: about {found.calls:,} judge calls, {found.tokens:,} tokens{cost} for {found.answers:,} answers"


def _prompts(source: Path, most: float) -> Iterator[tuple[str, str]]:
    broken: list[str] = []
    for count, (_, row) in enumerate(store.read(source, broken)):
        if count >= most:
            return
        if isinstance(row.get("context"), str) and isinstance(row.get("query"), str):
            yield row["context"], row["query"]
