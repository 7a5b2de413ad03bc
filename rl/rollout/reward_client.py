"""The rollout engine's side of the reward: sends answers to the judge workers and hands OpenRLHF what it expects."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import ray

from longreward import openrlhf_logs
from longreward.errors import Reason
from longreward.openrlhf_logs import PREFIX, AnswerFigures
from rl.config import RunConfig
from rl.data.prompts import Label, rollout_id
from rl.reward_functions import registry
from rl.rollout import judge_workers
from rl.rollout.group_barrier import Group, GroupBarrier, Member, Settled
from rl.trainer.seams.advantages import COMPARE_WITHIN_GROUPS, MIN_SPREAD
from rl.trainer.seams.masking import LEFT_OUT

ENVIRONMENT = "LONGREWARD_REWARD_CLIENT"
"""The variable that carries `Settings` to the engines: OpenRLHF makes its agent without arguments."""


_REASONS = [reason for reason in Reason if reason is not Reason.SPEND_CAP]  # which ends the run
_OUT_OF_RANGE = -1.0  # of OpenRLHF's dynamic filtering, whose scores are 0..1: such a group is replaced by another


@dataclass(frozen=True)
class Settings:
    """What an engine needs to know of the run. No keys: it travels as an environment variable."""

    workers: list[str]
    dimensions: list[str]
    answer_timeout_s: float
    max_void_rate: float
    void_window: int
    min_spread: float | None
    """None: the judge's noise as the worker knows it."""
    shuffle: bool
    compares: bool
    """Whether the advantage estimator compares the answers to one prompt."""
    compared: list[str]
    """By what: the total, or dimensions."""
    filtering: bool
    """Whether OpenRLHF replaces groups whose mean score is out of `algo.dynamic_filtering_range`."""

    @classmethod
    def of(cls, config: RunConfig, run_id: str, *, estimator: str, filtering: bool) -> Settings:
        reward = config.reward
        return cls(
            workers=judge_workers.names(config, run_id),
            dimensions=registry.dimensions(reward),
            answer_timeout_s=reward.answer_timeout_s,
            max_void_rate=reward.max_void_rate,
            void_window=reward.void_window,
            min_spread=None if reward.min_group_spread == "auto" else reward.min_group_spread,
            shuffle=reward.shuffle,
            compares=estimator in COMPARE_WITHIN_GROUPS,
            compared=list(reward.compared),
            filtering=filtering,
        )

    def environment(self) -> dict[str, str]:
        return {ENVIRONMENT: json.dumps(asdict(self))}


@dataclass(frozen=True)
class GroupDocument:
    """A group's prompt, put once into Ray's object store for all its answers, and the worker that scores them."""

    label: Label
    prompt: Any
    worker: Any


@dataclass(frozen=True)
class Rollout:
    """One answer that an engine is about to generate."""

    id: str
    group: Group | None
    """None: it is not scored."""
    seed: int | None = None

    @classmethod
    def of(cls, label: Label, place: int, group: Group | None) -> Rollout:
        """The `place`-th of those that are generated for `label` now."""
        if label.rollouts is None:
            return cls(uuid.uuid4().hex, group)
        identity = rollout_id(label.id, label.rollouts[place])
        digest = hashlib.blake2b(f"{label.seed}\0{label.split}\0{identity}".encode(), digest_size=8).digest()
        return cls(identity, group, int.from_bytes(digest) >> 1)  # vLLM takes 63 bits

    def seeded(self, sampling: Any) -> Any:
        """vLLM's sampling parameters for this answer: the same tokens whatever else the engine is at work on."""
        if self.seed is None:
            return sampling
        own = copy.copy(sampling)
        own.seed = self.seed
        return own


