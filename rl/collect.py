"""Answers for offline training: generated and scored in one pass into the run's store, each exactly once.

An answer is known by its prompt and its number, which also make its random seed. What the store holds is neither
generated nor judged again; what it holds without a score is judged again as it stands.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import ray

from longreward import store
from longreward.commands.accounts import clock
from longreward.schema import DIMENSIONS
from rl import pair_answers, published
from rl.config import RunConfig
from rl.errors import TooManyVoidsError
from rl.judge_workers import Scored
from rl.progress import SHORT
from rl.prompts import Label, rollout_id
from rl.rollout_engines import Engines, in_flight
from rl.session import Session

_TELL_S = 10  # seconds between two lines of progress


Key = tuple[str, str]
"""A rollout and its question: several questions about a document may share its id."""


class _Stored(msgspec.Struct):
    """A record of the store, without its verdicts."""

    id: str
    rollout: str
    split: str
    query: str
    answer: str
    tokens: int = 0
    truncated: bool = False
    total: float | None = None

    @property
    def key(self) -> Key:
        return self.rollout, self.query


@dataclass
class Collected:
    """What the store holds of a split."""

    scored: set[Key] = field(default_factory=set)
    """Rollouts with a score."""
    void: dict[Key, _Stored] = field(default_factory=dict)
    """Rollouts whose judging failed, with their answers."""
    broken: list[str] = field(default_factory=list)
    """Lines that a kill has cut, each as `file:line: why`."""

    @classmethod
    def read(cls, folder: Path, split: str) -> Collected:
        found = cls()
        for path in sorted(folder.glob("answers-*.jsonl")):
            for _, _, record in pair_answers.lines(path, _Stored, found.broken):
                if record.split != split:
                    continue
                if record.total is None:
                    found.void[record.key] = record
                else:
                    found.scored.add(record.key)
        for key in found.scored & found.void.keys():
            del found.void[key]
        return found

    def missing(self, prompt: Key, numbers: range) -> tuple[int, ...]:
        """Those of a prompt's answers that are to be generated. `prompt` are its id and its question."""
        identity, query = prompt
        keys = {number: (rollout_id(identity, number), query) for number in numbers}
        return tuple(n for n, key in keys.items() if key not in self.scored and key not in self.void)


def lacking(config: RunConfig, answers: int) -> int:
    """How many answers are to be generated."""
    found = Collected.read(config.directory / "store", "train")
    return sum(len(found.missing(_prompt(row), range(answers))) for _, row in _prompts(config))


