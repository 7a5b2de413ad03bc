"""Canaries: answers of known quality, scored again and again while a run goes on, because its judge must not drift.

A hosted model may be replaced behind its name, a server restarted with other weights. The rewards then change their
meaning in the middle of a run, and no curve tells that from a policy that learns.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from longreward import rows
from longreward.errors import InputError
from longreward.files import jsonlines
from longreward.preflight.finding import Finding
from longreward.rows.criteria import criteria_of
from longreward.schema import Sample
from rl.config import RunConfig
from rl.data.prompt_files import references_of
from rl.data.prompts import Label, TrainingSample, as_label

FILE = "canaries.jsonl"
"""In the run directory: every round, and so the reference of the first."""
_LOOK_S = 0.5
_GRACE_S = 15.0  # for Ray to bring the result of a round whose own deadline has passed
_ENOUGH = 0.5  # an alarm needs so many of the canaries: a judge that fails at the others has not drifted


@dataclass(frozen=True)
class Canary:
    """An answer of known quality."""

    sample: TrainingSample
    reference: float | None
    """Its reward where the file gives one."""

    @cached_property
    def key(self) -> str:
        """Names its content: a canary that was edited is another one."""
        sample = self.sample
        criteria = [f"{criterion.weight:g} {criterion.text}" for criterion in sample.criteria]
        text = "\0".join((sample.context, sample.query, sample.answer, *criteria))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check(config: RunConfig) -> Finding | None:
    """Why a run cannot have the canaries that it asks for, whatever is in their file; None where it can."""
    if config.watch.canaries is None or not config.reward.gpus:
        return None
    sentence = "watch.canaries has no GPU for the reward model (reward.openrlhf.gpus=1), which does not drift either"
    action = "leave watch.canaries out, or set reward.openrlhf.gpus=0"
    return Finding.problem("reward", sentence, action)


def load(path: Path, reference: str | None = None, *, criteria: bool = False) -> list[Canary]:
    """The canaries of a file, with reference answers out of the field `reference` if one is named, and with the rows'
    `criteria` if they are asked for.

    InputError says what is wrong with it.
    """
    found: dict[str, Canary] = {}
    for number, row in rows.read(path):
        fields = {name: row.get(name) for name in ("context", "query", "answer")}
        try:
            plain = Sample(id=rows.row_id(row, number), **fields)
            if plain.id in found:
                raise ValueError(f"there are two canaries {plain.id!r}; give each an idx of its own")
            references = references_of(row, reference) if reference else ()
            wanted = as_label(criteria_of(row)) if criteria else ()
            reward = _reward(row)
        except ValidationError as error:
            name = error.errors()[0]["loc"][0]
            raise InputError(f"{path}:{number}: a canary's {name} must be text; add it or leave the row out") from None
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        prompt, label = Label.of_text(plain.id, "canary", plain.context, plain.query)
        found[plain.id] = Canary(
            replace(label, reference=references, criteria=wanted).sample(prompt, plain.answer), reward
        )
    if not found:
        raise InputError(f"{path} holds no canary; give rows with idx, context, query, answer, or leave it out")
    return list(found.values())


def _reward(row: dict[str, Any]) -> float | None:
    """The reward that a row gives; ValueError where that is none."""
    total, scores = row.get("total"), row.get("scores")
    if total is None and isinstance(scores, dict):
        total = scores.get("total")
    if total is None:
        return None
    if isinstance(total, bool) or not isinstance(total, int | float) or not 0 <= total <= 10:
        raise ValueError(f"a canary's total is {total!r}; give a number from 0 to 10, or leave it out")
    return float(total)


@dataclass(frozen=True)
class Round:
    """All canaries scored once."""

    step: int
    means: dict[str, float]
    """Mean scores of the canaries that were scored; empty if none was."""
    reference: float | None
    """The same canaries' mean total by the reference."""
    void: int
    n: int

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


