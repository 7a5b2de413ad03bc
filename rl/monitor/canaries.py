"""Canaries: answers of known quality, scored again and again while a run goes on, because its judge must not drift.

A hosted model may be replaced behind its name, a server restarted with other weights. The rewards then change their
meaning in the middle of a run, and no curve tells that from a policy that learns.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from longreward import jsonlines
from longreward.config import CacheConfig
from longreward.errors import InputError
from longreward.schema import Sample
from rl.config import RewardSection, RunConfig, WatchSection
from rl.data.prompt_files import references_of
from rl.data.prompts import Label, TrainingSample

FILE = "canaries.jsonl"
"""In the run directory: every round, and so the reference of the first."""
_AT_ONCE = 64
_LOOK_S = 0.5
_LAST_WORDS_S = 2.0
_GRACE_S = 15.0  # for Ray to bring the result of a round whose own deadline has passed
_ENOUGH = 0.5  # an alarm needs so many of the canaries: a judge that fails at the others has not drifted

Scores = dict[str, float]
"""`total` and each dimension, 0..10."""


@dataclass(frozen=True)
class Canary:
    """An answer of known quality."""

    sample: TrainingSample
    reference: float | None
    """Its reward where the file gives one."""

    @property
    def id(self) -> str:
        return self.sample.id

    @cached_property
    def key(self) -> str:
        """Names its content: a canary that was edited is another one."""
        text = "\0".join((self.sample.context, self.sample.query, self.sample.answer))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check(config: RunConfig) -> str | None:
    """Why a run cannot have the canaries that it asks for, whatever is in their file; None where it can."""
    if config.watch.canaries is None or not config.reward.gpus:
        return None
    return (
        "watch.canaries has no GPU for the reward model (reward.openrlhf.gpus=1), which does not drift either; leave "
        "watch.canaries out, or set reward.openrlhf.gpus=0"
    )


def load(path: Path, reference: str | None = None) -> list[Canary]:
    """The canaries of a JSON-lines file, with reference answers out of the field `reference` if one is named.

    InputError says what is wrong with it.
    """
    found: dict[str, Canary] = {}
    for number, row in jsonlines.read(path):
        identity = row.get("idx", row.get("id"))
        fields = {name: row.get(name) for name in ("context", "query", "answer")}
        try:
            plain = Sample.model_validate({"id": str(number) if identity is None else identity, **fields})
        except ValidationError as error:
            name = error.errors()[0]["loc"][0]
            raise InputError(f"{path}:{number}: a canary's {name} must be text; add it or leave the row out") from None
        prompt, label = Label.of_text(plain.id, "canary", plain.context, plain.query)
        try:
            references = references_of(row, reference) if reference else ()
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        sample = replace(label, reference=references).sample(prompt, plain.answer)
        if sample.id in found:
            raise InputError(f"{path}:{number}: there are two canaries {sample.id!r}; give each an idx of its own")
        found[sample.id] = Canary(sample, _reference(row, f"{path}:{number}"))
    if not found:
        raise InputError(f"{path} holds no canary; give rows with idx, context, query, answer, or leave it out")
    return list(found.values())


def _reference(row: dict[str, Any], where: str) -> float | None:
    total, scores = row.get("total"), row.get("scores")
    if total is None and isinstance(scores, dict):
        total = scores.get("total")
    if total is None:
        return None
    if isinstance(total, bool) or not isinstance(total, int | float) or not 0 <= total <= 10:
        raise InputError(f"{where}: a canary's total is {total!r}; give a number from 0 to 10, or leave it out")
    return float(total)


@dataclass(frozen=True)
class Moved:
    """The canary whose reward has moved most."""

    id: str
    before: float
    now: float


@dataclass(frozen=True)
class Round:
    """All canaries scored once."""

    step: int
    means: Scores
    """Of those that were scored; empty if none was."""
    reference: float | None
    """The same canaries' mean total by the reference."""
    void: int
    n: int
    moved: Moved | None

    @property
    def drift(self) -> float | None:
        """How far the mean total has moved; None if no canary was scored."""
        return None if self.reference is None else self.means["total"] - self.reference

    @property
    def enough(self) -> bool:
        """Whether so many were scored that the judge can be said to have drifted, or not."""
        return self.drift is not None and self.n - self.void >= _ENOUGH * self.n

    def scalars(self) -> dict[str, float]:
        """For TensorBoard and W&B."""
        values = {f"watch/canary_{name}": value for name, value in self.means.items()}
        if self.drift is not None:
            values["watch/canary_drift"] = self.drift
        return values | {"watch/canary_void": float(self.void)}

    def sentence(self) -> str:
        """One line for the person who watches."""
        if self.drift is None:
            return f"canaries at step {self.step}: none of {self.n} has a reward (judge failures)"
        void = f", {self.void} void" if self.void else ""
        return (
            f"canaries at step {self.step}: reward {self.means['total']:.2f}, reference {self.reference:.2f}, "
            f"drift {self.drift:+.2f} ({self.n - self.void} scored{void})"
        )


