"""Scores of a policy on held-out prompts, through the same engines, agent and judge workers as training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import ray

from longreward import store
from longreward.evaluation.facts import AnswerFacts, answer_facts
from longreward.evaluation.intervals import paired_change
from longreward.files import jsonlines
from longreward.schema import DIMENSIONS
from longreward.text.markdown import table
from rl.config import RunConfig
from rl.data.prompts import Label, rollout_id
from rl.rollout.engines import Engines, in_flight
from rl.rollout.judge_workers import Workers
from rl.rollout.reward_client import scores_of

_AT_ONCE = 512

PromptKey = tuple[str, str]
"""A prompt: its id, which is the document's, and its question. Several prompts may be about one document."""


@dataclass(frozen=True)
class HeldoutScores:
    """Held-out scores of one policy: per prompt, the mean over its answers that are not void."""

    prompts: dict[PromptKey, dict[str, float]] = field(default_factory=dict)
    """Prompt -> total and dimensions, 0..10. A prompt whose answers are all void is not in it."""
    answers: int = 0
    void: int = 0

    @property
    def names(self) -> list[str]:
        """`total` and what it consists of: for LongReward all four, asked for or not."""
        found, usual = list(next(iter(self.prompts.values()), ())), ["total", *DIMENSIONS]
        return usual if set(found) <= set(usual) else found

    def means(self) -> dict[str, float | None]:
        """`total` and each dimension over the prompts; None where nothing was scored."""
        found = {n: [s[n] for s in self.prompts.values() if n in s] for n in self.names}
        return {name: statistics.fmean(values) if values else None for name, values in found.items()}

    @classmethod
    def read(cls, path: Path) -> HeldoutScores | None:
        """What `write` wrote; None where there is nothing. Files of before have no questions: those are empty then."""
        data = jsonlines.read_json(path)
        if data is None:
            return None
        rows = data.pop("prompts")
        if isinstance(rows, dict):
            rows = [{"id": identity, "scores": scores} for identity, scores in rows.items()]
        return cls({(row["id"], row.get("query", "")): row["scores"] for row in rows}, **data)

    def write(self, path: Path) -> None:
        """For a run that is continued: the scores before training are taken once."""
        rows = [{"id": i, "query": query, "scores": scores} for (i, query), scores in self.prompts.items()]
        jsonlines.write_json(path, {"prompts": rows, "answers": self.answers, "void": self.void})

    def summary(self) -> dict[str, Any]:
        rounded = {name: None if value is None else round(value, 4) for name, value in self.means().items()}
        return {"n": len(self.prompts), "answers": self.answers, "void": self.void, **rounded}


def gain(before: HeldoutScores, after: HeldoutScores, dimension: str = "total") -> dict[str, Any]:
    """After - before over the prompts scored in both: mean and 95% interval (normal approximation)."""
    old, new = ({key: scores[dimension] for key, scores in one.prompts.items()} for one in (before, after))
    if not any(query for _, query in old):
        new = _by_id(new)  # the scores before may be of a file without questions
    mean, low, high, n = paired_change(old, new) or (None, None, None, 0)
    if mean is None or low is None or high is None:
        return {"n": n, "total": None, "interval": None}
    return {"n": n, "total": round(mean, 4), "interval": [round(low, 4), round(high, 4)]}


def _by_id(values: dict[PromptKey, float]) -> dict[PromptKey, float]:
    found: dict[PromptKey, list[float]] = {}
    for (identity, _), value in values.items():
        found.setdefault((identity, ""), []).append(value)
    return {key: statistics.fmean(each) for key, each in found.items()}


def markdown(names: Sequence[str], scores: Sequence[HeldoutScores]) -> str:
    """A table of one policy's scores, or of two policies' with the change and its 95% interval."""
    heads = ["held-out reward, 0-10", *names, *(["change"] if len(scores) > 1 else [])]
    rows = []
    for dimension in scores[0].names:
        means = [one.means().get(dimension) for one in scores]
        if None in means:
            continue
        cells = [f"{mean:.2f}" for mean in means if mean is not None]
        if len(scores) > 1:
            change = gain(scores[0], scores[1], dimension)
            low, high = change["interval"] or (float("nan"), float("nan"))
            cells.append(f"{change['total']:+.2f} ({low:+.2f} to {high:+.2f})" if change["interval"] else "-")
        rows.append([dimension, *cells])
    counts = ", ".join(
        f"{name}: {one.answers} answers, {one.void} void" for name, one in zip(names, scores, strict=True)
    )
    return f"{table(heads, rows)}\n\n{counts}. In brackets: 95% interval over prompts."


def evaluate(config: RunConfig, engines: Engines, prompts: Path | None = None) -> HeldoutScores:
    """Sample `evaluation.n_samples_per_prompt` answers per prompt from the engines' policy and score them. `prompts` is
    a prepared prompt file; None: the run's own held-out one."""
    rows, section = (row for _, row in jsonlines.read(prompts or config.prompts("heldout"))), config.evaluation
    groups = engines.rollouts(rows, section.temperature, section.n_samples_per_prompt)
    return collect(one for group in groups for one in group)


def collect(responses: Iterable[dict[str, Any]]) -> HeldoutScores:
    """Scores of rollouts as the agent returns them. Void ones are counted, never averaged in."""
    by_prompt: dict[PromptKey, list[dict[str, float]]] = {}
    answers = void = 0
    # None is held: their tokens are some MB each for long documents.
    for response in responses:
        answers += 1
        scores = scores_of(response["extra_logs"])
        if scores is None:
            void += 1
            continue
        label = Label.from_json(response["label"])
        by_prompt.setdefault((label.id, response["prompt"][slice(*label.query)]), []).append(scores)
    means = {key: {n: statistics.fmean(s[n] for s in scores) for n in scores[0]} for key, scores in by_prompt.items()}
    return HeldoutScores(means, answers, void)


