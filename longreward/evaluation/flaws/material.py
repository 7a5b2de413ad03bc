"""An answer in which something is to be planted, and what is at hand for it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from longreward.prompts import Language
from longreward.schema import Sample
from longreward.text.language import detect, terms
from longreward.text.sentences import content_words, is_question, sentence_spans

_LOWER_CASE = re.compile(r"(?<![A-Za-z])[a-z]+")


@dataclass(frozen=True)
class Material:
    sample: Sample
    others: Sequence[Sample]
    """Answers about other documents."""
    rng: random.Random

    @property
    def answer(self) -> str:
        return self.sample.answer

    @cached_property
    def language(self) -> Language:
        return detect(self.answer)

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """(start, end) of each sentence of the answer."""
        return sentence_spans(self.answer)

    @cached_property
    def sentences(self) -> list[str]:
        return [self.answer[start:end] for start, end in self.spans]

    @cached_property
    def known(self) -> frozenset[str]:
        """The terms of the document."""
        return _known(self.sample.context)

    @cached_property
    def in_lower_case(self) -> frozenset[str]:
        """The words that the document has in lower case."""
        return _in_lower_case(self.sample.context)

    def claims(self) -> list[int]:
        """Which sentences claim something, those first whose words stand in the document: what they say is likely true,
        and wrong once it is changed."""
        words = {i: content_words(sentence) for i, sentence in enumerate(self.sentences)}
        claiming = [i for i, sentence in enumerate(self.sentences) if len(words[i]) >= 3 and not is_question(sentence)]
        return sorted(claiming, key=lambda i: -sum(word in self.known for word in words[i]) / len(words[i]))

    def with_sentence(self, index: int, sentence: str) -> str:
        """The answer with another sentence in this place."""
        start, end = self.spans[index]
        return self.answer[:start] + sentence + self.answer[end:]

    def followed_by(self, text: str) -> str:
        """The answer with more text behind it."""
        answer = self.answer.rstrip()
        ended = answer[-1:] in ".!?。！？"
        joint = "\n" if not ended or "\n" in answer else "" if self.language == "zh" else " "
        return answer + joint + text


@lru_cache(maxsize=16)
def _known(document: str) -> frozenset[str]:
    return frozenset(terms(document))


@lru_cache(maxsize=16)
def _in_lower_case(document: str) -> frozenset[str]:
    return frozenset(_LOWER_CASE.findall(document))