class History:
    """The rounds of a run, an earlier part of it included, and what they are compared with."""

    def __init__(self, path: Path, canaries: Sequence[Canary], watch: WatchSection) -> None:
        """Reads the rounds in `path`, and appends to it."""
        self._path, self._canaries, self._watch = path, canaries, watch
        self._first = {canary.key: canary.reference for canary in canaries if canary.reference is not None}
        self._last: dict[str, Any] = {}
        self._alarms = 0
        self._too_far = False
        if path.is_file():
            for _, row in jsonlines.read(path, broken=[]):
                self._take_in(row)

    def add(self, step: int, scores: Sequence[Scores | None]) -> tuple[Round, str | None]:
        """One more round: the scores in the order of the canaries, None where void. With an alarm's sentence where the
        mean has moved further than `watch.max_drift` and had not the last time."""
        valid = [(canary, found) for canary, found in zip(self._canaries, scores, strict=True) if found is not None]
        moved = [Moved(c.id, self._first.setdefault(c.key, found["total"]), found["total"]) for c, found in valid]
        names = [name for name in (valid[0][1] if valid else ()) if all(name in found for _, found in valid)]
        done = Round(
            step=step,
            means={name: sum(found[name] for _, found in valid) / len(valid) for name in names},
            reference=sum(each.before for each in moved) / len(moved) if moved else None,
            void=len(scores) - len(valid),
            n=len(scores),
            moved=max(moved, key=lambda each: abs(each.now - each.before), default=None),
        )
        alarm = None
        if done.enough:
            far = abs(done.drift or 0) > self._watch.max_drift
            alarm = self._alarm(done) if far and not self._too_far else None
            self._too_far = far
        row = {"step": step, "time": time.time(), "n": done.n, "void": done.void, "means": done.means}
        row |= {"reference": done.reference, "drift": done.drift, "alarm": alarm is not None}
        row["scores"] = {c.id: _kept(c, found) for c, found in zip(self._canaries, scores, strict=True)}
        self._take_in(row)
        try:
            with jsonlines.Appender(self._path) as file:
                file.append(row)
        except OSError as error:  # an alarm must not be lost with it
            print(f"longreward: {self._path} cannot be written: {error}", flush=True)
        return done, alarm

    def summary(self) -> dict[str, Any]:
        """For summary.json; empty before the first round."""
        if not self._last:
            return {}
        last = self._last
        found = {"n": len(self._canaries), "reference": last["reference"], "last": last["means"].get("total")}
        return {"canaries": found | {"drift": last["drift"], "alarms": self._alarms}}

    def _alarm(self, done: Round) -> str:
        assert done.moved is not None
        todo = (
            "find out what has changed behind reward.judge, put the same judge back and continue with resume=true, or "
            "with watch.on_drift=warn as things are"
            if self._watch.on_drift == "stop"
            else "find out what has changed behind reward.judge: rewards of before and of now do not compare"
        )
        return (
            f"the judge has drifted: the canaries' mean reward was {done.reference:.2f} and is "
            f"{done.means['total']:.2f} at step {done.step} (watch.max_drift is {self._watch.max_drift:g}); canary "
            f"{done.moved.id!r} moved most, from {done.moved.before:.2f} to {done.moved.now:.2f}; {todo}"
        )

    def _take_in(self, row: dict[str, Any]) -> None:
        for found in row["scores"].values():
            if found is not None:
                self._first.setdefault(found["key"], found["total"])
        # A round without any reward says nothing of the judge's scale.
        if row["drift"] is not None or not self._last:
            self._last = row
        self._alarms += row["alarm"]


def _kept(canary: Canary, found: Scores | None) -> dict[str, Any] | None:
    return None if found is None else {"key": canary.key, **found}


