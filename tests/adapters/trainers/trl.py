"""TRL in the conformance suite: the reward functions as GRPOTrainer calls them, and the group statistics of TRL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from longreward.adapters.trl import longreward_rewards
from trainers.trainer import Row, Seen, Trainer


class Trl(Trainer):
    """GRPOTrainer with a column per dimension and their weights; the advantages are those of AsyncGRPOTrainer."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._rewards = longreward_rewards(self.reward, per_dimension=True, max_void_rate=1)

    async def rewards(self, rows: Sequence[Row]) -> list[Seen]:
        """All functions at once with the whole batch, and their values added up with the weights; None in all of them
        is a completion without a reward."""
        batch = {
            "prompts": [[{"role": "user", "content": f"{row['context']}\n\n{row['query']}"}] for row in rows],
            "completions": [[{"role": "assistant", "content": row["answer"]}] for row in rows],
            "completion_ids": [[0]] * len(rows),
            **{name: [row[name] for row in rows] for name in rows[0] if name != "answer"},
            "trainer_state": None,
        }
        columns = await asyncio.gather(*(function(**batch) for function in self._rewards))
        seen = []
        for values in zip(*columns, strict=True):
            weighted = [
                weight * value
                for weight, value in zip(self._rewards.reward_weights, values, strict=True)
                if value is not None
            ]
            seen.append(Seen(sum(weighted), False) if weighted else Seen(None, True))
        return seen

    def advantages(self, seen: Sequence[Seen]) -> list[float]:
        """By `_score_group` of AsyncGRPOTrainer's worker: GRPOTrainer has no such function, but computes alike inside a
        training step, only with the deviation of a sample (n - 1), and tests/rl/e2e/test_trl_e2e.py checks it there."""

        def given(**batch: Any) -> list[float | None]:
            return [one.reward for one in seen]

        return [sample.advantage for sample in scored_group([given], [[]] * len(seen))]


def scored_group(functions: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[Any]:
    """The samples that TRL's `_score_group` makes of the answers to one prompt, each of two tokens. `columns`: the data
    set's, with the same value for each answer."""
    from accelerate import PartialState
    from trl.experimental.async_grpo.async_rollout_worker import RolloutGroup, TrainingSequence, _AsyncRolloutLoop

    PartialState()  # TRL's logger wants it
    count = len(completions)
    group = RolloutGroup(
        prompts=[[{"role": "user", "content": "Who sold what?"}]] * count,
        reward_kwargs={name: [value] * count for name, value in columns.items()},
        completions=list(completions),
        completions_ids=[[10 + place, 2] for place in range(count)],
        completions_sequences=[
            [TrainingSequence([1, 1, 10 + place, 2], [0, 0, 1, 1], [0.0, 0.0, -0.5, -0.5], str(place))]
            for place in range(count)
        ],
        tool_call_counts=[0] * count,
        tool_failure_counts=[0] * count,
        model_version=0,
        group_id=0,
        env_rewards=[None] * count,
        rollout_rewards=[None] * count,
    )
    # Without its constructor, which wants a tokenizer and the queues of two processes; this is all that scoring reads.
    loop = object.__new__(_AsyncRolloutLoop)
    loop.reward_funcs, loop._env_reward_types = functions, []
    loop.reward_func_names = [function.__name__ for function in functions]
    return list(asyncio.run(loop._score_group(group)))
