"""The rollout engine's side of the reward: sends answers to the judge workers and hands OpenRLHF what it expects."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ray

from longreward import openrlhf_logs
from longreward.errors import Reason
from longreward.openrlhf_logs import PREFIX, AnswerFigures
from rl.config import RunConfig
from rl.data.prompts import Label, rollout_id
from rl.reward_functions import registry
from rl.reward_functions.config import LateSection
from rl.rollout import judge_workers
from rl.rollout.group_barrier import Group, GroupBarrier, Member, Settled
from rl.rollout.rounds import Round, Rounds, UnderWay
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
    ranks: bool
    """Whether the judge ranks the answers to a prompt: it is then asked once all of them are generated."""
    compares: bool
    """Whether the advantage estimator compares the answers to one prompt."""
    compared: list[str]
    """By what: the total, or dimensions."""
    filtering: bool
    """Whether OpenRLHF replaces groups whose mean score is out of `algo.dynamic_filtering_range`."""
    synchronous: bool
    """Whether learners wait for a step's last reward."""
    late: dict[str, float]
    """`reward.late`."""

    @classmethod
    def of(cls, config: RunConfig, run_id: str, *, estimator: str, filtering: bool, synchronous: bool) -> Settings:
        reward = config.reward
        return cls(
            workers=judge_workers.names(config, run_id),
            dimensions=registry.dimensions(reward),
            answer_timeout_s=reward.answer_timeout_s,
            max_void_rate=reward.max_void_rate,
            void_window=reward.void_window,
            min_spread=None if reward.min_group_spread == "auto" else reward.min_group_spread,
            shuffle=reward.shuffle,
            ranks=reward.ranks,
            compares=estimator in COMPARE_WITHIN_GROUPS,
            compared=list(reward.compared),
            filtering=filtering,
            synchronous=synchronous,
            late=reward.late.model_dump(),
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
    under_way: UnderWay | None = None
    """None: no step waits for it."""
    seed: int | None = None

    @classmethod
    def of(cls, label: Label, place: int, group: Group | None, under_way: UnderWay | None = None) -> Rollout:
        """The `place`-th of those that are generated for `label` now."""
        if label.rollouts is None:
            return cls(uuid.uuid4().hex, group, under_way)
        identity = rollout_id(label.id, label.rollouts[place])
        digest = hashlib.blake2b(f"{label.seed}\0{label.split}\0{identity}".encode(), digest_size=8).digest()
        return cls(identity, group, under_way, int.from_bytes(digest) >> 1)  # vLLM takes 63 bits

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
        self._rounds = Rounds(self._tell, LateSection.model_validate(settings.late), self._barrier.can_spare)
        self._late = set[asyncio.Future[AnswerFigures]]()

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
        # In asynchronous training no step waits for its last answers.
        waits = label.split == "train" and self._settings.synchronous
        return Rollout.of(label, group.size - 1, group, self._rounds.begin(group) if waits else None)

    async def reward(self, prompt: str, rollout: Rollout, answer: str, about: dict[str, Any]) -> dict[str, Any]:
        """Score an answer and wait for its siblings: the fields of OpenRLHF's rollout that are about the reward.

        `about["tokens"]` is the answer's length. RunStoppedError where the run has to end.

        Where answers are ranked, the first question waits for the group's last token: scoring a group does not overlap
        with its own generation, only with that of others, and a step ends with the whole scoring of its last group.
        """
        if rollout.group is None:
            return {"answer": answer}
        siblings = await self._siblings(rollout.group, answer)
        with self._rewarded(rollout.under_way):
            document, about = rollout.group.document, {"rollout": rollout.id, **about}
            scored = await self._score(document, answer, about, siblings, rollout.under_way)
            return await self._settled(prompt, rollout, scored, about["tokens"])

    async def unanswered(self, prompt: str, rollout: Rollout) -> dict[str, Any]:
        """As `reward`, where the policy gave no answer that could be scored: void."""
        if rollout.group is None:
            return {"answer": ""}
        rollout.group.add(None)
        with self._rewarded(rollout.under_way):
            return await self._settled(prompt, rollout, AnswerFigures(None, (Reason.FILTERED,)), 0)

    @contextmanager
    def _rewarded(self, under_way: UnderWay | None) -> Iterator[None]:
        """Around what happens to an answer from its last token to its reward."""
        if under_way is None:
            yield
            return
        self._rounds.generated(under_way)
        try:
            yield
        finally:
            self._rounds.rewarded(under_way)

    def _tell(self, ended: Round) -> None:
        self._workers[self._settings.workers[0]].round_ended.remote(ended)

    async def _settled(self, prompt: str, rollout: Rollout, scored: AnswerFigures, tokens: int) -> dict[str, Any]:
        assert rollout.group is not None
        member = Member(scored.scores, tokens, scored.reason, scored.noise)
        place = self._barrier.deliver(prompt, rollout.group, member)
        if rollout.under_way is not None:
            self._rounds.scored(rollout.under_way)
        settled = await self._barrier.settled(rollout.group, place)
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

    async def _siblings(self, group: Group, answer: str) -> tuple[str, ...]:
        """All answers to the prompt, once they are there; none where they are not ranked."""
        group.add(answer)
        label: Label = group.document.label
        if not self._settings.ranks or label.split != "train":
            return ()
        await group.generated.wait()
        return (*label.answered, *group.answers)

    async def _score(
        self,
        document: GroupDocument,
        answer: str,
        about: dict[str, Any],
        siblings: tuple[str, ...],
        under_way: UnderWay | None,
    ) -> AnswerFigures:
        """Void where the worker died too often or did not answer in time, as for any failure of the judge, and where
        the answer is late."""
        identity = document.label.id
        call = document.worker.score.remote(document.prompt, document.label, answer, about, siblings)
        scoring = asyncio.ensure_future(_awaitable(call))
        late = None if under_way is None else under_way.late
        limit_s = self._settings.answer_timeout_s
        try:
            while True:
                awaited = {scoring, late} if late else {scoring}
                await asyncio.wait(awaited, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
                if scoring.done():
                    scored: AnswerFigures = scoring.result()
                    return scored
                if late is not None and late.done():
                    return AnswerFigures(None, (Reason.LATE,))
                # The time of a pause or of an outage does not count, nor does the queue that it leaves behind.
                if not await _awaitable(document.worker.stood_still.remote(limit_s)):
                    print(f"longreward: no reward for {identity} in {limit_s} s", flush=True)
                    return AnswerFigures(None, (Reason.TIMEOUT,), limit_s)
        except ray.exceptions.RayActorError as error:
            print(f"longreward: the judge worker for {identity} died: {error}", flush=True)
            return AnswerFigures(None, (Reason.INTERNAL,))
        finally:
            if late is not None and late.done():  # its scores go into the store
                self._late.add(scoring)
                scoring.add_done_callback(self._late.discard)
            elif not scoring.done():
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
