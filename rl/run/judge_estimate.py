"""What a training run will ask of its judge, before anything is spent: from its configuration and its prompt files."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from longreward.config import HelpfulnessConfig, JudgeConfig
from longreward.evaluation import EvaluationItem, Kind, compare, score
from longreward.judge import Judge, Verdict
from longreward.judge.engine.spend_cap import priced
from longreward.judge.requests.base import JudgeRequest
from longreward.judge.requests.evaluation import CompareAnswers
from longreward.preflight.counting import Prompt
from longreward.preflight.estimate import Estimate, estimate
from longreward.prompts import OURS
from longreward.schema import JudgeCall, Usage
from longreward.text.amounts import in_words
from longreward.text.tokens import tokens_in
from rl.config import RunConfig
from rl.data import prompt_files
from rl.trainer.openrlhf_flags import Flags

T = TypeVar("T")
_ANALYSIS_TOKENS = 150  # of a grade's reply
_LOOKED_INTO = 50  # documents of a file, as for `longreward score`


def of_episode(config: RunConfig, flags: Flags) -> Estimate:
    """Judge calls, tokens and cost of training once on all prompts."""
    return _estimate(config, flags, config.data.train, flags.data_max_samples, flags.rollout_n_samples_per_prompt)


def of_heldout(config: RunConfig, flags: Flags) -> Estimate:
    """Judge calls, tokens and cost of scoring the held-out set once, which is always rated."""
    assert config.data.heldout is not None
    evaluation = config.evaluation
    rated = config.model_copy(update={"reward": config.reward.model_copy(update={"helpfulness": HelpfulnessConfig()})})
    return _estimate(rated, flags, config.data.heldout, evaluation.max_prompts, evaluation.n_samples_per_prompt)


def of_grading(
    config: RunConfig, flags: Flags, graded: Mapping[Kind, Sequence[EvaluationItem]], policies: int
) -> Usage:
    """Judge calls, tokens and cost of grading one answer of each policy to each item, at the most: all of an item's
    references are asked about only where none of them gets the highest grade."""
    judge, usage = _GradeCounter(config.grader), Usage()
    answer = "word " * round(flags.rollout_max_new_tokens // 2)
    for kind, items in graded.items():
        told = {item.id: answer for item in items}
        if kind == "short":
            outcomes = asyncio.run(compare(items, told, {key: f"{text}." for key, text in told.items()}, judge))
            usage += sum((one.usage for one in outcomes), Usage())
        else:
            outcomes = asyncio.run(score(items, told, judge))
            usage += sum((one.usage for one in outcomes), Usage()).times(policies)
    return priced(usage, config.grader.price)


class _GradeCounter(Judge):
    """Gives the lowest grade, so that everything is asked, and counts tokens."""

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        form = self._config.form
        prompt, reply = round(tokens_in(request.text(OURS, form))), _ANALYSIS_TOKENS if form.analysis else 10
        usage = Usage(calls=1, prompt_tokens=prompt, completion_tokens=reply)
        value: Any = "tie" if isinstance(request, CompareAnswers) else 1.0
        return Verdict(value, JudgeCall(kind=request.kind, attempts=1, usage=usage))


def expected(config: RunConfig, flags: Flags, episode: Estimate | None = None) -> Estimate:
    """Judge calls, tokens and cost of the whole run: training, what is scored twice to watch the judge, and the
    held-out set before, while and after it trains.

    Answers are taken to be half as long as they may be. `episode`: what `of_episode` returned, where that is known.
    """
    episode = episode or of_episode(config, flags)
    total = episode.scaled(flags.train_num_episodes)
    parts = [total, total.scaled(config.watch.noise_share)]
    if config.shadow_reward is not None and config.watch.shadow is not None and config.shadow_reward.asks_judge:
        shadowed = of_episode(config.model_copy(update={"reward": config.shadow_reward}), flags)
        parts.append(shadowed.scaled(flags.train_num_episodes * config.watch.shadow.share))
    if config.data.heldout is not None:
        once = of_heldout(config, flags)
        evaluated = flags.eval_dataset and flags.eval_steps > 0
        parts.append(once.scaled(2 + (flags.steps(episode.documents) // flags.eval_steps if evaluated else 0)))
    whole = parts[0]
    for part in parts[1:]:
        whole = Estimate(
            **(whole + part).model_dump(),
            answers=whole.answers + part.answers,
            documents=whole.documents + part.documents,
            sampled=whole.sampled + part.sampled,
            dimensions={name: usage + part.dimensions[name] for name, usage in whole.dimensions.items()},
        )
    return whole


def sentence(found: Estimate, judge: JudgeConfig) -> str:
    return f"the judge is expected to be asked about {in_words(found, judge)} for {found.answers:,} answers"


def _estimate(config: RunConfig, flags: Flags, source: Path, max_prompts: int | None, answers: int) -> Estimate:
    """The judge's work for `answers` answers to each prompt that can be prepared from a file."""
    reward = config.reward
    rows = prompt_files.rows(source, [], reward.reference_field, criteria=reward.uses_criteria)
    prompts = (Prompt(row.context, row.query, row.criteria) for row in islice(rows, max_prompts))
    tokens = max(1, flags.rollout_max_new_tokens // 2)
    return estimate(prompts, reward, answers_per_prompt=answers, answer_tokens=tokens, sample=_LOOKED_INTO)
