"""verifiers 0.4.0: its own `Task.score` with LongReward as a plugged judge."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import verifiers.v1 as vf
from verifiers.v1.graph import MessageNode
from verifiers.v1.types import AssistantMessage, UserMessage

from trainers.trainer import Row, Seen, Trainer


class Question(vf.TaskData):
    context: str
    query: str


class Verifiers(Trainer):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        plugged = {"id": "longreward-verifiers", "config": self.reward}
        self._config = vf.TaskConfig.model_validate({"judges": [plugged]})

    async def rewards(self, rows: Sequence[Row]) -> list[Seen]:
        return list(await asyncio.gather(*(self._seen(row) for row in rows)))

    async def _seen(self, row: Row) -> Seen:
        prompt = f"{row['context']}\n\n{row['query']}"
        data = Question(id=str(row["idx"]), prompt=prompt, context=row["context"], query=row["query"])
        asked = MessageNode(parent=None, message=UserMessage(content=prompt), sampled=False)
        answered = MessageNode(parent=0, message=AssistantMessage(content=row["answer"]), sampled=True)
        about = vf.TraceTask(type="Task", data=data)
        trace = vf.Trace(agent=vf.AgentInfo(config=vf.AgentConfig()), task=about, nodes=[asked, answered], ok=True)
        try:
            await vf.Task(data, self._config).score(trace)
        except vf.TaskError as error:  # what verifiers' Rollout.close does with it
            trace.record_error(error)
        reward = trace.rewards["longreward"]
        return Seen(None if reward is None else reward.score * 10, trace.has_error)

    def advantages(self, seen: Sequence[Seen]) -> list[float]:
        """verifiers computes none. prime-rl's GRPO takes the mean off the rewards of the traces that are ok."""
        left = [each.reward for each in seen if each.reward is not None and not each.void]
        middle = sum(left) / max(1, len(left))
        return [0.0 if each.void else (each.reward or 0.0) - middle for each in seen]

    async def aclose(self) -> None:
        (judge,) = self._config.judges
        await asyncio.to_thread(judge.reward().close)
