"""What a training run will ask of its judge, before anything is spent: from its configuration and its prompt files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from longreward.config import HelpfulnessConfig, JudgeConfig
from longreward.preflight.estimate import Estimate, estimate
from longreward.text.amounts import in_words
from rl.config import RunConfig
from rl.data import prompt_files
from rl.trainer.openrlhf_flags import Flags

_LOOKED_INTO = 50  # documents of a file, as for `longreward score`


def of_episode(config: RunConfig, flags: Flags) -> Estimate:
    """Judge calls, tokens and cost of training once on all prompts."""
    return _estimate(config, flags, config.data.train, flags.data_max_samples, flags.rollout_n_samples_per_prompt)


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
        evaluation = config.evaluation
        rated = config.model_copy(
            update={"reward": config.reward.model_copy(update={"helpfulness": HelpfulnessConfig()})}
        )
        once = _estimate(rated, flags, config.data.heldout, evaluation.max_prompts, evaluation.n_samples_per_prompt)
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
    rows = prompt_files.rows(source, [], config.reward.reference_field)
    prompts = ((row.context, row.query) for row in islice(rows, max_prompts))
    tokens = max(1, flags.rollout_max_new_tokens // 2)
    return estimate(prompts, config.reward, answers_per_prompt=answers, answer_tokens=tokens, sample=_LOOKED_INTO)
