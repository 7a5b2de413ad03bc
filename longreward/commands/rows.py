"""The rows of a data set: idx (or id), context, query, and an answer, none yet, or two with a human's preference."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from rich.console import Console

from longreward import rows
from longreward.errors import InputError
from longreward.preflight.counting import Prompt
from longreward.rows import chats
from longreward.rows.contexts import Contexts
from longreward.rows.criteria import criteria_of
from longreward.schema import HumanPreference, Sample
from longreward.text.sentences import says_nothing

_SHORT = {"win_response": "win", "lose_response": "lose", "answer_a": "a", "answer_b": "b"}
"""What ends the id of an answer."""
_SHOWN = 10  # unreadable rows that are named
_PUBLISHED = ("win_response", "lose_response")
_PREFERRED = ("chosen", "rejected")
_LABELLED = ("answer_a", "answer_b", "preference")


class _RowFile:
    """A file of rows. Rows that cannot be read are passed over and noted in `broken`, as `file:line: why`."""

    def __init__(self, source: Path, *, criteria: bool = False) -> None:
        """`criteria`: each row has some, or is broken; else they are not looked at."""
        self.source, self.criteria = source, criteria
        self.broken: list[str] = []

    @property
    def first_problem(self) -> str:
        """For the end of a sentence; empty if there was none."""
        return f"; first problem: {self.broken[0]}" if self.broken else ""

    def report(self, console: Console) -> None:
        """Name the rows that were passed over."""
        report_broken(self.broken, console)


def report_broken(broken: Sequence[str], console: Console) -> None:
    """Name rows that were passed over."""
    for problem in broken[:_SHOWN]:
        console.print(f"skipped {problem}", style="red", markup=False, highlight=False)
    if broken:
        were, them = ("row was", "it") if len(broken) == 1 else ("rows were", "them")
        sentence = f"{len(broken):,} {were} skipped; correct {them} and run the same command again"
        console.print(sentence, style="red")


class Documents(_RowFile):
    """The documents of a file: rows with idx (or id) and context. An identical document comes once."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self.repeated = 0
        """Rows whose document came before."""

    def by_id(self) -> dict[str, str]:
        """The documents by their ids, in the order of the file. InputError where there is none."""
        found: dict[str, str] = {}
        seen: set[str] = set()
        for number, row in rows.read(self.source, self.broken):
            try:
                identity, context = rows.row_id(row, number), row.get("context")
                if not isinstance(context, str):
                    raise ValueError(f"context must be text, found {type(context).__name__}")
                if says_nothing(context):
                    raise ValueError("context is empty; leave that row out")
                if found.get(identity, context) != context:
                    raise ValueError(f"idx {identity!r} stands for another document before; give each its own")
            except ValueError as error:
                self.broken.append(f"{self.source}:{number}: {error}")
                continue
            if context in seen:
                self.repeated += 1
                continue
            seen.add(context)
            found[identity] = context
        if not found:
            raise InputError(f"{self.source} holds no readable row with context{self.first_problem}")
        return found


class Rows(_RowFile):
    """The answers and prompts of a file, with keys made of their content. An identical row comes once."""

    def __init__(self, source: Path, *, criteria: bool = False, contexts: Path | None = None) -> None:
        """`contexts`: the sft file that rows without a context are joined with."""
        super().__init__(source, criteria=criteria)
        self._contexts = None if contexts is None else Contexts(contexts, self.broken)
        self.answers = 0
        self.prompts = 0
        """Rows without an answer."""

    def report(self, console: Console) -> None:
        """Also tell how many responses have another question than the row that they were joined with."""
        if self._contexts is not None and self._contexts.others:
            count = f"{self._contexts.others:,} of {self._contexts.joins:,} responses"
            ask = "ask something else than the row with their idx"
            console.print(f"{count} {ask}; they are judged by their own question", highlight=False)
        super().report(console)

    def samples(self, *, unanswered: bool = False) -> Iterator[tuple[str, Sample, bool]]:
        """Yield (key, sample, whether it has an answer). A row without an answer is one more broken row, unless
        `unanswered`."""
        seen: set[str] = set()
        for number, row in rows.read(self.source, self.broken):
            answered = row.get("answer") is not None
            blank = {"answer": ""} if unanswered and not answered else {}
            try:
                sample = self._sample(number, row | blank, self.criteria)
            except ValueError as error:
                self.broken.append(f"{self.source}:{number}: {error}")
                continue
            key = row_key(sample)
            if key in seen:
                continue
            seen.add(key)
            self.answers += answered
            self.prompts += not answered
            yield key, sample, answered

    def by_any_key(self) -> Iterator[tuple[str, Sample]]:
        """The answers, each under every key that it can have been scored by: with its criteria, and without."""
        for number, row in rows.read(self.source, []):
            with suppress(ValueError):
                sample = self._sample(number, row, criteria=False)
                without = row_key(sample)
                with suppress(ValueError):
                    sample = self._sample(number, row, criteria=True)
                    yield row_key(sample), sample
                yield without, sample

    def to_estimate(self) -> Iterator[Sample | Prompt]:
        """The answers, and the prompts without an answer. InputError at the end if there were none."""
        for _, sample, answered in self.samples(unanswered=True):
            yield sample if answered else Prompt(sample.context, sample.query, sample.criteria)
        if not self.answers + self.prompts:
            also = ", and criteria" if self.criteria else ""
            raise InputError(f"{self.source} holds no readable row with context and query{also}{self.first_problem}")

    def _sample(self, number: int, row: dict[str, Any], criteria: bool) -> Sample:
        """ValueError as `_sample`, and where a row has no context and none can be joined."""
        if self._contexts is not None and row.get("context") is None:
            _, row = self._contexts.joined(row)
        return _sample(number, row, {name: row.get(name) for name in ("context", "query", "answer")}, criteria)


