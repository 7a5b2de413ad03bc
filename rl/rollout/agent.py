"""OpenRLHF's agent hook: generate with its own single-turn executor, then await the reward without blocking the engine.

OpenRLHF loads this file by path inside each rollout engine (`--train.agent_func_path`). Keep it a thin shim.
"""

from typing import Any

from openrlhf.utils.agent import SingleTurnAgentExecutor

from rl.rollout.reward_client import RewardClient


class AgentExecutor(SingleTurnAgentExecutor):
    """Adds `reward` (0..10), `scores` (reward / 10) and `extra_logs` to each rollout."""

    def __init__(self) -> None:
        super().__init__(None)
        self._rewards = RewardClient.from_environment()

    async def execute(
        self,
        prompt: str,
        label: str,
        sampling_params: Any,
        max_length: int,
        hf_tokenizer: Any,
        llm_engine: Any,
        images: Any = None,
    ) -> dict[str, Any]:
        # Before the first await: all siblings must have joined their group when the first of them is done.
        rollout = self._rewards.join(prompt, label)
        output = await super().execute(
            prompt, label, rollout.seeded(sampling_params), max_length, hf_tokenizer, llm_engine, images=images
        )
        start, end = output["action_ranges"][-1]
        answer = hf_tokenizer.decode(output["observation_tokens"][start:end], skip_special_tokens=True)
        about = {"truncated": bool(output["truncated"]), "tokens": end - start}
        return output | await self._rewards.reward(prompt, rollout, answer, about)
