"""Answers that are there already, scored by this run's reward: a file of them, or the store of another run.

What the run's own store has a score for is not scored again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from longreward import store
from longreward.config import MOST_RANKED
from longreward.errors import InputError
from rl.data.prompt_files import count_tokens
from rl.data.prompts import Label, as_label
from rl.offline import published_files
from rl.offline.collect import AnswerKey, make_calls, score, stored, training_answers, training_prompts
from rl.offline.pair_answers import CollectedAnswer
from rl.run.session import Session


def score_store(run: Session, source: Path, prompts: int, at_once: int) -> None:
    """Score those answers of the store `source` that the run's own has no score for yet. They keep their rollouts, so
    that all answers to a prompt form a group.

    Only those to the first `prompts` training prompts. InputError where there is none, and where a judge is to rank
    more answers to a prompt than it can.
    """
    scored, _ = stored(run.config.directory / "store")
    ranks = run.config.reward.ranks
    there = _by_prompt(source)
    count = sum(map(len, there.values()))
    groups: dict[AnswerKey, list[CollectedAnswer]] = {}
    for prompt, label, _ in islice(training_prompts(run.config), prompts):
        # The id may stand for another document in other data.
        group = [one for one in there.pop(prompt, {}).values() if one.document in ("", label.document)]
        if ranks:
            _check_rankable(source, label.id, len(group))
        groups |= {prompt: group} if group else {}
    known = sum(map(len, groups.values()))
    if not known:
        raise InputError(
            f"collect.responses {source} holds no answer to a prompt of {run.config.data.train}; give the store/ of a "
            "run over the same data"
        )
    todo = sum((one.rollout, one.query) not in scored for group in groups.values() for one in group)
    run.say(f"scoring {todo:,} answers of {source}; {known - todo:,} are scored already")
    if known < count:
        run.say(f"passed over: {count - known:,} answers to prompts that are not trained on")

    def calls() -> Iterator[Callable[[], Any]]:
        for prompt, label, row in training_prompts(run.config):
            group = groups.pop(prompt, [])
            siblings = tuple(one.answer for one in group) if ranks else ()
            for one in group:
                if (one.rollout, one.query) not in scored:
                    about = {"rollout": one.rollout, "tokens": one.tokens, "truncated": one.truncated}
                    yield partial(score, run, row["input"], label, one.answer, about, siblings)

    make_calls(run, calls(), at_once, todo)


def _by_prompt(source: Path) -> dict[AnswerKey, dict[str, CollectedAnswer]]:
    """The training answers of a store by prompt and rollout."""
    found: dict[AnswerKey, dict[str, CollectedAnswer]] = {}
    for record in training_answers(source):
        record.dimensions = {}  # nobody asks what they got there
        group = found.setdefault((record.id, record.query), {})
        # A void answer may have been generated again.
        group[record.rollout] = max(
            group.get(record.rollout, record), record, key=lambda one: store.rank(one.total, one.time)
        )
    return found


def score_responses(run: Session, source: Path, tokenizer: Any, at_once: int) -> None:
    """Score those answers of the file `source`, sampled elsewhere, that the store has no score for yet.

    `tokenizer` counts the tokens of an answer. The reward must be one that can score them (see rl/offline/planning.py).
    InputError where a judge is to rank more answers to a prompt than it can.
    """
    scored, _ = stored(run.config.directory / "store")
    sft = run.config.data.train
    broken: list[str] = []
    criteria = run.config.reward.uses_criteria
    all_of_them = published_files.responses(source, broken, sft, criteria=criteria)
    todo = {each.rollout for each in all_of_them if (each.rollout, each.sample.query) not in scored}
    siblings = _siblings(published_files.responses(source, [], sft), source) if run.config.reward.ranks else {}
    run.say(f"scoring {len(todo):,} answers of {source}; {len(scored):,} are scored already")
    for problem in broken:
        run.say(f"passed over: {problem}")

    def calls() -> Iterator[Callable[[], Any]]:
        for response in published_files.responses(source, [], sft, criteria=criteria):
            if response.rollout in todo:
                sample = response.sample
                prompt, label = Label.of_text(sample.id, "train", sample.context, sample.query)
                label = replace(label, criteria=as_label(sample.criteria))
                about = {
                    "rollout": response.rollout,
                    "tokens": count_tokens(tokenizer, sample.answer),
                    "truncated": False,
                }
                ranked_with = siblings.get((sample.id, sample.query), ())
                yield partial(score, run, prompt, label, sample.answer, about, ranked_with)

    make_calls(run, calls(), at_once, len(todo))


def _siblings(responses: Iterable[published_files.Response], source: Path) -> dict[AnswerKey, tuple[str, ...]]:
    """All responses to each prompt. InputError where there are too many to rank."""
    found: dict[AnswerKey, list[str]] = {}
    for response in responses:
        found.setdefault((response.sample.id, response.sample.query), []).append(response.sample.answer)
    for (identity, _), answers in found.items():
        _check_rankable(source, identity, len(answers))
    return {prompt: tuple(answers) for prompt, answers in found.items()}


def _check_rankable(source: Path, identity: str, answers: int) -> None:
    if answers > MOST_RANKED:
        raise InputError(
            f"{source} has {answers} responses to {identity!r}, and a judge ranks at most {MOST_RANKED}; set "
            "reward.helpfulness.way=rating"
        )
