"""LongReward as verl's custom reward function. Written for verl 0.9.1.

    python -m verl.trainer.main_ppo ... reward.num_workers=1 \\
        reward.custom_reward_function.path=pkg://longreward.adapters.verl \\
        reward.custom_reward_function.name=compute_score \\
        +reward.custom_reward_function.reward_kwargs.config=/absolute/path/reward.yaml

Document and question are `extra_info["context"]` and `extra_info["query"]` of the data set's rows, criteria, where they
have a weight, `extra_info["criteria"]`.

verl takes no None: with one in a batch it has no rewards at all, and a NaN poisons the whole group. What is safe is an
exception. verl's trainer (`trainer.use_v1`, the default) then leaves exactly that answer out and keeps its siblings; in
its asynchronous modes it generates the group anew. Hence `compute_score` raises VoidRewardError where a reward is void.
Three things to know:

- verl's GRPO takes the plain score as the advantage of an answer that has lost all its siblings. `rloo_vectorized`
  gives it 0.
- The reward manager `rate_limited` turns every exception, and its own time-out, into a reward of 0: do not use it.
  LongReward's judge has limits of its own.
- The old trainer (`trainer.use_v1=False`) ends at the first exception. `compute_scores` is for the batch reward
  manager of older verl: it sees the siblings and gives a void the mean of theirs, whose advantage is 0.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from longreward.adapters.background import shared_part
from longreward.adapters.config import Config
from longreward.errors import InputError, VoidRewardError
from longreward.rows.criteria import criteria_in
from longreward.schema import Criterion, Reward, Sample
from longreward.voids import Scores, mean


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    config: Config | None = None,
    processes: int = 1,
    context_key: str = "context",
    query_key: str = "query",
    criteria_key: str = "criteria",
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
) -> Scores:
    """Score one answer: `score` (the total, 0..10), each dimension that has a weight, and `void` (0.0).

    For verl's reward managers naive, dapo and gdpo.
    The keywords are set in `reward_kwargs`: `config` is a reward YAML's path or its content (None: LONGREWARD_CONFIG
    names the file), `processes` is verl's `reward.num_workers`, which divide the judge's limits among them.
    `data_source`, `ground_truth` and the reward model's two are verl's and not used.

    VoidRewardError where the judge failed; ConfigError and InputError say what is wrong with the set-up.
    """
    scoring = shared_part(config, processes)
    keys = context_key, query_key, criteria_key if scoring.config.uses_criteria else None
    (reward,) = await scoring.score_async([_sample(solution_str, extra_info, *keys)])
    return _valid(reward)


def compute_score_sync(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    **keywords: Any,
) -> Scores:
    """`compute_score` for the reward manager `remote`, which takes no async function and scores one answer after the
    other in each of its workers. The keywords are the same."""
    return asyncio.run(compute_score(data_source, solution_str, ground_truth, extra_info, **keywords))


def compute_scores(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any]],
    *,
    config: Config | None = None,
    processes: int = 1,
    context_key: str = "context",
    query_key: str = "query",
    criteria_key: str = "criteria",
) -> list[Scores]:
    """Score a batch, for the reward manager `batch` of older verl; values and keywords as in `compute_score`.

    A void answer gets the mean of its valid siblings (those about the same document and question), so that its
    advantage is 0 wherever a group's mean is taken off, and `void` is 1.0. VoidRewardError where an answer is void and
    has no valid sibling.
    """
    pairs = zip(solution_strs, extra_infos, strict=True)
    scoring = shared_part(config, processes)
    keys = context_key, query_key, criteria_key if scoring.config.uses_criteria else None
    samples = [_sample(answer, about, *keys) for answer, about in pairs]
    rewards = scoring.score(samples)
    valid: dict[tuple[str, str], list[Scores]] = defaultdict(list)
    for sample, reward in zip(samples, rewards, strict=True):
        if reward.total is not None:
            valid[sample.context, sample.query].append(_valid(reward))
    return [
        mean(siblings) | {"void": 1.0}
        if reward.total is None and (siblings := valid[sample.context, sample.query])
        else _valid(reward)
        for sample, reward in zip(samples, rewards, strict=True)
    ]


def _sample(
    answer: str, extra_info: Mapping[str, Any] | None, context_key: str, query_key: str, criteria_key: str | None
) -> Sample:
    """`criteria_key`: None where the reward asks for no criteria."""
    about = extra_info or {}
    for key in (context_key, query_key):
        if not isinstance(about.get(key), str):
            there = ", ".join(map(str, about)) or "nothing"
            raise InputError(
                f"extra_info[{key!r}] is {about.get(key)!r}, not text (there: {there}); "
                "put document and question there, or name their keys with reward_kwargs context_key and query_key"
            )
    identity = str(about.get("index", ""))
    criteria: tuple[Criterion, ...] = ()
    if criteria_key is not None:
        try:
            criteria = criteria_in(about.get(criteria_key), f"extra_info[{criteria_key!r}]")
        except ValueError as error:
            raise InputError(f"answer {identity or 'without index'}: {error}") from None
    context, query = about[context_key], about[query_key]
    return Sample(id=identity, context=context, query=query, answer=answer, criteria=criteria)


def _valid(reward: Reward) -> Scores:
    scores = reward.scores
    if scores is None:
        raise VoidRewardError(
            f"no reward for answer {reward.id or 'without index'} ({reward.why_void}); it is left out"
        )
    return {"score": scores.pop("total")} | scores | {"void": 0.0}
