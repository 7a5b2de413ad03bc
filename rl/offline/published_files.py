"""LongReward's published files, read as they are: supervised data, sampled responses, preference pairs.

JSON lines, or a .json file that holds one list, which is held in memory whole. A broken row is told with file and line,
and the rest goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from longreward import jsonlines
from longreward.errors import ConfigError, InputError
from longreward.schema import Sample
from rl.data.prompt_files import PromptReport, renderer
from rl.offline import pairs as preferences
from rl.offline.pair_answers import crc, ended
from rl.offline.pair_report import PairReport
from rl.offline.pairs import Fits


@dataclass(frozen=True)
class Response:
    """A sampled response. `sample.id` is the document's, so that all responses to it form a group."""

    rollout: str
    """The row's own idx, such as 11-7: sample 7 of document 11. No other response has it."""
    sample: Sample


@dataclass(frozen=True)
class PublishedPair:
    """A published preference pair."""

    where: str
    """`file:line`."""
    id: str
    context: str
    query: str
    chosen: str
    rejected: str


def sft(source: Path, broken: list[str]) -> Iterator[Sample]:
    """Rows with idx, context, query, answer. A row without idx (or id) has its line number for one."""
    for number, row in _rows(source, broken):
        try:
            yield Sample(id=_identity(row, number), **_texts(row, "context", "query", "answer"))
        except ValueError as error:
            broken.append(f"{source}:{number}: {error}")


def responses(source: Path, broken: list[str], sft: Path | None = None) -> Iterator[Response]:
    """Rows with idx, query, answer, and the context of the row in `sft` whose idx stands before the last dash.

    A row may have its own context instead; its idx then needs no sample number.
    """
    context_of = (lambda _: None) if sft is None else _contexts(sft, broken)
    rollouts: set[str] = set()
    documents: dict[str, int] = {}
    for number, row in _rows(source, broken):
        try:
            response = _response(row, context_of, sft)
            if response.rollout in rollouts:
                raise ValueError(f"there is a response {response.rollout!r} before; give each an idx of its own")
            if "context" in row:
                document, check = response.sample.id, crc(response.sample.context)
                if documents.setdefault(document, check) != check:
                    raise ValueError(f"document {document!r} had another context before; idx is document-sample")
        except ValueError as error:
            broken.append(f"{source}:{number}: {error}")
        else:
            rollouts.add(response.rollout)
            yield response


def pairs(source: Path, broken: list[str]) -> Iterator[PublishedPair]:
    """Rows with idx, context, query, win_response, lose_response."""
    for number, row in _rows(source, broken):
        try:
            texts = _texts(row, "context", "query", "win_response", "lose_response")
            yield PublishedPair(f"{source}:{number}", _identity(row, number), *texts.values())
        except ValueError as error:
            broken.append(f"{source}:{number}: {error}")


def from_published(
    source: Path, out: Path, tokenizer: Any, max_prompt_tokens: int, eos: str, fits: Fits | None
) -> PairReport:
    """Published pairs -> the preference file that `make_pairs` writes, its scores null, and the report beside it.

    Prompts are rendered as those of a run, the longer ones cut in the middle of the context. InputError where no row
    can be used.
    """
    report = PairReport()
    rows = _preferences(source, tokenizer, max_prompt_tokens, preferences.require(eos), fits, report)
    return preferences.write(out, rows, report)


def _preferences(
    source: Path, tokenizer: Any, max_prompt_tokens: int, eos: str, fits: Fits | None, report: PairReport
) -> Iterator[dict[str, Any]]:
    rendering = PromptReport()
    render = renderer(tokenizer, max_prompt_tokens, "train", rendering)
    for pair in pairs(source, report.broken):
        try:
            prompt = render(pair.id, pair.context, pair.query)["input"]
        except ConfigError as error:
            report.broken.append(f"{pair.where}: {error}")
            continue
        report.answers += 2
        win, lose = ended(pair.chosen, eos), ended(pair.rejected, eos)
        report.unwritable += (win is None) + (lose is None)
        if win is None or lose is None or win == lose:
            report.settle(0, "unusable")
        elif fits is not None and not (fits(prompt, win) and fits(prompt, lose)):
            report.pairs_too_long += 1
            report.settle(0, "too_long")
        else:
            high, low = (len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (win, lose))
            report.enter((high, low))
            report.settle(1, "")
            yield preferences.row(pair.id, prompt, (win, lose), (None, None))
    report.shortened = rendering.cut
    if not report.prompts:
        first = f"; first problem: {report.broken[0]}" if report.broken else ""
        raise InputError(f"{source} holds no row with context, query, win_response and lose_response{first}")


