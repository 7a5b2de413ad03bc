"""Claims that people have labelled as supported by a document or not: rows of our own, and of published data sets.

    QAGS (arXiv 2004.04228)            article, summary_sentences: three workers' yes or no to each sentence
    RAGTruth (arXiv 2401.00396)        response, labels: spans; the documents are in source_info.jsonl beside the file
    LLM-AggreFact (arXiv 2404.10774)   doc, claim, label
    FaithBench (NAACL 2025, short 38)  samples of source, summary, annotations: spans with kinds

A sentence in which a span of unsupported text stands is an unsupported claim.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longreward import rows
from longreward.errors import InputError
from longreward.schema import Sample
from longreward.text.sentences import says_nothing, sentence_spans

_SOURCES = "source_info.jsonl"
_UNSUPPORTED = {"Unwanted": True, "Questionable": True, "Benign": False}
"""FaithBench's kinds of spans, and what its own scripts make of them (scripts/binarize.py)."""


@dataclass(frozen=True)
class LabelledClaim:
    """A claim about a document, and whether people call it supported."""

    idx: str
    line: int
    supported: bool
    key: str
    """Of `sample`: the same claim about the same document has the same."""
    sample: Sample
    """The claim as an answer."""


def holds_claims(source: Path) -> bool:
    """Whether the first row of a file is about claims. InputError where the file cannot be read."""
    first = next((row for _, row in rows.read(source, [])), {})
    return _format(first) is not None


class Claims:
    """The labelled claims of a file, which may mix formats. A label decides what a judge is called, so the first row
    that is not in order ends the reading: InputError names line, field, value and what to do."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.left_out: Counter[str] = Counter()
        """Answers and sentences that are no labelled claim, by the reason."""
        self._documents: dict[str, str] = {}
        self._sources: dict[str, tuple[str, str]] | None = None

    def read(self) -> Iterator[LabelledClaim]:
        for number, row in rows.read(self.source):
            of = _format(row)
            if of is None:
                what = f"no claim, which has context, claim and supported; found {', '.join(row) or 'nothing'}"
                raise InputError(f"{self.source}:{number}: {what}")
            try:
                yield from self._claims(number, rows.row_id(row, number), of(self, row))
            except InputError:  # of another file
                raise
            except ValueError as error:
                raise InputError(f"{self.source}:{number}: {error}") from None

    def _claims(self, number: int, idx: str, found: Iterator[_Found]) -> Iterator[LabelledClaim]:
        several = list(found)
        for place, (context, query, claim, supported) in enumerate(several, 1):
            context = self._documents.setdefault(context, context)  # rows repeat theirs
            own = idx if len(several) == 1 else f"{idx}/{place}"
            sample = Sample(id=own, context=context, query=query, answer=claim)
            named = json.dumps(["claim", context, query, claim]).encode()
            yield LabelledClaim(own, number, supported, hashlib.sha256(named).hexdigest()[:16], sample)

    def _own(self, row: dict[str, Any]) -> Iterator[_Found]:
        query = "" if row.get("query") is None else _text(row, "query", blank=True)
        yield _text(row, "context"), query, _text(row, "claim"), _label(row, "supported")

    def _aggrefact(self, row: dict[str, Any]) -> Iterator[_Found]:
        yield _text(row, "doc"), "", _text(row, "claim"), _label(row, "label")

    def _qags(self, row: dict[str, Any]) -> Iterator[_Found]:
        context = _text(row, "article")
        for place, sentence in enumerate(_list(row, "summary_sentences"), 1):
            where = f"sentence {place}: "
            said = [one.get("response") for one in _list(sentence, "responses", where)]
            if wrong := [one for one in said if one not in ("yes", "no")]:
                raise ValueError(f'{where}response is {wrong[0]!r}; write "yes" or "no"')
            yes = said.count("yes")
            if 2 * yes == len(said):
                raise ValueError(f"{where}{yes} of {len(said)} responses are yes: no majority; leave that sentence out")
            yield context, "", _text(sentence, "sentence", where=where), 2 * yes > len(said)

    def _ragtruth(self, row: dict[str, Any]) -> Iterator[_Found]:
        quality = row.get("quality", "good")
        if quality != "good":  # a refusal, or cut: the published evaluation leaves them out as well
            self.left_out[f"quality is {quality}"] += 1
            return
        if self._sources is None:
            self._sources = _ragtruth_sources(self.source.with_name(_SOURCES))
        found = self._sources.get(str(row.get("source_id")))
        if found is None:
            what = f"source_id is {_shown(row.get('source_id'))}, which {_SOURCES} does not hold"
            raise ValueError(f"{what}; give both files of one release")
        labels = enumerate(_list(row, "labels"), 1)
        spans = [_span(one, "start", "end", row, "response", f"label {i}: ") for i, one in labels]
        yield from self._labelled(_sentences(*found, _text(row, "response"), dict.fromkeys(spans, True)))

    def _faithbench(self, row: dict[str, Any]) -> Iterator[_Found]:
        for place, sample in enumerate(_list(row, "samples") if "samples" in row else [row], 1):
            where = f"sample {place}: " if "samples" in row else ""
            source, summary = (_text(sample, name, where=where) for name in ("source", "summary"))
            spans: dict[tuple[int, int], bool | None] = {}
            for i, one in enumerate(_list(sample, "annotations", where), 1):
                at = f"{where}annotation {i}: "
                span, wrong = _span(one, "summary_start", "summary_end", sample, "summary", at), _is_wrong(one, at)
                spans[span] = wrong or spans.get(span, wrong)
            yield from self._labelled(_sentences(source, "", summary, spans))

    def _labelled(self, found: Iterator[_Unsure]) -> Iterator[_Found]:
        for context, query, claim, supported in found:
            if supported is None:
                self.left_out["a span without a label"] += 1
            else:
                yield context, query, claim, supported


_Found = tuple[str, str, str, bool]
"""Document, question, claim, whether it is supported."""
_Unsure = tuple[str, str, str, bool | None]
"""The same; None where people do not say."""
_FORMATS: tuple[tuple[frozenset[str], Callable[[Claims, dict[str, Any]], Iterator[_Found]]], ...] = (
    (frozenset({"summary_sentences"}), Claims._qags),
    (frozenset({"samples"}), Claims._faithbench),
    (frozenset({"summary", "annotations"}), Claims._faithbench),
    (frozenset({"response", "source_id"}), Claims._ragtruth),
    (frozenset({"doc", "claim"}), Claims._aggrefact),
    (frozenset({"claim"}), Claims._own),
    (frozenset({"supported"}), Claims._own),
)
"""The fields by which a format is known."""


def _format(row: dict[str, Any]) -> Callable[[Claims, dict[str, Any]], Iterator[_Found]] | None:
    return next((of for fields, of in _FORMATS if fields <= row.keys()), None)


def _sentences(context: str, query: str, text: str, spans: Mapping[tuple[int, int], bool | None]) -> Iterator[_Unsure]:
    """The sentences of a text as claims. `spans`: whether each is unsupported, None where nobody says."""
    for start, end in sentence_spans(text):
        inside = [wrong for (first, last), wrong in spans.items() if first < end and last > start]
        yield context, query, text[start:end], False if True in inside else None if None in inside else True


def _is_wrong(annotation: dict[str, Any], where: str) -> bool | None:
    """Whether FaithBench's span is unsupported; None where its list of kinds is empty, as some are."""
    kinds = annotation.get("label")
    known = [_UNSUPPORTED.get(str(kind).partition(".")[0]) for kind in kinds] if isinstance(kinds, list) else [None]
    if None in known:
        raise ValueError(f"{where}label is {_shown(kinds)}; write a list of {', '.join(_UNSUPPORTED)}")
    return any(known) if known else None