class Canaries:
    """A run's canaries, from the driver's side: the rounds, an earlier part of the run included, and what they are
    compared with. For one thread, but for `summary`."""

    def __init__(self, config: RunConfig, canaries: Sequence[Canary], worker: Any, ended: threading.Event) -> None:
        """`worker` is the judge worker that scores them. A round is broken off when `ended` is set."""
        self._path, self._canaries, self._watch = config.directory / FILE, canaries, config.watch
        self._limit_s, self._worker, self._ended = config.reward.answer_timeout_s, worker, ended
        self._first = {canary.key: canary.reference for canary in canaries if canary.reference is not None}
        self._last: dict[str, Any] = {}
        self._alarms = 0
        self._too_far = False
        if self._path.is_file():
            for _, row in jsonlines.read(self._path, broken=[]):
                self._take_in(row)

    def score(self, step: int) -> tuple[Round, str | None] | None:
        """Score them all and write it down, see `add`; None where it took too long or was broken off."""
        import ray

        call = self._worker.score_afresh.remote([canary.sample for canary in self._canaries], self._limit_s)
        deadline = time.monotonic() + self._limit_s + _GRACE_S
        while not self._ended.is_set() and time.monotonic() < deadline:
            done, _ = ray.wait([call], timeout=_LOOK_S)
            if done:
                scores = ray.get(call)
                return None if scores is None else self.add(step, scores)
        ray.cancel(call)  # its judge calls need not be paid for
        return None

    def add(self, step: int, scores: Sequence[dict[str, float] | None]) -> tuple[Round, str | None]:
        """One more round: the scores in the order of the canaries, None where void. With an alarm's sentence where the
        mean has moved further than `watch.max_drift` and had not the last time."""
        valid = [(canary, found) for canary, found in zip(self._canaries, scores, strict=True) if found is not None]
        moved = [(c.sample.id, self._first.setdefault(c.key, found["total"]), found["total"]) for c, found in valid]
        names = [name for name in (valid[0][1] if valid else ()) if all(name in found for _, found in valid)]
        done = Round(
            step=step,
            means={name: sum(found[name] for _, found in valid) / len(valid) for name in names},
            reference=sum(before for _, before, _ in moved) / len(moved) if moved else None,
            void=len(scores) - len(valid),
            n=len(scores),
        )
        alarm = None
        if done.enough:
            far = abs(done.drift or 0) > self._watch.max_drift
            if far and not self._too_far:
                alarm = self._alarm(done, *max(moved, key=lambda each: abs(each[2] - each[1])))
            self._too_far = far
        row = asdict(done) | {"time": time.time(), "drift": done.drift, "alarm": alarm is not None}
        row["scores"] = {
            canary.sample.id: None if found is None else dict[str, Any](key=canary.key, **found)
            for canary, found in zip(self._canaries, scores, strict=True)
        }
        self._take_in(row)
        try:
            with jsonlines.Appender[dict[str, Any]](self._path) as file:
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

    def _alarm(self, done: Round, moved: str, before: float, now: float) -> str:
        """The alarm's sentence; `moved` is the canary whose reward has moved most."""
        todo = (
            "find out what has changed behind reward.judge, put the same judge back and continue with resume=true, or "
            "with watch.on_drift=warn as things are"
            if self._watch.on_drift == "stop"
            else "find out what has changed behind reward.judge: rewards of before and of now do not compare"
        )
        return (
            f"the judge has drifted: the canaries' mean reward was {done.reference:.2f} and is "
            f"{done.means['total']:.2f} at step {done.step} (watch.max_drift is {self._watch.max_drift:g}); canary "
            f"{moved!r} moved most, from {before:.2f} to {now:.2f}; {todo}"
        )

    def _take_in(self, row: dict[str, Any]) -> None:
        for found in row["scores"].values():
            if found is not None:
                self._first.setdefault(found["key"], found["total"])
        # A round without any reward says nothing of the judge's scale.
        if row["drift"] is not None or not self._last:
            self._last = row
        self._alarms += row["alarm"]
