"""verl's reward manager `naive`, which its reward loop asks for one answer at a time, for all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from longreward.adapters.background import shared
from longreward.adapters.config import divided, resolve
from longreward.errors import VoidRewardError
from trainers.trainer import Row, Seen, Trainer

END = 0x110000
"""The end token; each of the others is a character's number."""


class Tokenizer:
    def decode(self, ids: Any, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(chr(number) for number in ids.tolist() if number != END)


class Verl(Trainer):
    """`reward.custom_reward_function.path=pkg://longreward.adapters.verl`, and GRPO without the failed answers."""

    def __init__(self, config: dict[str, Any]) -> None:
        from omegaconf import OmegaConf
        from verl.trainer.ppo.reward import load_reward_manager

        super().__init__(config)
        function = {"path": "pkg://longreward.adapters.verl", "name": "compute_score"}
        named = {"source": "register", "name": "naive"}
        settings = {
            "reward_manager": named,
            "custom_reward_function": function | {"reward_kwargs": {"config": self.reward}},
        }
        self._settings = OmegaConf.create({"reward": settings})
        self._load = load_reward_manager

    async def rewards(self, rows: Sequence[Row]) -> list[Seen]:
        manager = self._load(self._settings, Tokenizer())  # it belongs to this event loop
        answers = (manager.run_single(self._data(row)) for row in rows)
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        return [self._seen(outcome) for outcome in outcomes]

    def _seen(self, outcome: Any) -> Seen:
        if isinstance(outcome, VoidRewardError):
            return Seen(None, True)
        if isinstance(outcome, BaseException):
            raise outcome
        return Seen(outcome["reward_score"], False)

    def _data(self, row: Row) -> Any:
        """An answer as verl's agent loop hands it over."""
        import numpy as np
        import torch
        from verl import DataProto

        responses = torch.tensor([[*map(ord, row["answer"]), END]])
        about = {"index": row["idx"], "context": row["context"], "query": row["query"]}
        others = {"data_source": "long", "reward_model": {"ground_truth": ""}, "extra_info": about, "__num_turns__": 2}
        return DataProto.from_dict(
            {
                "prompts": torch.ones(1, 1).long(),
                "responses": responses,
                "attention_mask": torch.ones(1, responses.shape[1] + 1).long(),
            },
            {name: np.array([value], dtype=object) for name, value in others.items()},
        )

    def advantages(self, seen: Sequence[Seen]) -> list[float]:
        import numpy as np
        import torch
        from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

        left = [one.reward for one in seen if not one.void]
        if not left:
            return [0.0] * len(seen)  # no answer of the group is in the batch
        rewards = torch.tensor(left)[:, None]
        found, _ = compute_grpo_outcome_advantage(rewards, torch.ones_like(rewards), np.array(["group"] * len(left)))
        values = iter(found[:, 0].tolist())
        return [0.0 if one.void else next(values) for one in seen]

    async def aclose(self) -> None:
        shared(divided(resolve(self.reward), 1)).close()
