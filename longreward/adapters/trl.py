"""LongReward as the reward functions of TRL's GRPOTrainer, RLOOTrainer and AsyncGRPOTrainer. Written for TRL 1.16.0.

    rewards = longreward_rewards("reward.yaml", per_dimension=True)
    args = GRPOConfig(reward_weights=rewards.reward_weights, ...)
    trainer = GRPOTrainer(model, reward_funcs=rewards, args=args, train_dataset=dataset)

What TRL 1.16.0 does with the None of a void reward: a completion that is None to *every* reward function is left out of
its group's mean and standard deviation, and its advantage is 0 (GRPOTrainer applies the KL penalty of beta > 0 to it).
A completion that is None to *some* is summed without them, as if they had given 0. Hence an answer without one of its
dimensions is None in all columns here, and other reward functions beside these belong into `others`.

AsyncGRPOTrainer pickles the functions into one process of its own, and has no reward_weights: `weighted=True`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from longreward.adapters.background import BackgroundReward
from longreward.adapters.config import Config, divided, resolve
from longreward.config import RewardConfig
from longreward.errors import ConfigError, InputError
from longreward.rows.criteria import criteria_in
from longreward.schema import Reward, Sample
from longreward.voids import VoidWindow, mean

logger = logging.getLogger(__name__)
ColumnValues = list[float | None]


class RewardFunctions(list[Any]):
    """What a trainer takes as `reward_funcs`, and the weights that belong to it. It can be pickled if `others` can."""

    reward_weights: list[float]
    """One weight per function, for GRPOConfig. With those of LongReward's dimensions the sum is the total, 0..10."""


def longreward_rewards(
    config: Config,
    *,
    per_dimension: bool = False,
    others: Iterable[Callable[..., Any]] = (),
    other_weights: Sequence[float] | None = None,
    weighted: bool = False,
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
    `weighted`: the values carry their weights already, and `reward_weights` are all 1: for AsyncGRPOTrainer, which adds
    the values up as they are.
    `context`, `query`: the dataset's columns with the document and the question. A row that has None in both is not for
    LongReward: it gets None here, and `others` decide.
    `criteria`: the column with the criteria, where these have a weight.
    `max_void_rate`: TooManyVoidsError ends training when more than this share of a process's last `void_window` answers
    is void; 1 never does.
    `processes`: how many processes divide the judge's limits and spend among them; the launcher's WORLD_SIZE when None.

    ConfigError for a configuration that cannot work; the functions raise it in a trainer that would leave out their
    weights, and InputError for a column that is not there.
    """
    settings = resolve(config)
    divided(settings, _processes(processes))  # what cannot work is told here, not at the first answer
    columns = (context, query, criteria) if settings.uses_criteria else (context, query)
    others = list(others)
    weights = [1.0] * len(others) if other_weights is None else list(other_weights)
    if len(weights) != len(others):
        raise ConfigError(f"other_weights has {len(weights)} weights for {len(others)} functions; give one for each")
    names: Sequence[str] = ["total"]
    shares = [1.0]
    if per_dimension:
        names = settings.needed
        parts = [settings.weights.get(name, 0.0) for name in settings.needed]  # none for what is only a gate
        shares = [part / sum(parts) for part in parts]
    weights = shares + weights
    ones = [1.0] * len(weights)
    within, apart = (weights, ones) if weighted else (ones, weights)
    scoring = _Scoring(settings, processes, columns, max_void_rate, void_window, needs_weights=apart != ones)
    rewards = RewardFunctions(_Column(scoring, name, weight) for name, weight in zip(names, within, strict=False))
    rewards += (_Beside(scoring, other, weight) for other, weight in zip(others, within[len(names) :], strict=True))
    rewards.reward_weights = apart
    return rewards


def _processes(given: int | None) -> int:
    return int(os.environ.get("WORLD_SIZE", "1")) if given is None else given


@dataclass
class _Batch:
    """The answers that TRL hands to all its functions at once. None: a row that is not for LongReward."""

    samples: list[Sample | None]
    scoring: Future[list[Reward]]
    takers: set[object] = field(default_factory=set)


class _Column:
    """The reward function that gives the total or one dimension of each answer."""

    def __init__(self, scoring: _Scoring, name: str, weight: float) -> None:
        self.__name__ = "longreward" if name == "total" else f"longreward_{name}"
        self._scoring, self._name, self._weight = scoring, name, weight

    async def __call__(self, prompts: Any, completions: list[Any], **about: Any) -> ColumnValues:
        rewards = await self._scoring.rewards(self, completions, about)
        return [
            None
            if reward is None or reward.scores is None
            else reward.scores[self._name] * _share(reward, self._name) * self._weight
            for reward in rewards
        ]


class _Beside:
    """Another reward function, None where LongReward is void."""

    def __init__(self, scoring: _Scoring, other: Callable[..., Any], weight: float) -> None:
        self.__name__ = getattr(other, "__name__", type(other).__name__)
        self._scoring, self._other, self._weight = scoring, other, weight

    async def __call__(self, prompts: Any, completions: list[Any], **about: Any) -> ColumnValues:
        values = self._other(prompts=prompts, completions=completions, **about)
        if inspect.isawaitable(values):
            values = await values
        rewards = await self._scoring.rewards(self, completions, about)
        return [
            None if value is None or (reward is not None and reward.total is None) else value * self._weight
            for reward, value in zip(rewards, values, strict=True)
        ]


class _Scoring:
    """Scores a batch once, whatever the number of functions that TRL calls with it.

    Pickled, it is what it was made of: the process that unpickles it scores its own batches with its own judge.
    """

    def __init__(
        self,
        settings: RewardConfig,
        processes: int | None,
        columns: Sequence[str],
        max_void_rate: float,
        void_window: int,
        needs_weights: bool,
    ) -> None:
        """`columns`: those of document and question, and of the criteria where these are needed.
        `needs_weights`: the trainer has to weigh the functions' values."""
        self._made_of = (settings, processes, columns, max_void_rate, void_window, needs_weights)
        self._settings, self._processes, self._columns = settings, processes, columns
        self._needs_weights = needs_weights
        self._voids = VoidWindow(
            max_void_rate, void_window, setting="max_void_rate", then="continue from the last checkpoint"
        )
        self._batch: _Batch | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of

    @cached_property
    def _reward(self) -> BackgroundReward:
        # At the first answer: the one process that scores for AsyncGRPOTrainer has dropped WORLD_SIZE by then.
        return BackgroundReward(divided(self._settings, _processes(self._processes)))

    async def rewards(self, taker: object, completions: list[Any], about: dict[str, Any]) -> list[Reward | None]:
        """The reward of each completion; None: its row is not for LongReward. `taker`: the function that asks."""
        if self._needs_weights and "trainer_state" not in about:
            raise ConfigError(
                "this trainer adds up the reward functions without reward_weights, as AsyncGRPOTrainer does; make the "
                "values carry their weights with longreward_rewards(..., weighted=True)"
            )
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
