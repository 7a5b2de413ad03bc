"""What the reward will ask the judge about a document, and how long the replies may be.

The requests are the real ones with the real material. How long a judge's replies are nobody knows beforehand: the
constants are for judges that do not reason first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from longreward.config import RewardConfig
from longreward.dimensions.document import document_language
from longreward.dimensions.verification import balanced
from longreward.judge.requests import (
    ExtractRelevant,
    JudgeRequest,
    ListStatements,
    RateCompleteness,
    RateHelpfulness,
    RateLogicality,
    VerifyStatement,
    VerifyStatements,
)
from longreward.text.chunking import chunk
from longreward.text.sentences import split_sentences
from longreward.text.tokens import tokens_in
from longreward.text.verbatim import normal_form, stated_sentences

RATING_TOKENS = 90
"""A reply to helpfulness or logicality: two to four sentences and a number."""
COMPLETENESS_TOKENS = 150
"""Longer, as it names the points covered and missing."""
VERIFY_TOKENS = 60
"""One to three sentences and a verdict."""
VERIFY_MANY_TOKENS = 35
"""One line per statement, where several are verified in a call."""
EXTRACT_TOKENS = 150
"""What one chunk holds on the question: a few sentences, in most chunks none, in some a page."""
STATED_AGAIN = 1.1
"""A statement is its sentence with names in place of pronouns."""
STATEMENT_TAGS = 8
"""Tokens around a statement."""
STATEMENT_TOKENS = 30
"""Size of a statement in an answer that is not written yet; 300 tokens make the 10 statements of the paper."""
NEW_EVIDENCE = 0.6
"""Share of a statement's passages that others in the same call have not brought along already."""

_CHARACTERS_PER_TOKEN = 17  # no word token is longer, with the space before it


class Asked(NamedTuple):
    """A request, the expected tokens of its reply, and how often it is made."""

    request: JudgeRequest[Any]
    completion_tokens: float
    times: int


@dataclass
class Material:
    """A document, a question about it and the answers; those not written yet only by their number."""

    context: str
    query: str
    answers: list[str] = field(default_factory=list)
    unwritten: int = 0


def requests_about(material: Material, config: RewardConfig, answer_tokens: int) -> Iterator[Asked]:
    """What the reward asks the judge, if each sentence of an answer is a statement and nothing is asked twice.

    An answer that is not written yet is taken to have `answer_tokens` tokens.
    """
    return _Graph(material, config, answer_tokens).requests()


class _Graph:
    """What the reward asks the judge about one document."""

    def __init__(self, material: Material, config: RewardConfig, answer_tokens: int) -> None:
        self._material, self._config, self._needed = material, config, config.needed
        self._answer_tokens = answer_tokens
        self._language = document_language(material.context, material.query)
        self._evidence = _Evidence(material.context, config)
        self._chunks: list[str] = []
        if "completeness" in self._needed:
            self._chunks = [part.text for part in chunk(material.context, config.chunking.extraction_tokens)]
        self._extractions = [_about(text, _extracted(text)) for text in self._chunks]

    def requests(self) -> Iterator[Asked]:
        for text in self._chunks:
            yield Asked(ExtractRelevant(self._language, self._material.query, text), _extracted(text), 1)
        verified: set[str] = set()
        for answer in self._material.answers:
            sentences = split_sentences(answer)
            new = self._not_verified(sentences, verified)
            yield from self._about_answer(answer, len(sentences), new, times=1)
        if self._material.unwritten:
            answer = _about(self._material.context, self._answer_tokens)
            parts = _parts(answer, max(1, round(self._answer_tokens / STATEMENT_TOKENS)))
            yield from self._about_answer(answer, len(parts), parts, times=self._material.unwritten)

    def _not_verified(self, sentences: list[str], verified: set[str]) -> list[str]:
        """As for the document itself: each statement once, whoever makes it."""
        new: dict[str, str] = {}
        for sentence in sentences:
            key = " ".join(sentence.split())
            new.setdefault(key.casefold(), key)
        found = [key for key in new.values() if key not in verified]
        if self._stated:
            found = [key for key in found if normal_form(key) not in self._stated]
        verified.update(found)
        return found

    @cached_property
    def _stated(self) -> frozenset[str]:
        skip = self._config.faithfulness.skip_verbatim
        return stated_sentences(self._material.context) if skip else frozenset()

    def _about_answer(self, answer: str, stated: int, to_verify: list[str], times: int) -> Iterator[Asked]:
        language, query = self._language, self._material.query
        if "helpfulness" in self._needed:
            yield Asked(RateHelpfulness(language, query, answer), RATING_TOKENS, times)
        if "logicality" in self._needed:
            yield Asked(RateLogicality(language, query, answer), RATING_TOKENS, times)
        if "completeness" in self._needed:
            yield Asked(RateCompleteness(language, query, answer, self._extractions), COMPLETENESS_TOKENS, times)
        if "faithfulness" in self._needed:
            again = STATED_AGAIN * tokens_in(answer) + STATEMENT_TAGS * stated
            yield Asked(ListStatements(language, query, answer), again, times)
            for batch in balanced(to_verify, self._config.faithfulness.statements_per_call):
                evidence = self._evidence.of(len(batch))
                if len(batch) == 1:
                    yield Asked(VerifyStatement(language, batch[0], evidence), VERIFY_TOKENS, times)
                else:
                    yield Asked(VerifyStatements(language, batch, evidence), VERIFY_MANY_TOKENS * len(batch), times)


class _Evidence:
    """Passages as retrieval would bring them: which ones does not matter here, only how many and how long."""

    def __init__(self, context: str, config: RewardConfig) -> None:
        self._top_k = config.retrieval.top_k
        most = self._number(config.faithfulness.statements_per_call)
        # Enough of the document for so many chunks: cutting the rest would only take time.
        head = context[: (most + 1) * config.chunking.evidence_tokens * _CHARACTERS_PER_TOKEN]
        self._chunks = [part.text for part in chunk(head, config.chunking.evidence_tokens)]

    def of(self, statements: int) -> list[str]:
        return self._chunks[: self._number(statements)]

    def _number(self, statements: int) -> int:
        return round(self._top_k * (1 + (statements - 1) * NEW_EVIDENCE))


def _about(text: str, tokens: float) -> str:
    """About so many tokens of text: the begin of `text`, or several times the whole of it."""
    text = text or "word "
    head = text[: math.ceil(tokens) * _CHARACTERS_PER_TOKEN]
    length = max(1, round(tokens * len(head) / tokens_in(head)))
    return (head * (length // len(head) + 1))[:length]


def _extracted(passage: str) -> float:
    return min(EXTRACT_TOKENS, tokens_in(passage))


def _parts(text: str, count: int) -> list[str]:
    edges = [len(text) * i // count for i in range(count + 1)]
    return [text[start:end] for start, end in pairwise(edges)]
