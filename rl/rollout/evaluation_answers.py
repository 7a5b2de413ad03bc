"""A policy's answers to the items of an evaluation, by the run's engines, and the judge that longreward/evaluation
scores them with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from longreward.evaluation import EvaluationItem
from longreward.judge import Judge, make_judge
from longreward.judge.cache import VerdictCache
from rl.config import RunConfig
from rl.data.prompt_files import PromptReport, renderer
from rl.data.prompts import Label
from rl.rollout.engines import Engines


@asynccontextmanager
async def opened_judge(config: RunConfig) -> AsyncIterator[Judge]:
    """The run's judge in this process, with the run's cache. For evaluations: it knows nothing of the judge workers'
    spending."""
    judge = make_judge(config.reward.judge, VerdictCache.of(config.reward.cache, config.directory))
    try:
        yield judge
    finally:
        await judge.aclose()


def judge_name(config: RunConfig) -> str:
    """The judge as tables name it."""
    return config.reward.judge.model or config.reward.judge.kind


def answers(
    items: Sequence[EvaluationItem], engines: Engines, temperature: float
) -> tuple[dict[str, str], PromptReport]:
    """One answer to each item, by id, and what became of the prompts: documents over the budget are cut in the middle.

    ConfigError for a question that alone exceeds it.
    """
    report = PromptReport()
    render = renderer(engines.tokenizer, engines.max_len - engines.max_new_tokens, "evaluation", report)
    rows = []
    for item in items:
        row = render(item.id, item.context, "" if item.query_in_context else item.query)
        rows.append(row | {"label": replace(Label.from_json(row["label"]), scored=False).to_json()})
    report.kept = len(rows)
    found = {}
    for (rollout,) in engines.rollouts(rows, temperature, 1):
        found[Label.from_json(rollout["label"]).id] = rollout["answer"]
        # To the log: the watchdog takes it for the sign of life that unscored answers do not give otherwise.
        print(f"evaluation: {len(found)} of {len(rows)} answers", flush=True)
    return found, report