@dataclass(frozen=True)
class LabelledPair:
    """Two answers to a question, and which of them a human prefers."""

    idx: str
    line: int
    human: HumanPreference
    a: str
    """The key of the answer a: answers of the same text to the same question have the same."""
    b: str


class Pairs(_RowFile):
    """The labelled pairs of a file, in one of three formats, which it may mix.

    win_response and lose_response, or chosen and rejected, of which the human prefers the first; or answer_a, answer_b
    and preference: "a", "b" or "tie". Each row is a label of its own, also where several are about the same two
    answers. Rows of Long-RewardBench (arXiv 2510.06915) have chat messages, `prompt_template`, for context and query.
    """

    def __init__(self, source: Path, *, criteria: bool = False) -> None:
        super().__init__(source, criteria=criteria)
        self.passed_over: Counter[str] = Counter()
        """Rows that are in order and hold no pair, by the reason."""
        self.split = 0
        """Pairs whose context and query were made of chat messages."""
        self.first_split = ""
        """The query of the first of them."""

    def pairs(self) -> Iterator[tuple[LabelledPair, Sample, Sample]]:
        """Yield each pair with its two answers, whose ids are "IDX/win" and "IDX/lose", "IDX/chosen" and
        "IDX/rejected", or "IDX/a" and "IDX/b"."""
        for number, row in rows.read(self.source, self.broken):
            if row.get("tasktype") == "BestOfN":
                self.passed_over["BestOfN: candidates, not a pair"] += 1
                continue
            chat = row.get("context") is None and row.get("prompt_template") is not None
            try:
                if chat:
                    context, query = chats.context_and_query(row["prompt_template"], "prompt_template")
                    row |= {"context": context, "query": query}
                pair = _pair(number, row, self.criteria)
            except ValueError as error:
                self.broken.append(f"{self.source}:{number}: {error}")
            else:
                if chat:
                    self.first_split = self.first_split or pair[1].query
                    self.split += 1
                yield pair


def _pair(number: int, row: dict[str, Any], criteria: bool) -> tuple[LabelledPair, Sample, Sample]:
    """ValueError says what is wrong with a row."""
    formats = [form for form in (_PUBLISHED, _PREFERRED, _LABELLED) if any(row.get(name) is not None for name in form)]
    if len(formats) > 1:
        raise ValueError(f"it has the fields of several formats; keep only {', or '.join(map(' and '.join, formats))}")
    form = formats[0] if formats else _LABELLED
    needed = ("context", "query", *form)
    missing = [name for name in needed if row.get(name) is None]
    if missing:
        other = f" (or {' and '.join(_PUBLISHED)} in place of the last three)" if form is _LABELLED else ""
        raise ValueError(f"{', '.join(missing)} missing; a pair needs {', '.join(needed)}{other}")
    wrong = [f"{name} must be text, found {type(row[name]).__name__}" for name in needed if type(row[name]) is not str]
    if wrong:
        raise ValueError(", ".join(wrong))
    human: Any = row["preference"] if form is _LABELLED else "a"
    if human not in get_args(HumanPreference):
        raise ValueError(f'preference is {human!r}; write "a", "b" or "tie"')
    name_a, name_b = form[:2]
    if row[name_a] == row[name_b]:
        raise ValueError(f"{name_a} and {name_b} are the same text: no judge can prefer one; leave that row out")
    sample = _sample(number, row, {"context": row["context"], "query": row["query"], "answer": row[name_a]}, criteria)
    answers = [
        sample.model_copy(update={"id": f"{sample.id}/{_SHORT.get(name, name)}", "answer": row[name]})
        for name in (name_a, name_b)
    ]
    key_a, key_b = (row_key(answer.model_copy(update={"id": ""})) for answer in answers)
    return LabelledPair(sample.id, number, human, key_a, key_b), answers[0], answers[1]


def _sample(number: int, row: dict[str, Any], fields: dict[str, Any], criteria: bool) -> Sample:
    """ValueError names the fields that are not text, or what is wrong with the criteria, where they are looked at."""
    identity = rows.row_id(row, number)
    fields = fields | ({"criteria": criteria_of(row)} if criteria else {})
    try:
        return Sample(id=identity, **fields)
    except ValidationError as error:
        wrong = [f"{e['loc'][0]} must be text, found {type(e['input']).__name__}" for e in error.errors()]
        raise ValueError(", ".join(wrong)) from None


def row_key(sample: Sample) -> str:
    """The key of an answer: a hash of its row."""
    # Nothing of what is not there: files of scores from before there were criteria can be continued.
    content = sample.model_dump(exclude=None if sample.criteria else {"criteria"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
