"""Answers read for pairing: those of a store, without their texts, judge's words and evidence, some GB in all; and the
supervised ones of the data."""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from longreward import store
from longreward.errors import ConfigError, InputError
from longreward.schema import Dimension
from rl.data.prompt_files import DocumentsById, Row
from rl.data.prompts import document_hash
from rl.offline.pair_report import PairReport
from rl.trainer.seams.advantages import NO_SPREAD

DIGITS = 9  # of a score; what is behind them depends on the order in which a mean was added up
K = TypeVar("K", bound=Hashable)
_Total = Annotated[float, msgspec.Meta(ge=0, le=10)]
Weights = Mapping[str, float] | Mapping[Dimension, float]
"""By the names of dimensions, or of parts of a composite reward."""


Written = Callable[[str], str | None]
"""As `ended`: what makes an answer's text in a pair."""


class _DimensionTotal(msgspec.Struct):
    score: _Total | None = None


class CollectedAnswer(store.Fields, kw_only=True):
    """A run's scored answer without its verdicts."""

    id: str
    split: str
    rollout: str
    # Defaults are not written: an empty answer, which scores 0, is a record without one.
    query: str = ""
    answer: str = ""
    document: str = ""
    tokens: Annotated[int, msgspec.Meta(ge=0)]
    truncated: bool
    total: _Total | None = None
    kept: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    time: float = 0.0
    dimensions: dict[str, _DimensionTotal] = msgspec.field(default_factory=dict)


class SupervisedAnswer(msgspec.Struct):
    """The answer that a row of the data has."""

    answer: str
    """As it goes into a pair; empty where the end-of-text mark stands inside."""
    tokens: int
    score: None = None

    def text(self, written: Written) -> str:
        return self.answer


