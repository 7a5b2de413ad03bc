"""Answers in evaluations: words in common with the reference count, repetition costs."""

from __future__ import annotations

from collections.abc import Callable

from longreward.judge.requests.evaluation import CompareAnswers, RateAgainstReference, RateChat, RateSummary
from longreward.judge.verdicts import Preference
from longreward.text.language import terms
from longreward.text.sentences import content_words, names_and_numbers, split_sentences

_ALL, _SOME = 0.85, 0.4  # share of the reference's words that an answer has
_CLOSE = 0.02  # answers whose worth differs by no more are a tie


def against_reference(request: RateAgainstReference) -> int:
    """Are the reference's words in the answer, and of its names and numbers all (right) or some (partly right)?"""
    covered = _covered(request.reference, request.answer, request.query)
    # Any word of the answer may be the name: a capital letter proves nothing where a sentence begins.
    said = set(terms(request.answer)) | names_and_numbers(request.answer)
    names = names_and_numbers(request.reference) - set(terms(request.query))
    if covered >= _ALL and names <= said:
        return 3
    return 2 if covered >= _SOME and (names & said or not names) else 1


def summary(request: RateSummary) -> int:
    return 1 + round(4 * _likeness(request.reference, request.answer))


def chat(request: RateChat) -> float:
    """The scored examples are not looked at."""
    return round(1 + 9 * _covered(request.reference, request.answer, request.query), 1)


def compare(request: CompareAnswers) -> Preference:
    """Each answer is looked at alone, so their order cannot matter."""
    first, second = (_worth(request, text) for text in (request.first, request.second))
    if abs(first - second) <= _CLOSE:
        return "tie"
    return "A" if first > second else "B"


def _worth(request: CompareAnswers, text: str) -> float:
    """Likeness to the reference; where there is none, how much of what is asked about is spoken of. Repetition costs.
    0..1."""
    sentences = [tuple(terms(sentence)) for sentence in split_sentences(text)]
    if not sentences:
        return 0.0
    close = _likeness(request.reference, text) if request.reference else _covered(request.query, text)
    return close * len(set(sentences)) / len(sentences)


def _covered(reference: str, text: str, known: str = "") -> float:
    """Share of the reference's words that are in the text; those of `known`, if it has others, do not count."""
    words = _reader(reference)
    needed = set(words(reference))
    needed = needed - set(words(known)) or needed
    return len(needed & set(words(text))) / max(1, len(needed))


def _likeness(reference: str, text: str) -> float:
    """Words in common, as F1: 1 for the same words, 0 for none."""
    words = _reader(reference)
    ours, theirs = set(words(text)), set(words(reference))
    return 2 * len(ours & theirs) / max(1, len(ours) + len(theirs))


def _reader(reference: str) -> Callable[[str], list[str]]:
    """What to compare: content words, but all words where the reference has no other, such as "yes"."""
    return content_words if content_words(reference) else terms