def _ragtruth_sources(path: Path) -> dict[str, tuple[str, str]]:
    """Document and question by source_id."""
    if not path.exists():
        raise InputError(f"{path} is not there: RAGTruth has its documents in it; put it beside the responses")
    found = {}
    for number, row in rows.read(path):
        info, query = row.get("source_info"), ""
        if isinstance(info, dict) and "passages" in info:
            info, query = info["passages"], str(info.get("question", ""))
        if isinstance(info, dict):
            info = json.dumps(info, ensure_ascii=False, indent=1)
        if not isinstance(info, str) or says_nothing(info):
            raise InputError(f"{path}:{number}: source_info is {_shown(info)}; write the text of the document")
        found[str(row.get("source_id"))] = info, query
    return found


def _label(row: dict[str, Any], name: str) -> bool:
    value = row.get(name)
    if value not in (0, 1):  # True and 1.0 are 1
        raise ValueError(f"{name} is {_shown(value)}; write true or false, or 1 or 0")
    return bool(value)


def _text(row: dict[str, Any], name: str, *, blank: bool = False, where: str = "") -> str:
    value = row.get(name)
    if not isinstance(value, str) or (not blank and says_nothing(value)):
        raise ValueError(f"{where}{name} is {_shown(value)}; write a text")
    return value


def _list(row: dict[str, Any], name: str, where: str = "") -> list[dict[str, Any]]:
    value = row.get(name)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{where}{name} is {_shown(value)}; write a list of objects")
    return value


def _span(label: dict[str, Any], start: str, end: str, row: dict[str, Any], text: str, where: str) -> tuple[int, int]:
    """In characters of the row's `text`."""
    first, last, length = label.get(start), label.get(end), len(_text(row, text))
    if type(first) is not int or type(last) is not int or not 0 <= first < last <= length:
        found = f"{start} is {_shown(first)} and {end} {_shown(last)}"
        raise ValueError(f"{where}{found}, no span of the {length:,} characters of {text}; correct that label")
    return first, last


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:80]
