"""Is what is asked about spoken of, without padding, repetition or other matters?"""

from __future__ import annotations

from collections.abc import Sequence

from longreward.judge.offline.statements import is_empty, is_statement, is_yes_or_no
from longreward.judge.offline.words import Sentence, sentences, topic
from longreward.judge.requests import RankAnswers, RateHelpfulness

_CLAIMS = 0.25  # of the score, for an answer that claims something at all
_ASIDE = 0.4  # what a sentence counts that does not speak of what is asked
_YES_OR_NO = 0.5  # of the score, for that alone
_SPEAKS = 0.12  # of what is asked about, how much a sentence must have to speak of it
_MUCH, _ON_TOPIC = 10, 0.4  # of the sentences beyond `_MUCH`, so many must speak of what is asked
_LEAST = 0.25  # of the focus
_TOO_MUCH = 20  # sentences; more are no answer to a question


def rate(request: RateHelpfulness) -> float:
    """0..10."""
    said = sentences(request.answer)
    useful = on_topic(request.query, said)
    question = _words_of(request.query)
    claims = any(sentence.words - question and is_statement(sentence.text) for sentence in said)
    if not claims and not useful:
        return 10 * _YES_OR_NO * is_yes_or_no(request.query, request.answer)
    covered = covered_by(useful, request.query)
    aside = _aside(said, useful)
    to_the_point = (len(useful) + _ASIDE * aside) / max(1, len(said))
    return 10 * (_CLAIMS * claims + (1 - _CLAIMS) * covered) * (0.4 + 0.6 * to_the_point) * focus(request.query, said)


def rank(request: RankAnswers) -> list[int]:
    """By the rule for one; each answer is looked at alone, so their order cannot matter."""
    ratings = [round(rate(RateHelpfulness(request.language, request.query, text)), 2) for text in request.answers]
    return [1 + sum(other > rating for other in ratings) for rating in ratings]


def covered_by(useful: Sequence[Sentence], query: str) -> float:
    """0..1: how much of what is asked about these sentences speak of."""
    return topic(query).covered_by(frozenset().union(*(sentence.words for sentence in useful))) if useful else 0.0


def on_topic(query: str, said: Sequence[Sentence]) -> list[Sentence]:
    """The sentences that speak of what is asked, each once; of a general question all that claim something. To repeat
    the question is not to answer it: they add something."""
    asked, question = topic(query), _words_of(query)
    found = {
        sentence.words: sentence
        for sentence in said
        if not sentence.asks
        and not is_empty(sentence.text)
        and sentence.words - question
        and (asked.covered_by(sentence.words) >= _SPEAKS if asked.words else is_statement(sentence.text))
    }
    return list(found.values())


def focus(query: str, said: Sequence[Sentence]) -> float:
    """0..1: below 1 where a long text hardly speaks of what is asked: sentences copied from the document, say."""
    if len(said) <= _MUCH:
        return 1.0
    share = len(on_topic(query, said)) / (_ON_TOPIC * (len(said) - _MUCH))
    return max(_LEAST, min(1.0, share)) ** 2 * brevity(said)


def brevity(said: Sequence[Sentence]) -> float:
    """0..1: below 1 for a text that is too long to be an answer."""
    return min(1.0, _TOO_MUCH / max(1, len(said)))


def _words_of(query: str) -> frozenset[str]:
    return frozenset(word for part in sentences(query) for word in part.words)


def _aside(said: Sequence[Sentence], useful: Sequence[Sentence]) -> int:
    """How many other sentences claim something, each once."""
    known = {sentence.words for sentence in useful}
    return len({s.words for s in said if s.words not in known and is_statement(s.text)})