class _Statement(msgspec.Struct):
    support: float | None = None


class _Dimension(msgspec.Struct):
    score: float | None = None
    statements: list[_Statement] = msgspec.field(default_factory=list)


class StoredAnswer(store.Fields, kw_only=True):
    """A held-out answer with its scores and the support of its statements."""

    rollout: str
    # Defaults are not written: an empty answer is a record without one.
    query: str = ""
    answer: str = ""
    tokens: int
    truncated: bool
    total: float | None = None
    time: float = 0.0
    dimensions: dict[str, _Dimension] = msgspec.field(default_factory=dict)

    @property
    def scores(self) -> dict[str, float] | None:
        """`total` and each dimension, 0..10; None: void."""
        if self.total is None:
            return None
        return {"total": self.total} | {n: d.score for n, d in self.dimensions.items() if d.score is not None}

    @property
    def supports(self) -> list[float] | None:
        """The support of each statement; None where they are not known."""
        found = self.dimensions.get("faithfulness")
        if found is None or found.score is None:
            return None
        return [statement.support for statement in found.statements if statement.support is not None]


AnswerKey = tuple[str, str]
"""A rollout and its question: several prompts may share an id."""


@dataclass(frozen=True)
class StoredHeldout:
    """The held-out answers of one of the policies that an evaluation asks one after the other, each sampled once and
    judged until it has a score. They have numbers of their own, so that nothing in the store is another policy's."""

    directory: Path
    """Of the evaluation."""
    prompts: Path
    """The prepared prompts."""
    numbers: range
    """Of the answers to each prompt."""

    @classmethod
    def of(cls, directory: Path, name: str, place: int, answers: int) -> StoredHeldout:
        """Those of the policy `name`, the `place`-th of the evaluation, which gives so many answers to each prompt."""
        prompts = directory / "data" / f"heldout-{name}.jsonl"
        return cls(directory, prompts, range(place * answers, (place + 1) * answers))

    def scored(self) -> tuple[HeldoutScores, AnswerFacts | None]:
        """The scores and the facts of all answers; no facts where none was judged by its statements. An answer that is
        not in the store counts as void."""
        stored, by_prompt = self._stored(), dict[PromptKey, list[StoredAnswer | None]]()
        for label, keys, _, _ in self._wanted():
            by_prompt[label.id, keys[0][1]] = [stored.get(key) for key in keys]
        answers = [answer for found in by_prompt.values() for answer in found]
        scores = {i: [s for answer in found if answer and (s := answer.scores)] for i, found in by_prompt.items()}
        means = {i: {n: statistics.fmean(s[n] for s in each) for n in each[0]} for i, each in scores.items() if each}
        void = len(answers) - sum(map(len, scores.values()))
        facts = None
        if any(answer and "faithfulness" in answer.dimensions for answer in answers):
            facts = answer_facts({i: [one.supports if one else None for one in f] for i, f in by_prompt.items()})
        return HeldoutScores(means, len(answers), void), facts

    def to_sample(self) -> int:
        """Answers that are still to be sampled."""
        stored = self._stored()
        return sum(key not in stored for _, keys, _, _ in self._wanted() for key in keys)

    def complete(self, engines: Engines | None, workers: Workers, temperature: float, seed: int) -> None:
        """Sample and score what is not in the store, and score again what is void there. Without `engines` only the
        latter. An error of rl/errors.py where the judge is down or has used up its money."""
        stored = self._stored()
        sampling = engines.sampling(temperature) if engines else None

        def calls() -> Iterator[Callable[[], Any]]:
            for place, (label, keys, numbers, row) in enumerate(self._wanted()):
                for void in [found for key in keys if (found := stored.get(key)) and found.total is None]:
                    yield partial(_score_again, workers, row["input"], label, void)
                missing = tuple(n for key, n in zip(keys, numbers, strict=True) if key not in stored)
                if engines and missing:
                    numbered = row | {"label": replace(label, rollouts=missing, seed=seed).to_json()}
                    yield partial(engines.generate, place, numbered, sampling, len(missing))

        actors = len(engines.actors) if engines else 1
        for _ in in_flight(calls(), max(1, _AT_ONCE * actors // len(self.numbers))):
            pass  # the workers have put them into the store

    def _wanted(self) -> Iterator[tuple[Label, list[AnswerKey], range, dict[str, Any]]]:
        """Of each prompt: its label, the keys of its answers, their numbers, and its first row of the prepared file."""
        seen = set[PromptKey]()
        for _, row in jsonlines.read(self.prompts):
            label = Label.from_json(row["label"])
            query = row["input"][slice(*label.query)]
            if (label.id, query) in seen:
                continue
            seen.add((label.id, query))
            yield label, [(rollout_id(label.id, number), query) for number in self.numbers], self.numbers, row

    def _stored(self) -> dict[AnswerKey, StoredAnswer]:
        """Of each answer the record that counts. Lines that a kill has cut are passed over."""
        files = store.files(self.directory / "store")
        records = (record for path in files for _, _, record in store.read(path, [], StoredAnswer))
        return store.counting(records, lambda one: (one.rollout, one.query))


def _score_again(workers: Workers, prompt: str, label: Label, void: StoredAnswer) -> Any:
    """A reference to the score of an answer that is there already. It keeps its time, by which a report knows whose it
    is."""
    about = {"rollout": void.rollout, "tokens": void.tokens, "truncated": void.truncated, "time": void.time}
    return workers.for_document(label.id).score.remote(ray.put(prompt), label, void.answer, about)
