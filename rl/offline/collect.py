"""Answers for offline training: generated and scored in one pass into the run's store, each exactly once.

An answer is known by its prompt and its number, which also make its random seed. What the store holds is neither
generated nor judged again; what it holds without a score is judged again as it stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import ray

from longreward import store
from longreward.files import jsonlines
from longreward.openrlhf_logs import AnswerFigures, void_reason
from longreward.voids import VoidWindow
from rl.config import RunConfig
from rl.data.prompts import Label, rollout_id
from rl.monitor.live_view import Figure, View
from rl.monitor.progress import SHORT
from rl.offline.pair_answers import CollectedAnswer
from rl.reward_functions import registry
from rl.rollout.engines import Engines, in_flight
from rl.rollout.reward_client import scores_of
from rl.run.session import Session

_TELL_S = 10  # seconds between two lines of progress


AnswerKey = tuple[str, str]
"""The id of a rollout or of a prompt, and the question: several questions about a document may share its id."""


def stored(folder: Path) -> tuple[set[AnswerKey], dict[AnswerKey, CollectedAnswer]]:
    """Of the training answers that a store holds the rollouts with a score, and those whose judging failed, with their
    answers. Lines that a kill has cut are passed over."""
    scored: set[AnswerKey] = set()
    void: dict[AnswerKey, CollectedAnswer] = {}
    for record in training_answers(folder):
        if record.total is not None:
            scored.add((record.rollout, record.query))
        else:
            void[record.rollout, record.query] = record
    return scored, {key: record for key, record in void.items() if key not in scored}


def training_answers(folder: Path) -> Iterator[CollectedAnswer]:
    for path in store.files(folder):
        for _, _, record in store.read(path, [], CollectedAnswer):
            if record.split == "train":
                yield record


@dataclass
class Outstanding:
    """What is still to do until each training prompt has `answers` scored answers in the store."""

    answers: int
    """How many each prompt is to have."""
    scored: int
    """How many the store holds, of all prompts."""
    by_prompt: dict[AnswerKey, tuple[Label, list[CollectedAnswer]]]
    """For each prompt with something to do: its label, which names the answers to generate, and the answers to judge
    again."""

    @classmethod
    def of(cls, config: RunConfig, answers: int, prompts: int | None = None) -> Outstanding:
        """`answers` to each of the first `prompts` training prompts, or of all of them."""
        scored, void = stored(config.directory / "store")
        voids: dict[AnswerKey, list[CollectedAnswer]] = {}
        for record in void.values():
            voids.setdefault((record.id, record.query), []).append(record)
        todo: dict[AnswerKey, tuple[Label, list[CollectedAnswer]]] = {}
        known = scored | void.keys()
        for prompt, label, _ in islice(training_prompts(config), prompts):
            missing = tuple(n for n in range(answers) if (rollout_id(label.id, n), prompt[1]) not in known)
            if missing or prompt in voids:
                todo.setdefault(prompt, (replace(label, rollouts=missing), voids.get(prompt, [])))
        if config.reward.ranks:
            todo = _with_siblings(todo, config.directory / "store")
        return cls(answers, len(scored), todo)

    @property
    def to_generate(self) -> int:
        return sum(len(label.rollouts or ()) for label, _ in self.by_prompt.values())

    @property
    def to_judge_again(self) -> int:
        return sum(len(voids) for _, voids in self.by_prompt.values())


def collect(
    run: Session, engines: Engines | None, outstanding: Outstanding, *, temperature: float, seed: int, at_once: int
) -> None:
    """Generate and score what is outstanding; score again what is void. Without `engines` only the latter.

    `at_once`: how many answers an engine has in flight. A judge that is down or has used up its money ends this with an
    error of rl/errors.py; what was scored by then is kept.
    """
    todo, ranks = dict(outstanding.by_prompt), run.config.reward.ranks
    generated, again = outstanding.to_generate if engines else 0, outstanding.to_judge_again
    if outstanding.scored:
        run.say(f"{outstanding.scored:,} answers are in the store already")
    if not generated + again:
        return
    what = f"{generated:,} to generate" + (f", {again:,} to judge again" if again else "")
    run.say(f"collecting answers: {what}")
    sampling = engines.sampling(temperature) if engines else None

    def calls() -> Iterator[Callable[[], Any]]:
        number = 0
        for prompt, _, row in training_prompts(run.config):
            # Taken out, so that a row that stands there twice is answered once.
            wanted = todo.pop(prompt, None)
            if wanted is None:
                continue
            label, voids = wanted
            siblings = (*label.answered, *(void.answer for void in voids)) if ranks else ()
            for void in voids:
                about = {"rollout": void.rollout, "tokens": void.tokens, "truncated": void.truncated}
                yield partial(score, run, row["input"], label, void.answer, about, siblings)
            if engines and label.rollouts:
                seeded = row | {"label": replace(label, seed=seed).to_json()}
                yield partial(engines.generate, number, seeded, sampling, len(label.rollouts))
                number += 1

    at_once = max(1, at_once * len(engines.actors if engines else [1]) // outstanding.answers)
    make_calls(run, calls(), at_once, generated + again)


def _with_siblings(
    todo: Mapping[AnswerKey, tuple[Label, list[CollectedAnswer]]], folder: Path
) -> dict[AnswerKey, tuple[Label, list[CollectedAnswer]]]:
    """The same where answers are ranked: with the scored answers to each prompt. Where some are still to be generated,
    all void ones are generated with them, the same as before by their seeds: an answer is ranked with whole groups."""
    scored: dict[AnswerKey, dict[str, str]] = {prompt: {} for prompt in todo}
    for record in training_answers(folder):
        prompt = record.id, record.query
        if record.total is not None and prompt in scored:
            scored[prompt][record.rollout] = record.answer
    found = {}
    for prompt, (label, voids) in todo.items():
        if label.rollouts:
            again = (int(void.rollout.rpartition("/")[2]) for void in voids)
            label, voids = replace(label, rollouts=tuple(sorted((*label.rollouts, *again)))), []
        found[prompt] = replace(label, answered=tuple(scored[prompt].values())), voids
    return found


def score(
    run: Session, prompt: str, label: Label, answer: str, about: dict[str, Any], siblings: tuple[str, ...]
) -> Any:
    """A reference to the score of an answer that is there already."""
    worker = run.workers.for_document(label.id)
    return worker.score.remote(ray.put(prompt), label, answer, about, siblings)


def training_prompts(config: RunConfig) -> Iterator[tuple[AnswerKey, Label, dict[str, Any]]]:
    """The training prompts: id and question, label, and row of the prepared file."""
    for _, row in jsonlines.read(config.prompts("train")):
        label = Label.from_json(row["label"])
        yield (label.id, row["input"][slice(*label.query)]), label, row


def make_calls(run: Session, calls: Iterable[Callable[[], Any]], at_once: int, answers: int) -> None:
    """Make the calls, which bring so many answers in all, and tell how far they are."""
    progress = CollectingProgress(run, answers)
    with run.screen.showing(progress.view):
        for result in in_flight(calls, at_once):
            progress.add(result if isinstance(result, list) else [result])
    progress.tell()


class CollectingProgress:
    """How many answers are there, what they got, and how long it will take: live, or a line now and then."""

    def __init__(self, run: Session, answers: int) -> None:
        self._run, self._answers = run, answers
        self._begun = self._told = time.monotonic()
        self._done = self._void = 0
        reward = run.config.reward
        self._voids = VoidWindow(
            reward.max_void_rate, reward.void_window, setting="reward.max_void_rate", then="continue with resume=true"
        )
        self._sums = dict.fromkeys(["total", *registry.dimensions(run.config.reward)], 0.0)

    def add(self, results: list[Any]) -> None:
        """Rollouts as the agent returns them, or what a worker says of an answer."""
        for result in results:
            if isinstance(result, AnswerFigures):
                scores, reason = result.scores, result.reason
            else:
                logs = result["extra_logs"]
                scores, reason = scores_of(logs), void_reason(logs)
            self._done += 1
            self._void += scores is None
            self._voids.add(scores is None, reason)
            for name in self._sums:
                self._sums[name] += (scores or {}).get(name, 0.0)
        if time.monotonic() - self._told > _TELL_S and not self._run.screen.is_live:
            self.tell()

    def view(self) -> View:
        """For a terminal."""
        done, scored, passed = self._done, self._done - self._void, time.monotonic() - self._begun
        left = passed / done * (self._answers - done) if done else None
        figures = [Figure(SHORT.get(name, name), [value / scored]) for name, value in self._sums.items() if scored]
        void = [f"void {self._void / done:.0%}"] if done else []
        return View("answers", done, self._answers, passed, left, figures, void)

    def tell(self) -> None:
        """Print a line, once there is an answer."""
        if self._done:
            self._told = time.monotonic()
            self._run.console.print(self.view().line(), highlight=False, soft_wrap=True)