def collect(
    run: Session, engines: Engines | None, *, answers: int, temperature: float, seed: int, at_once: int
) -> None:
    """Generate what is missing of `answers` answers to each training prompt and score it; score again what is void.

    `at_once`: answers in flight of an engine. Without `engines` only the latter. A judge that is down or too expensive
    ends it with the error of rl/errors.py; what was scored by then is kept.
    """
    found = Collected.read(run.config.directory / "store", "train")
    todo = _todo(run.config, found, answers)
    generated = sum(len(label.rollouts or ()) for label, _ in todo.values()) if engines else 0
    again = sum(len(voids) for _, voids in todo.values())
    if found.scored:
        run.say(f"{len(found.scored):,} answers are in the store already")
    if not generated + again:
        return
    what = f"{generated:,} to generate" + (f", {again:,} to judge again" if again else "")
    run.say(f"collecting answers: {what}")
    sampling = engines.sampling(temperature) if engines else None

    def calls() -> Iterator[Callable[[], Any]]:
        number = 0
        for _, row in _prompts(run.config):
            # Taken out, so that a row that stands there twice is answered once.
            wanted = todo.pop(_prompt(row), None)
            if wanted is None:
                continue
            label, voids = wanted
            for void in voids:
                yield partial(_score_again, run, label, row["input"], void)
            if engines and label.rollouts:
                seeded = row | {"label": replace(label, seed=seed).to_json()}
                yield partial(engines.generate, number, seeded, sampling, len(label.rollouts))
                number += 1

    progress = _Progress(run, generated + again)
    for result in in_flight(calls(), max(1, at_once * len(engines.actors if engines else [1]) // answers)):
        progress.add(result if isinstance(result, list) else [result])
    progress.tell()


def score_responses(run: Session, source: Path, length: Callable[[str], int], at_once: int) -> None:
    """Score answers that were sampled elsewhere, those that the store has no score for yet.

    `length` counts the tokens of an answer.
    """
    found = Collected.read(run.config.directory / "store", "train")
    sft = run.config.data.train
    broken: list[str] = []
    todo = [r.rollout for r in published.responses(source, broken, sft) if _key(r) not in found.scored]
    run.say(f"scoring {len(todo):,} answers of {source}; {len(found.scored):,} are scored already")
    for problem in broken:
        run.say(f"passed over: {problem}")
    wanted = set(todo)

    def calls() -> Iterator[Callable[[], Any]]:
        for response in published.responses(source, [], sft):
            if response.rollout in wanted:
                sample = response.sample
                about: dict[str, Any] = {"id": sample.id, "split": "train", "rollout": response.rollout}
                about |= {"tokens": length(sample.answer), "truncated": False}
                document = {"context": sample.context, "query": sample.query}
                yield partial(_score, run, document, sample.answer, about)

    progress = _Progress(run, len(todo))
    for result in in_flight(calls(), at_once):
        progress.add([result])
    progress.tell()


def _score(run: Session, document: dict[str, str], answer: str, about: dict[str, Any]) -> Any:
    """A reference to the score of an answer that is there already."""
    return run.workers.for_document(about["id"]).score.remote(ray.put(document), answer, about)


def _score_again(run: Session, label: Label, prompt: str, stored: _Stored) -> Any:
    document = {"context": prompt[slice(*label.context)], "query": prompt[slice(*label.query)]}
    about: dict[str, Any] = {"id": label.id, "split": label.split, "rollout": stored.rollout}
    return _score(run, document, stored.answer, about | {"tokens": stored.tokens, "truncated": stored.truncated})


def _key(response: published.Response) -> Key:
    return response.rollout, response.sample.query


def _prompt(row: dict[str, Any]) -> Key:
    """The id and the question of a prepared prompt."""
    label = Label.from_json(row["label"])
    return label.id, row["input"][slice(*label.query)]


def _prompts(config: RunConfig) -> Iterator[tuple[int, dict[str, Any]]]:
    """The training prompts, as many as the run takes."""
    return islice(store.read(config.prompts("train")), config.openrlhf.get("data.max_samples"))


def _todo(config: RunConfig, found: Collected, answers: int) -> dict[Key, tuple[Label, list[_Stored]]]:
    """By prompt: what to generate, as its label says it, and what to judge again. Prompts without either are not
    there."""
    voids: dict[Key, list[_Stored]] = {}
    for record in found.void.values():
        voids.setdefault((record.id, record.query), []).append(record)
    todo: dict[Key, tuple[Label, list[_Stored]]] = {}
    for _, row in _prompts(config):
        prompt = _prompt(row)
        missing = found.missing(prompt, range(answers))
        if missing or prompt in voids:
            todo.setdefault(prompt, (replace(Label.from_json(row["label"]), rollouts=missing), voids.get(prompt, [])))
    return todo


class _Progress:
    """A line now and then: how many answers are there, what they got, and how long it will take."""

    def __init__(self, run: Session, answers: int) -> None:
        self._run, self._answers = run, answers
        self._begun = self._told = time.monotonic()
        self._done = self._void = 0
        self._max_void_rate = run.config.reward.max_void_rate
        self._recent: deque[bool] = deque(maxlen=run.config.reward.void_window)
        self._sums = dict.fromkeys(["total", *DIMENSIONS], 0.0)

    def add(self, results: list[Any]) -> None:
        """Rollouts as the agent returns them, or what a worker says of an answer."""
        for result in results:
            scores = result.scores if isinstance(result, Scored) else _scores(result["extra_logs"])
            self._done += 1
            self._void += scores is None
            self._recent.append(scores is None)
            for name in self._sums:
                self._sums[name] += (scores or {}).get(name, 0.0)
        if time.monotonic() - self._told > _TELL_S:
            self.tell()
        rate = sum(self._recent) / len(self._recent)
        if len(self._recent) == self._recent.maxlen and rate > self._max_void_rate:
            raise TooManyVoidsError(
                f"{rate:.0%} of the last {len(self._recent)} rewards are void (reward.max_void_rate is "
                f"{self._max_void_rate:.0%}): the judge fails; mend it and continue with resume=true"
            )

    def tell(self) -> None:
        if not self._done:
            return
        self._told = time.monotonic()
        passed = self._told - self._begun
        left = passed / self._done * (self._answers - self._done)
        scored = max(1, self._done - self._void)
        parts = [f"answers {self._done:,}/{self._answers:,}"]
        parts += [f"{SHORT[name]} {value / scored:.2f}" for name, value in self._sums.items()]
        parts += [f"void {self._void / self._done:.0%}", clock(passed) + (f", {clock(left)} left" if left else "")]
        self._run.console.print("  ".join(parts), highlight=False, soft_wrap=True)


def _scores(logs: Mapping[str, float]) -> dict[str, float] | None:
    if logs["longreward/void"]:
        return None
    return {name: logs[f"longreward/{name}"] for name in ["total", *DIMENSIONS] if f"longreward/{name}" in logs}
