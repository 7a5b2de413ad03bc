"""verifiers 0.4.0: its own `Task.score` with LongReward as a plugged judge."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import verifiers.v1 as vf
from verifiers.v1.graph import MessageNode
from verifiers.v1.types import AssistantMessage, UserMessage


class Seen(NamedTuple):
    reward: float | None
    """0..10; None: nothing."""
    void: bool


class Question(vf.TaskData):
    context: str
    query: str


class VerifiersTrainer:
    def __init__(self, config: dict[str, Any]) -> None:
        plugged = {"id": "longreward-verifiers", "config": config}
        self._config = vf.TaskConfig.model_validate({"judges": [plugged]})

    async def rewards(self, rows: list[dict[str, Any]]) -> list[Seen]:
        return list(await asyncio.gather(*(self._seen(row) for row in rows)))

    async def _seen(self, row: dict[str, Any]) -> Seen:
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

    def advantages(self, seen: list[Seen]) -> list[float]:
        """verifiers computes none. prime-rl's GRPO takes the mean off the rewards of the traces that are ok."""
        left = [each.reward for each in seen if not each.void]
        middle = sum(left) / len(left) if left else 0.0
        return [0.0 if each.void else each.reward - middle for each in seen]

    async def aclose(self) -> None:
        (judge,) = self._config.judges
        await asyncio.to_thread(judge.reward().close)
