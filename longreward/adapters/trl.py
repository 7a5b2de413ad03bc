"""LongReward as the reward functions of TRL's GRPOTrainer and RLOOTrainer. Written for TRL 1.16.0.

    rewards = longreward_rewards("reward.yaml", per_dimension=True)
    args = GRPOConfig(reward_weights=rewards.reward_weights, ...)
    trainer = GRPOTrainer(model, reward_funcs=rewards, args=args, train_dataset=dataset)

What TRL 1.16.0 does with the None of a void reward: a completion that is None to *every* reward function is left out of
its group's mean and standard deviation, and its advantage is 0 (GRPOTrainer applies the KL penalty of beta > 0 to it).
A completion that is None to *some* is summed without them, as if they had given 0. Hence an answer without one of its
dimensions is None in all columns here, and other reward functions beside these belong into `others`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from longreward.adapters.background import BackgroundReward
from longreward.adapters.config import Config, divided, resolve
from longreward.errors import ConfigError, InputError
from longreward.rows.criteria import criteria_in
from longreward.schema import Reward, Sample
from longreward.voids import VoidWindow, mean

logger = logging.getLogger(__name__)
ColumnValues = list[float | None]
ColumnFunction = Callable[..., Awaitable[ColumnValues]]
"""A reward function as TRL takes it: prompts, completions and the columns in, a value per completion out."""


class RewardFunctions(list[Any]):
    """What GRPOTrainer takes as `reward_funcs`, and the weights that belong to it."""

    reward_weights: list[float]
    """One weight per function, for GRPOConfig. With those of LongReward's dimensions the sum is the total, 0..10."""


def longreward_rewards(
    config: Config,
    *,
    per_dimension: bool = False,
    others: Iterable[Callable[..., Any]] = (),
    other_weights: Sequence[float] | None = None,
    context: str = "context",
    query: str = "query",
    criteria: str = "criteria",
    max_void_rate: float = 0.5,
    void_window: int = 256,
    processes: int | None = None,
) -> RewardFunctions:
    """LongReward's reward functions: `longreward`, the total in 0..10, or with `per_dimension` one per dimension that
    has a weight (`longreward_faithfulness`, ...), all of which share one scoring of each answer. None where void.

    `others`: further reward functions of the trainer, sync or async, with `other_weights` (default 1 each). They are
    None where LongReward is void, so that no answer is trained on with a part of its reward.
    `context`, `query`: the dataset's columns with the document and the question. A row that has None in both is not for
    LongReward: it gets None here, and `others` decide.
    `criteria`: the column with the criteria, where these have a weight.
    `max_void_rate`: TooManyVoidsError ends training when more than this share of a process's last `void_window` answers
    is void; 1 never does.
    `processes`: how many processes divide the judge's limits and spend among them; the launcher's WORLD_SIZE when None.

    ConfigError for a configuration that cannot work. The functions raise InputError for a column that is not there.
    """
    if processes is None:
        processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings = resolve(config)
    columns = (context, query, criteria) if settings.uses_criteria else (context, query)
    scoring = _Scoring(BackgroundReward(divided(settings, processes)), columns, max_void_rate, void_window)
    others = list(others)
    weights = [1.0] * len(others) if other_weights is None else list(other_weights)
    if len(weights) != len(others):
        raise ConfigError(f"other_weights has {len(weights)} weights for {len(others)} functions; give one for each")
    rewards = RewardFunctions(scoring.column(name) for name in (settings.needed if per_dimension else ["total"]))
    rewards.extend(scoring.beside(other) for other in others)
    shares = [1.0]
    if per_dimension:
        parts = [settings.weights.get(name, 0.0) for name in settings.needed]  # none for what is only a gate
        shares = [part / sum(parts) for part in parts]
    rewards.reward_weights = shares + weights
    return rewards


@dataclass
class _Batch:
    """The answers that TRL hands to all its functions at once. None: a row that is not for LongReward."""

    samples: list[Sample | None]
    scoring: Future[list[Reward]]
    takers: set[object] = field(default_factory=set)


