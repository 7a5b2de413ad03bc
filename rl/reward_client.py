"""The rollout engine's side of the reward: sends answers to the judge workers and hands OpenRLHF what it expects."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass
from typing import Any

import ray

from longreward.errors import LongRewardError, Reason
from longreward.schema import Reward
from rl import judge_workers
from rl.config import RunConfig
from rl.groups import Group, GroupBarrier, Scores
from rl.prompts import Label

ENVIRONMENT = "LONGREWARD_REWARD_CLIENT"
"""The variable that carries `Settings` to the engines: OpenRLHF makes its agent without arguments."""


class SpendCapReachedError(LongRewardError):
    """`judge.spend` is used up and `reward.on_spend_cap` is stop."""


@dataclass(frozen=True)
class Settings:
    """What an engine needs to know of the run. No keys: it travels as an environment variable."""

    workers: list[str]
    dimensions: list[str]
    answer_timeout_s: float
    max_void_rate: float
    void_window: int
    shuffle: bool

    @classmethod
    def of(cls, config: RunConfig, run_id: str) -> Settings:
        reward = config.reward
        return cls(
            workers=judge_workers.names(config, run_id),
            dimensions=list(reward.needed),
            answer_timeout_s=reward.answer_timeout_s,
            max_void_rate=reward.max_void_rate,
            void_window=reward.void_window,
            shuffle=reward.shuffle,
        )

    def environment(self) -> dict[str, str]:
        return {ENVIRONMENT: json.dumps(asdict(self))}


@dataclass(frozen=True)
class Document:
    """A group's document, put once into Ray's object store for all its answers."""

    label: Label
    ref: Any
    worker: Any


class RewardClient:
    """One per rollout engine, on the engine's event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers = {name: ray.get_actor(name) for name in settings.workers}
        self._barrier = GroupBarrier(
            max_void_rate=settings.max_void_rate, void_window=settings.void_window, shuffle=settings.shuffle
        )

    @classmethod
    def from_environment(cls) -> RewardClient:
        text = os.environ.get(ENVIRONMENT)
        if text is None:
            raise RuntimeError(f"{ENVIRONMENT} is not set in this engine; start training with rl/train.py")
        return cls(Settings(**json.loads(text)))

    def join(self, prompt: str, label: str) -> Group:
        """Register one answer of `prompt` and, with the first, let the judge worker prepare the document."""
        return self._barrier.register(prompt, lambda: self._document(prompt, label))

    async def reward(self, prompt: str, group: Group, answer: str, about: dict[str, Any]) -> dict[str, Any]:
        """Score an answer and wait for its siblings: the fields of OpenRLHF's rollout that are about the reward."""
        reward = await self._score(group.document, answer, about)
        scores, trained_on = await self._barrier.exchange(prompt, group, _scores(reward))
        void = reward is None or reward.total is None
        # The same keys for every answer, or OpenRLHF drops or mixes them.
        logs = {f"longreward/{name}": float(scores[name]) for name in ["total", *self._settings.dimensions]}
        logs["longreward/void"] = float(void)
        logs["longreward/judge_seconds"] = float(reward.seconds if reward else self._settings.answer_timeout_s)
        logs["longreward/statements"] = float(_statements(reward))
        # OpenRLHF's dynamic filtering works on 0..1 by default, hence `scores`.
        return {"reward": float(trained_on), "scores": float(trained_on) / 10, "extra_logs": logs}

    async def _score(self, document: Document, answer: str, about: dict[str, Any]) -> Reward | None:
        """None where the worker died or did not answer in time: void, like any failure of the judge."""
        about = {"id": document.label.id, "split": document.label.split, **about}
        call = document.worker.score.remote(document.ref, answer, about)
        scoring = asyncio.ensure_future(_awaitable(call))
        try:
            while True:
                done, _ = await asyncio.wait({scoring}, timeout=self._settings.answer_timeout_s)
                if done:
                    reward: Reward = scoring.result()
                    break
                # The time of a pause does not count, nor does the queue that it leaves behind.
                if not await _awaitable(document.worker.paused.remote(self._settings.answer_timeout_s)):
                    print(f"longreward: no reward for {about['id']} in {self._settings.answer_timeout_s} s", flush=True)
                    return None
        except ray.exceptions.RayActorError as error:
            print(f"longreward: the judge worker for {about['id']} died: {error}", flush=True)
            return None
        finally:
            if not scoring.done():
                ray.cancel(call)  # nobody waits for it: its judge calls need not be paid for
        if Reason.SPEND_CAP in reward.void_reasons.values():
            raise SpendCapReachedError(
                next(d.detail for d in reward.dimensions.values() if d.status == Reason.SPEND_CAP)
            )
        return reward

    def _document(self, prompt: str, text: str) -> Document:
        label = Label.from_json(text)
        content = {
            "context": prompt[label.context[0] : label.context[1]],
            "query": prompt[label.query[0] : label.query[1]],
        }
        worker = self._workers[judge_workers.rendezvous(label.id, self._settings.workers)]
        ref = ray.put(content)
        worker.prepare.remote(ref)
        return Document(label, ref, worker)


async def _awaitable(ref: Any) -> Any:
    return await ref


def _scores(reward: Reward | None) -> Scores | None:
    if reward is None or reward.total is None:
        return None
    return {"total": reward.total} | {n: d.score for n, d in reward.dimensions.items() if d.score is not None}


def _statements(reward: Reward | None) -> int:
    return sum(len(d.statements) for d in reward.dimensions.values()) if reward else 0
