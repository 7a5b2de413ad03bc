"""OpenRLHF's `--reward.remote_url FILE.py`: a function that it calls with one answer, from threads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from longreward.adapters.openrlhf import OpenRLHFRewards
from longreward.server.config import ServerConfig
from trainers.served import OpenRLHF
from trainers.trainer import Row, Seen


class RewardFunction(OpenRLHF):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config, url="")
        self._threads = ThreadPoolExecutor(32)
        self._rewards = OpenRLHFRewards(ServerConfig.model_validate(config))

    async def rewards(self, rows: Sequence[Row]) -> list[Seen]:
        loop = asyncio.get_running_loop()
        asked = [loop.run_in_executor(self._threads, self._one, row) for row in rows]
        return [seen for one in await asyncio.gather(*asked) for seen in one]

    def _one(self, row: Row) -> list[Seen]:
        body = self.request([row])
        return self.seen(self._rewards.reply(body["query"], body["prompts"], body["labels"]).model_dump())

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False)
