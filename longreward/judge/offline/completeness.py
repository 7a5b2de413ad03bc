"""What a document says on a question, and how much of that an answer says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum

from longreward.judge.offline.helpfulness import brevity, covered_by, on_topic
from longreward.judge.offline.statements import is_statement
from longreward.judge.offline.support import verify
from longreward.judge.offline.words import Sentence, read, sentences, topic, weight, weight_of
from longreward.judge.requests import CheckCoverage, ExtractRelevant, ListPoints, RateCompleteness, VerifyStatement
from longreward.judge.requests.key_points import MOST_POINTS

_NEAR_BEST = 0.25  # a sentence is relevant that has this share of what the best of the passage has on the question
_CENTRAL = 12  # sentences that stand for a passage where the question is a general one
_POINTS = 40  # words that an answer to a question with much material is expected to hold
_OWN_WORDS = 0.2  # and how many of them: it has words of its own
_QUOTES = 0.5  # share of neighbouring words that an answer may have from the document without being copied
# What a copy loses that covers hardly anything: this of little material, all of so many words.
_LITTLE, _MUCH = 0.2, 120
_CONCAVE = 1.7  # real answers have words of their own: half of a point's words are more than half of it
_TOUCHED = 0.25  # of a point; less is a word or two in common, which any text may have
_ASIDE = 0.4  # what the words of an answer count that does not speak of what is asked


def extract(request: ExtractRelevant) -> str | None:
    """The chunk's sentences that speak of what is asked about; for a general question its central ones."""
    found = sentences(request.chunk)
    asked = topic(request.query).words
    if not asked:
        return " ".join(sentence.text for sentence in _central(found)) or None
    on_it = [sum(asked[word] for word in asked.keys() & sentence.words) for sentence in found]
    enough = _NEAR_BEST * max(on_it, default=0.0)
    return " ".join(s.text for s, much in zip(found, on_it, strict=True) if much and much >= enough) or None


def rate(request: RateCompleteness) -> float:
    """0..10. Where nothing is known to be relevant, no answer is known to cover it. Sentences that are copied without
    covering the matter count for little: to copy is not to answer."""
    needed = _material(tuple(request.extractions), request.query)
    said = [sentence for sentence in sentences(request.answer) if is_statement(sentence.text)]
    if not needed.words or not said:
        return 0.0
    own: dict[str, float] = {}  # word of the material -> how far it is said in a sentence of the answer's own
    for sentence in said:
        mine = 1 - _copied(sentence, needed)
        for word in sentence.words & needed.words.keys():
            own[word] = max(mine, own.get(word, 0.0))
    covered = fsum(needed.words[word] for word in own)  # exact, so that the order of a set does not matter
    if not covered:
        return 0.0
    copied = 1 - fsum(needed.words[word] * much for word, much in own.items()) / covered
    share = covered / needed.total
    much = share * (1 + needed.bend) / (share + needed.bend)
    to_the_point = _ASIDE + (1 - _ASIDE) * covered_by(on_topic(request.query, said), request.query)
    loss = needed.in_own_words * copied * (1 - share**2)
    return 10 * much * (1 - loss) * to_the_point * brevity(said)


def list_points(request: ListPoints) -> list[str]:
    """The sentences that claim something, each once, the ones with most of what is asked about first."""
    asked = topic(request.query).words
    found = [one for passage in request.extractions for one in sentences(passage) if is_statement(one.text)]
    kept: list[Sentence] = []
    for sentence in sorted(found, key=lambda one: -fsum(asked[word] for word in asked.keys() & one.words)):
        if len(kept) < MOST_POINTS and not any(_alike(sentence, other) for other in kept):
            kept.append(sentence)
    return [sentence.text for sentence in kept]


def check_coverage(request: CheckCoverage) -> list[float]:
    """0..1 for each point: how far what the answer claims supports it, and at most the share of its words that one
    sentence says. To repeat the question covers nothing."""
    said = [sentence for sentence in sentences(request.answer) if is_statement(sentence.text)]
    claimed = [" ".join(sentence.text for sentence in said)]
    asked = frozenset(word for sentence in sentences(request.query) for word in sentence.words)
    found = []
    for text in request.points:
        point = read(text)
        needed = point.words - asked or point.words
        says = max((weight_of(sorted(needed & sentence.words)) for sentence in said), default=0.0)
        share = 1 - (1 - says / weight_of(sorted(needed))) ** _CONCAVE if says else 0.0
        covered = min(share, verify(VerifyStatement(request.language, text, claimed)))
        found.append(brevity(said) * covered if covered >= _TOUCHED else 0.0)
    return found


def _alike(sentence: Sentence, other: Sentence) -> bool:
    return 2 * len(sentence.words & other.words) > len(sentence.words | other.words)


def _copied(sentence: Sentence, material: _Material) -> float:
    """0..1: how far a sentence is copied from the material."""
    if not sentence.pairs:
        return 0.0
    share = len(sentence.pairs & material.pairs) / len(sentence.pairs)
    return max(0.0, (share - _QUOTES) / (1 - _QUOTES))


@dataclass(frozen=True, slots=True)
class _Material:
    words: dict[str, float]
    pairs: frozenset[tuple[str, str]]
    total: float
    bend: float
    """How straight the way from nothing to all is. Of much material a good answer says a small part: there the first
    words count most."""
    in_own_words: float
    """0..1: how far it must be said in other words. Little of it may be repeated."""


@lru_cache(maxsize=256)
def _material(passages: tuple[str, ...], query: str) -> _Material:
    found = [sentence for passage in passages for sentence in sentences(passage)]
    asked = topic(query).words.keys()
    # To repeat the question covers nothing.
    counts = Counter(word for sentence in found for word in sentence.words if word not in asked)
    words = {word: weight(word) * count**0.5 for word, count in counts.items()}
    total = fsum(words.values())
    heaviest = sum(sorted(words.values(), reverse=True)[:_POINTS])
    own = min(1.0, _POINTS / max(1, len(words)))
    pairs = frozenset().union(*(sentence.pairs for sentence in found))
    expected = heaviest * (_OWN_WORDS + (1 - _OWN_WORDS) * own) / total if total else 1.0
    # An answer with what is expected of it gets some six sevenths.
    bend = min(1.0, expected / (6 * (1 - expected) + 1e-9))
    return _Material(words, pairs, total, bend, min(1.0, _LITTLE + (1 - _LITTLE) * len(words) / _MUCH))


def _central(found: Sequence[Sentence]) -> list[Sentence]:
    """The sentences with the words that the passage comes back to, in their order."""
    counts = Counter(word for sentence in found for word in sentence.words)
    worth = {
        i: sum(counts[word] - 1 for word in sentence.words) / (4 + len(sentence.words))
        for i, sentence in enumerate(found)
    }
    chosen = sorted(sorted(worth, key=lambda i: -worth[i])[:_CENTRAL])
    return [found[i] for i in chosen]
