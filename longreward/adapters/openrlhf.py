"""LongReward for OpenRLHF's `reward_func`, which it calls from many threads; longreward/adapters/openrlhf_reward.py is
the file that it loads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from longreward.adapters.config import VARIABLE
from longreward.config_file import load_yaml, validate
from longreward.errors import ConfigError, InputError
from longreward.reward import LongReward
from longreward.server.config import ServerConfig
from longreward.server.protocols.openrlhf import OpenRLHF, RewardReply, RewardRequest
from longreward.server.protocols.protocol import Asked
from longreward.server.rollout_rewards import RolloutRewards
from longreward.voids import Scores, Siblings

T = TypeVar("T")


class OpenRLHFRewards:
    """Scores from any thread, with siblings known as in `longreward serve`. Its event loop ends with the process."""

    def __init__(self, config: ServerConfig) -> None:
        """ConfigError for a reward that needs siblings."""
        config.refuse_ranking("OpenRLHF's reward_func")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="longreward", daemon=True).start()
        self._protocol = OpenRLHF(config)
        self._siblings = Siblings(config.serve.group_size)
        # Callers are threads of asyncio's default pool: were all of them to wait for siblings, none could come.
        self._most_held = min(32, (os.cpu_count() or 1) + 4) // 2
        self._held = 0
        reward = LongReward.from_config(config.reward, config.token_spans)
        self._rollouts = RolloutRewards(reward, self._settle)

    def reply(self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> RewardReply:
        """Score answers and wait for it. InputError names the item that cannot be read."""
        try:
            request = RewardRequest(query=list(queries), prompts=list(prompts), labels=list(labels))
        except ValidationError as error:
            raise InputError(f"the reward function was given something else than texts: {error.errors()[0]}") from None
        return self._run(self._reply(request))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _reply(self, request: RewardRequest) -> RewardReply:
        asked = Asked(self._protocol.items(request.query, request.prompts, request.labels))
        outcomes = await self._rollouts.score(self._protocol, asked.items, self._loop.time())
        return self._protocol.reply(asked, outcomes, self._rollouts.reward.stats())

    async def _settle(self, prompt: str, scores: Scores | None, wait_s: float) -> Scores:
        if scores is not None or self._held >= self._most_held:
            return await self._siblings.settle(prompt, scores, 0.0)
        self._held += 1
        try:
            return await self._siblings.settle(prompt, scores, wait_s)
        finally:
            self._held -= 1


@cache
def of_process() -> OpenRLHFRewards:
    """The process's only one, configured by the file that LONGREWARD_CONFIG names: the one of `longreward serve`, whose
    limits on requests do not matter here. ConfigError."""
    path = os.environ.get(VARIABLE)
    if not path:
        raise ConfigError(f"{VARIABLE} is not set; give it the path of the reward's YAML file")
    return OpenRLHFRewards(validate(ServerConfig, load_yaml(Path(path)), path))