class RewardClient:
    """One per rollout engine, on the engine's event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._workers = {name: ray.get_actor(name) for name in settings.workers}
        self._barrier = GroupBarrier(
            max_void_rate=settings.max_void_rate,
            void_window=settings.void_window,
            min_spread=settings.min_spread,
            shuffle=settings.shuffle,
            compares=settings.compares,
            compared=settings.compared,
            names=["total", *settings.dimensions],
        )

    @classmethod
    def from_environment(cls) -> RewardClient:
        text = os.environ.get(ENVIRONMENT)
        if text is None:
            raise RuntimeError(f"{ENVIRONMENT} is not set in this engine; start training with rl/train.py")
        return cls(Settings(**json.loads(text)))

    def join(self, prompt: str, text: str) -> Rollout:
        """Register one answer of `prompt` and, with the first, let the judge worker prepare the document. `text` is
        its label."""
        label = Label.from_json(text)
        if not label.scored:
            return Rollout(label.id, None)
        group = self._barrier.register(prompt, lambda: self._document(prompt, label))
        return Rollout.of(label, group.size - 1, group)

    async def reward(self, prompt: str, rollout: Rollout, answer: str, about: dict[str, Any]) -> dict[str, Any]:
        """Score an answer and wait for its siblings: the fields of OpenRLHF's rollout that are about the reward.

        `about["tokens"]` is the answer's length. RunStoppedError where the run has to end.
        """
        group = rollout.group
        if group is None:
            return {"answer": answer}
        scored = await self._score(group.document, answer, {"rollout": rollout.id, **about})
        return await self._settled(prompt, group, scored, about["tokens"])

    async def unanswered(self, prompt: str, rollout: Rollout) -> dict[str, Any]:
        """As `reward`, where the policy gave no answer that could be scored: void."""
        if rollout.group is None:
            return {"answer": ""}
        return await self._settled(prompt, rollout.group, AnswerFigures(None, (Reason.FILTERED,)), 0)

    async def _settled(self, prompt: str, group: Group, scored: AnswerFigures, tokens: int) -> dict[str, Any]:
        settled = await self._barrier.exchange(
            prompt, group, Member(scored.scores, tokens, scored.reason, scored.noise)
        )
        filtered_out = self._settings.filtering and settled.group.skipped
        return {
            "reward": float(settled.reward),
            # OpenRLHF's dynamic filtering works on 0..1 by default, hence `scores`.
            "scores": _OUT_OF_RANGE if filtered_out else float(settled.reward) / 10,
            "extra_logs": self._logs(scored, settled),
        }

    def _logs(self, scored: AnswerFigures, settled: Settled) -> dict[str, float]:
        """What W&B and TensorBoard show, each the mean over a step's answers. The same keys for every answer, or
        OpenRLHF drops or mixes them. No part of a reward may be called as what stands beside it (registry.RESERVED)."""
        group, names = settled.group, ["total", *self._settings.dimensions]
        figures = {f"{name}_spread": group.deviations.get(name, 0.0) for name in names}
        figures |= {
            "alone": group.alone and scored.scores is not None,
            "no_spread": group.without_spread,
            "length_correlation": group.length_correlation,
        }
        limited = self._settings.compared if self._settings.min_spread is None else ()
        figures |= {MIN_SPREAD + name: group.min_spread.get(name, 0.0) for name in limited}
        logs = openrlhf_logs.logs(scored, settled.scores, names, _REASONS)
        logs |= {PREFIX + name: float(value) for name, value in figures.items()}
        return logs | {LEFT_OUT: float(settled.masked)}

    async def _score(self, document: GroupDocument, answer: str, about: dict[str, Any]) -> AnswerFigures:
        """Void where the worker died too often or did not answer in time, as for any failure of the judge."""
        identity = document.label.id
        call = document.worker.score.remote(document.prompt, document.label, answer, about)
        scoring = asyncio.ensure_future(_awaitable(call))
        limit_s = self._settings.answer_timeout_s
        try:
            while True:
                done, _ = await asyncio.wait({scoring}, timeout=limit_s)
                if done:
                    scored: AnswerFigures = scoring.result()
                    return scored
                # The time of a pause or of an outage does not count, nor does the queue that it leaves behind.
                if not await _awaitable(document.worker.stood_still.remote(limit_s)):
                    print(f"longreward: no reward for {identity} in {limit_s} s", flush=True)
                    return AnswerFigures(None, (Reason.TIMEOUT,), limit_s)
        except ray.exceptions.RayActorError as error:
            print(f"longreward: the judge worker for {identity} died: {error}", flush=True)
            return AnswerFigures(None, (Reason.INTERNAL,))
        finally:
            if not scoring.done():
                ray.cancel(call)  # nobody waits for it: its judge calls need not be paid for

    def _document(self, prompt: str, label: Label) -> GroupDocument:
        worker = self._workers[judge_workers.rendezvous(label.id, self._settings.workers)]
        ref = ray.put(prompt)
        worker.prepare.remote(ref, label)
        return GroupDocument(label, ref, worker)


def scores_of(logs: Mapping[str, float]) -> dict[str, float] | None:
    """`total` and the dimensions of a rollout by its `extra_logs`, 0..10; None: void."""
    if logs[PREFIX + "void"]:
        return None
    # Only what the reward consists of has a spread.
    names = [name.removesuffix("_spread") for name in logs if name.endswith("_spread")]
    return {name.removeprefix(PREFIX): logs[name] for name in names if name in logs}


async def _awaitable(ref: Any) -> Any:
    return await ref