class CanaryScorer:
    """The Ray actor that scores the canaries, with a reward function made anew each time: it must remember nothing."""

    def __init__(
        self,
        config: RewardSection,
        samples: Sequence[Sample],
        tokenizer: str | None,
        secrets: dict[str, str],
    ) -> None:
        from rl.rollout import judge_workers

        # Keys come as arguments: a runtime environment's variables would stand in Ray's logs and its dashboard.
        os.environ.update(secrets)
        self._config = config.model_copy(update={"cache": CacheConfig(path=None)})
        self._samples = samples
        self._token_spans = judge_workers.token_spans(tokenizer)

    async def ready(self) -> None:
        """Answers once it is up."""

    async def score(self, limits: Any | None, deadline_s: float) -> list[Scores | None] | None:
        """The scores of each, None for a void one; None for all where that takes longer than `deadline_s`. `limits` is
        the run's JudgeLimits actor."""
        from rl.reward_functions import registry
        from rl.rollout import judge_limits

        reward = registry.make(self._config, self._token_spans)
        # Shares and counts are kept by name, and this process begins to count anew.
        name, endpoints = f"canaries-{uuid.uuid4().hex[:8]}", reward.endpoints
        following: asyncio.Task[None] | None = None
        try:
            if endpoints is not None and limits is not None:
                endpoints.share()
                following = asyncio.create_task(judge_limits.follow(limits, name, endpoints))
            async with asyncio.timeout(deadline_s):
                places = asyncio.Semaphore(_AT_ONCE)
                return await asyncio.gather(*(self._score(reward, sample, places) for sample in self._samples))
        except TimeoutError:
            return None
        finally:
            if following is not None:
                following.cancel()
            await reward.aclose()
            if limits is not None and endpoints is not None:
                # What was spent since the last exchange.
                with suppress(Exception):
                    await limits.exchange.remote(name, endpoints.report())

    async def _score(self, reward: Any, sample: Sample, places: asyncio.Semaphore) -> Scores | None:
        async with places:
            try:
                scored = await reward.score(sample)
            except Exception as error:
                print(f"longreward: canary {sample.id}: {type(error).__name__}: {error}", flush=True)
                return None
        if scored.total is None:
            print(f"longreward: canary {sample.id} has no reward: {scored.void_reasons}", flush=True)
        scores: Scores | None = scored.scores
        return scores


class Canaries:
    """A run's canaries, from the driver's side. For one thread, but for `summary`."""

    def __init__(
        self,
        config: RunConfig,
        canaries: Sequence[Canary],
        tokenizer: str | None,
        limits: Any | None,
        ended: threading.Event,
    ) -> None:
        """`limits` is the actor that divides the judge's limits. A round is broken off when `ended` is set."""
        self._config, self._canaries, self._tokenizer = config, canaries, tokenizer
        self._limits, self._ended = limits, ended
        self._actor: Any = None
        self._history = History(config.directory / FILE, canaries, config.watch)

    def score(self, step: int) -> tuple[Round, str | None] | None:
        """Score them all and write it down, see `History.add`; None where it took too long or was broken off."""
        import ray

        actor = self._actor = self._actor or self._start()
        limit_s = self._config.reward.answer_timeout_s
        # Where Ray has no place for the actor, or has to start it again.
        if not self._wait(actor.ready.remote(), self._config.run.deadline_start_s):
            return None
        call = actor.score.remote(self._limits, limit_s)
        if not self._wait(call, limit_s + _GRACE_S):
            # Its judge calls need not be paid for; what they have cost so far it still tells the limits.
            ray.cancel(call)
            ray.wait([call], timeout=_LAST_WORDS_S)
            return None
        scores = ray.get(call)
        return None if scores is None else self._history.add(step, scores)

    def summary(self) -> dict[str, Any]:
        """For summary.json; empty before the first round."""
        return self._history.summary()

    def close(self) -> None:
        """End the actor."""
        import ray

        if self._actor is not None:
            ray.kill(self._actor)

    def _start(self) -> Any:
        import ray

        from rl.rollout import judge_workers

        keys = judge_workers.secrets(self._config.reward)
        # No CPU is reserved, as for the judge workers: it could keep the trainer from being placed.
        actor = ray.remote(num_cpus=0, max_restarts=-1)(CanaryScorer)
        samples = [canary.sample for canary in self._canaries]
        return actor.remote(self._config.reward, samples, self._tokenizer, keys)

    def _wait(self, call: Any, seconds: float) -> bool:
        """Whether the call is done within so many seconds, and before `ended` is set."""
        import ray

        deadline = time.monotonic() + seconds
        while not self._ended.is_set() and time.monotonic() < deadline:
            done, _ = ray.wait([call], timeout=_LOOK_S)
            if done:
                return True
        return False