class Candidate(msgspec.Struct, gc=False, eq=False):
    """A scored answer that may enter a pair, and where its text stands."""

    rollout: str
    score: float | None
    """0..10; None: void."""
    tokens: int
    truncated: bool
    """Cut at max_new_tokens."""
    writable: bool
    """Not where the end-of-text mark stands inside: trainers would read it as the end."""
    check: int
    """CRC of the text as it goes into a pair."""
    time: float
    path: Path
    offset: int
    parts: tuple[float, ...] = ()
    """The dimensions to rank it by, 0..10, where it is not ranked by its score."""

    def text(self, written: Written) -> str:
        """As it goes into a pair. InputError where the store is not what it was."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            line = file.readline()
        try:
            text = written(store.parse(line, CollectedAnswer).answer)
        except ValueError:
            text = None
        if text is None or crc(text) != self.check:
            raise InputError(f"{self.path} was changed while it was read; start again when nothing writes there")
        return text


PromptKey = tuple[str, int, str]
"""A prompt's id, the CRC of its question and the hash of its document, as other data may have the same ids. The hash is
empty for answers of before it was kept."""
Candidates = dict[PromptKey, dict[tuple[str, int], Candidate]]
"""The answers of each prompt by rollout and CRC: another run may have the same rollouts."""


def read(
    stores: Sequence[Path], weights: Weights | None, parts: Weights, written: Written, report: PairReport
) -> Candidates:
    """All training answers in the folders `stores`, void ones too, entered into `report`.

    `weights` make a score in place of the stored total (None: that one), `parts` are what each is ranked by beside it.

    A rollout that was scored twice, because a worker died, is there once: a score wins over none. InputError where no
    folder has any, ConfigError for weights of dimensions that no answer was scored for.
    """
    groups: Candidates = {}
    scored: set[str] = set()
    report.broken += [f"{folder}: no answers-*.jsonl there" for folder in stores if not store.files(folder)]
    if len(report.broken) == len(stores):
        raise InputError(
            f"no answers-*.jsonl in {', '.join(map(str, stores)) or 'no folder'}; give the store/ of a run"
        )
    for folder in stores:
        found: dict[tuple[PromptKey, str], Candidate] = {}
        for path in store.files(folder):
            for number, offset, record in store.read(path, report.broken, CollectedAnswer):
                if record.split != "train":
                    continue
                if record.total is not None:
                    scored.update(["total", *record.dimensions])
                try:
                    prompt = record.id, crc(record.query), record.document
                    answer = _answer(record, weights, parts, written, path, offset)
                except UnicodeEncodeError as error:
                    report.broken.append(f"{path}:{number}: not usable ({error})")
                else:
                    _enter(found, (prompt, answer.rollout), answer, report)
        for (prompt, rollout), answer in found.items():
            _enter(groups.setdefault(prompt, {}), (rollout, answer.check), answer, report)
    if scored and (hopeless := [name for name in [*(weights or ()), *parts] if name not in scored]):
        raise ConfigError(
            f"pair.weights: no answer in {', '.join(map(str, stores))} was scored for {hopeless[0]}; leave it out"
        )
    answers = [answer for group in groups.values() for answer in group.values()]
    report.answers, report.void = len(answers), sum(answer.score is None for answer in answers)
    report.cut = sum(answer.truncated for answer in answers)
    report.unwritable = sum(not answer.writable for answer in answers)
    return groups


def supervised(data: Iterable[Row], written: Written, count: Callable[[str], int]) -> dict[PromptKey, SupervisedAnswer]:
    """The answers of the rows that prompts were prepared from; rows without one are left out. `count` counts tokens."""
    documents, found = DocumentsById(), []
    for row in data:
        key = documents.add(row)  # of all rows, as an id that several documents have is named after their lines
        if row.answer.strip():
            text = written(row.answer.strip()) or ""
            place = crc(row.query), document_hash(row.context)
            found.append((key, place, SupervisedAnswer(text, count(text))))
    # The first one of rows that are all the same but for their answer, as the prompt is.
    return {(documents.name_of(*key), *place): answer for key, place, answer in reversed(found)}


def _enter(answers: dict[K, Candidate], key: K, answer: Candidate, report: PairReport) -> None:
    other = answers.setdefault(key, answer)
    if other is not answer:
        report.twice += 1
        answers[key] = max(answer, other, key=_preference)


def ended(answer: str, eos: str, lead: str = "") -> str | None:
    """The answer as a policy writes it: with `eos` once, at its very end, and with the white space `lead` before it
    where it has none of its own, as published ones do. None where an `eos` stands inside and would be read as the end.
    """
    # OpenRLHF's RewardDataset adds " " + eos to a text without: a space that the policy never wrote.
    while (bare := answer.rstrip()).endswith(eos):
        answer = bare[: -len(eos)]
    if eos in answer:
        return None
    return (lead if answer and not answer[0].isspace() else "") + answer + eos


def crc(text: str) -> int:
    """UnicodeEncodeError for half a surrogate pair, which no tokenizer takes."""
    return zlib.crc32(text.encode())


def ranked(answers: Iterable[Candidate], weights: Sequence[float]) -> list[tuple[float, Candidate]]:
    """The answers to a prompt that have a score, each with what it is ranked by: its score, or where `weights` of its
    parts are given, the weighted mean of the parts, each normalised over these answers to mean 0 and deviation 1."""
    scored = [(answer.score, answer) for answer in answers if answer.score is not None]
    if not weights or len(scored) < 2:
        return scored
    sums = [0.0] * len(scored)
    for values, weight in zip(zip(*(answer.parts for _, answer in scored), strict=True), weights, strict=True):
        mean, deviation = statistics.fmean(values), statistics.stdev(values)
        if deviation > NO_SPREAD:
            sums = [so_far + weight * (value - mean) / deviation for so_far, value in zip(sums, values, strict=True)]
    whole = sum(weights)
    return [(round(one / whole, DIGITS), answer) for one, (_, answer) in zip(sums, scored, strict=True)]


def _answer(
    record: CollectedAnswer, weights: Weights | None, parts: Weights, written: Written, path: Path, offset: int
) -> Candidate:
    score = record.total
    found = {name: one.score for name, one in record.dimensions.items() if one.score is not None}
    kept = record.kept if record.total else 0.0  # copied words or a gate cost as much of each dimension
    if not parts.keys() <= found.keys():
        score = None
    if weights and score is not None:
        score = None
        if weights.keys() <= found.keys():
            score = kept * sum(weight * found[name] for name, weight in weights.items()) / sum(weights.values())
    text = written(record.answer)
    return Candidate(
        rollout=record.rollout,
        score=None if score is None else round(score, DIGITS),
        tokens=record.tokens,
        truncated=record.truncated,
        writable=text is not None,
        check=crc(text or record.answer),
        time=record.time,
        path=path,
        offset=offset,
        parts=() if score is None else tuple(kept * found[name] for name in parts),
    )


def _preference(answer: Candidate) -> tuple[Any, ...]:
    """Which of two records of one rollout counts; what follows the rank lets their order make no difference."""
    score = -1.0 if answer.score is None else answer.score
    return store.rank(answer.score, answer.time), score, answer.check, answer.tokens, answer.truncated