def _response(row: dict[str, Any], context_of: Callable[[str], str | None], sft: Path | None) -> Response:
    whole = _identity(row, None)
    document, _, sample = whole.rpartition("-")
    numbered = bool(document) and sample.isdecimal()
    texts = _texts(row, "query", "answer")
    if "context" in row:
        texts |= _texts(row, "context")
        return Response(whole, Sample(id=document if numbered else whole, **texts))
    if not numbered:
        raise ValueError(f"idx {whole!r} is not document-sample, as 11-7, and the row has no context")
    if (found := context_of(document)) is None:
        where = f"in {sft}" if sft else "as no sft file is given"
        raise ValueError(f"no context for document {document!r} {where}")
    return Response(whole, Sample(id=document, context=found, **texts))


class _Context(msgspec.Struct):
    context: str
    idx: int | str | None = None
    id: int | str | None = None


def _contexts(source: Path, broken: list[str]) -> Callable[[str], str | None]:
    """idx -> context of an sft file. Of JSON lines only the places are held, as the texts may be some GB."""
    places: dict[str, int | str] = {}
    for number, identity, place in _listed_contexts(source, broken) if _is_list(source) else _places(source, broken):
        if identity is None or identity in places:
            why = "it has no idx" if identity is None else f"there is an idx {identity!r} before"
            broken.append(f"{source}:{number}: {why}; no response is joined with it")
        else:
            places[identity] = place

    @lru_cache(1)  # responses to a document mostly stand together
    def context_of(identity: str) -> str | None:
        place = places.get(identity)
        if not isinstance(place, int):
            return place
        with source.open("rb") as file:
            file.seek(place)
            return _texts(json.loads(file.readline()), "context")["context"]

    return context_of


def _places(source: Path, broken: list[str]) -> Iterator[tuple[int, str | None, int]]:
    for number, place, row in jsonlines.read_as(source, _Context, broken):
        found = row.id if row.idx is None else row.idx
        yield number, None if found is None else str(found), place


def _listed_contexts(source: Path, broken: list[str]) -> Iterator[tuple[int, str | None, str]]:
    for number, row in _rows(source, broken):
        try:
            yield number, _identity(row, None), _texts(row, "context")["context"]
        except ValueError as error:
            broken.append(f"{source}:{number}: {error}")


def _rows(source: Path, broken: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row)."""
    if not _is_list(source):
        yield from jsonlines.read(source, broken)
        return
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 text ({error}); write it again as UTF-8") from None
    decoder = json.JSONDecoder()
    place, number, counted = text.index("[") + 1, 1, 0
    while True:
        while place < len(text) and (text[place].isspace() or text[place] == ","):
            place += 1
        number, counted = number + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            return
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            broken.append(f"{source}:{number}: not JSON ({error}); the rest of the list is skipped")
            return
        if isinstance(row, dict):
            yield number, row
        else:
            broken.append(f"{source}:{number}: not a JSON object (found {type(row).__name__})")


def _is_list(source: Path) -> bool:
    if source.suffix != ".json":
        return False
    try:
        with source.open("rb") as file:
            return file.read(1024).lstrip().startswith(b"[")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}; give the path of a JSON file") from None


def _identity(row: dict[str, Any], number: int | None) -> str:
    """ValueError for a row that has none, unless its line's `number` may stand for it."""
    return _text("idx", jsonlines.row_id(row, number))


def _texts(row: dict[str, Any], *names: str) -> dict[str, str]:
    """The texts of these fields. ValueError where one of them is not text."""
    return {name: _text(name, row.get(name)) for name in names}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} has half a surrogate pair, which no tokenizer takes ({error})") from None
    return value