class _Scoring:
    """Scores a batch once, whatever the number of functions that TRL calls with it."""

    def __init__(
        self, reward: BackgroundReward, columns: Sequence[str], max_void_rate: float, void_window: int
    ) -> None:
        """`columns`: those of document and question, and of the criteria where these are needed."""
        self._reward, self._columns = reward, columns
        self._voids = VoidWindow(
            max_void_rate, void_window, setting="max_void_rate", then="continue from the last checkpoint"
        )
        self._batch: _Batch | None = None

    def column(self, name: str) -> ColumnFunction:
        """The function that gives the total or one dimension of each answer."""

        async def column(prompts: Any, completions: list[Any], **about: Any) -> ColumnValues:
            rewards = await self._rewards(column, completions, about)
            return [
                None if reward is None or reward.scores is None else reward.scores[name] * _share(reward, name)
                for reward in rewards
            ]

        column.__name__ = "longreward" if name == "total" else f"longreward_{name}"
        return column

    def beside(self, other: Callable[..., Any]) -> ColumnFunction:
        """Another reward function, None where LongReward is void."""

        async def beside(prompts: Any, completions: list[Any], **about: Any) -> ColumnValues:
            values = other(prompts=prompts, completions=completions, **about)
            if inspect.isawaitable(values):
                values = await values
            rewards = await self._rewards(beside, completions, about)
            return [
                None if reward is not None and reward.total is None else value
                for reward, value in zip(rewards, values, strict=True)
            ]

        beside.__name__ = getattr(other, "__name__", type(other).__name__)
        return beside

    async def _rewards(self, taker: object, completions: list[Any], about: dict[str, Any]) -> list[Reward | None]:
        columns = [_column(about, name) for name in self._columns]
        samples = [_sample(*row) for row in zip(completions, *columns, strict=True)]
        batch = self._batch
        if batch is None or taker in batch.takers or batch.samples != samples:
            scoring = self._reward.submit(sample for sample in samples if sample is not None)
            batch = self._batch = _Batch(samples, scoring)
        first = not batch.takers
        batch.takers.add(taker)
        # Shielded: one function that is cancelled must not take the others' scores along.
        scored = await asyncio.shield(asyncio.wrap_future(batch.scoring))
        following = iter(scored)
        rewards = [None if sample is None else next(following) for sample in samples]
        if first:
            self._report(rewards, about)
        return rewards

    def _report(self, rewards: list[Reward | None], about: dict[str, Any]) -> None:
        """To TRL's log and to ours; TooManyVoidsError where the judge fails."""
        mine = [reward for reward in rewards if reward is not None]
        if not mine:
            return
        names = ["total", *mine[0].dimensions]
        valid = [reward.scores for reward in mine if reward.scores is not None]
        void = [reward for reward in mine if reward.total is None]
        if "log_metric" in about:
            metrics = mean(valid) if valid else {}
            metrics["void"] = len(void) / len(mine)
            metrics["judge_calls"] = sum(reward.usage.calls for reward in mine) / len(mine)
            metrics["judge_cost"] = sum(reward.usage.cost for reward in mine) / len(mine)
            for name, value in metrics.items():
                about["log_metric"](f"longreward/{name}", value)
        if "log_extra" in about:
            for name in names:
                about["log_extra"](f"longreward/{name}", [((r and r.scores) or {}).get(name) for r in rewards])
            about["log_extra"]("longreward/void", [reward.why_void if reward else "" for reward in rewards])
        if void:
            reasons = Counter(reward.why_void for reward in void).most_common()
            told = ", ".join(f"{count} {reason}" for reason, count in reasons)
            logger.warning("%d of %d answers have no reward and are not trained on: %s", len(void), len(mine), told)
        for reward in mine:
            self._voids.add(reward.total is None, reward.status)


def _share(reward: Reward, name: str) -> float:
    """What counts of a dimension, so that the columns add up to the total."""
    return 1.0 if name == "total" else reward.kept


def _column(about: dict[str, Any], name: str) -> list[Any]:
    if name not in about:
        own = {"completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}
        known = ", ".join(sorted(about.keys() - own)) or "none"
        raise InputError(
            f"the dataset has no column {name!r} beside prompt (there: {known}); name the column of the document with "
            "context=..., that of the question with query=... and that of its criteria with criteria=..."
        )
    column: list[Any] = about[name]
    return column


def _sample(completion: Any, context: Any, query: Any, *criteria: Any) -> Sample | None:
    if context is None and query is None:
        return None
    for name, value in (("context", context), ("query", query)):
        if not isinstance(value, str):
            raise InputError(f"the {name} of a row is {value!r}; it must be text, or None in both columns")
    try:
        wanted = criteria_in(*criteria) if criteria else ()
    except ValueError as error:
        raise InputError(f"the row that asks {query[:60]!r}: {error}") from None
    return Sample(context=context, query=query, answer=_text(completion), criteria=wanted)


def _text(completion: Any) -> str:
    """The policy's answer: the completion itself if it is a text, or its last message if the policy wrote that one."""
    if isinstance(completion, str):
        return completion
    last = completion[-1] if completion else {}
    content = last.get("content") if last.get("role") == "assistant" else ""
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(part.get("text", "") for part in content)
