"""Does the evidence support a statement? The best sentence of it, and whether names, numbers and negations agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

from longreward.judge.offline.words import Sentence, read, sentences, weight_of
from longreward.judge.requests import VerifyStatement, VerifyStatements

_IN_ORDER = 0.35  # of the share, how much is for neighbours that are neighbours in the evidence, too
_SAID = 0.5  # of the share, how much is for the words that are no names
_TOGETHER = 0.85  # what words count that are found in two sentences, one after the other
_STRANGE, _STRANGE_NUMBER = 0.45, 0.3  # what is left of the support for a name or a number that is not there
_OPPOSITE = 0.5  # what is left where one denies what the other says
_EXCHANGED = 0.4  # what is left where another word stands in the same place
_CONCAVE = 1.7  # real answers have words of their own: half of a statement's words are more than half of its support
_NEARLY = 0.6  # of the best share: such sentences are looked at, too, whether names and numbers agree there


def verify(request: VerifyStatement) -> float:
    """0..1."""
    statement = read(request.statement)
    if not statement.words:
        return 0.0
    evidence = [_passage(text) for text in request.evidence]
    places: list[tuple[float, Sentence, Sentence | None]] = []
    for found, _ in evidence:
        for sentence, following in zip(found, [*found[1:], None], strict=False):
            if share := _share(statement, sentence, following):
                places.append((share, sentence, following))
    if not places:
        return 0.0
    pairs = {pair for pair in statement.pairs if any(pair in known for _, known in evidence)}
    in_order = len(pairs) / len(statement.pairs) if statement.pairs else 1.0
    best = max(share for share, *_ in places)
    # Name or number -> the share of the nearest sentence that has it.
    nearest = {name: max((s for s, one, _ in places if name in one.said), default=0.0) for name in statement.names}
    agreeing = {name: share / best for name, share in nearest.items()}
    return max(
        _together(share, in_order) * _agreement(statement, sentence, following, agreeing)
        for share, sentence, following in places
        if share >= _NEARLY * best
    )


def verify_many(request: VerifyStatements) -> list[float]:
    """Each statement by the rule for one."""
    return [verify(VerifyStatement(request.language, text, request.evidence)) for text in request.statements]


def _together(share: float, in_order: float) -> float:
    """0..1, of what is found in one place and what in order."""
    missing = (1 - _IN_ORDER) * (1 - share) + _IN_ORDER * (1 - in_order)
    return float(1 - max(0.0, missing) ** _CONCAVE)


def _share(statement: Sentence, sentence: Sentence, following: Sentence | None) -> float:
    """0..1: how much of the statement is in a sentence, or in two that follow one another."""
    if not statement.words & sentence.words:
        return 0.0
    share = _found(statement, sentence.words)
    if following is None or share == 1:
        return share
    both = _found(statement, sentence.words | following.words)
    return max(share, both * (_TOGETHER if sentence.ends else 1.0))


def _found(statement: Sentence, words: frozenset[str]) -> float:
    """0..1: how many of a statement's words are found. Names alone are half of it: something is said of them."""
    share = weight_of(statement.words & words) / weight_of(statement.words)
    said = statement.words - statement.names
    return share * (1 - _SAID + _SAID * weight_of(said & words) / weight_of(said)) if said else share


def _agreement(
    statement: Sentence, sentence: Sentence, following: Sentence | None, nearest: Mapping[str, float]
) -> float:
    """0..1: 1 where names, numbers and negations agree."""
    near = sentence.said | (following.said if following else frozenset())
    left = 1.0
    for name in sorted(statement.names - near):
        strange = _STRANGE_NUMBER if name[0].isdigit() else _STRANGE
        left *= strange + (1 - strange) * nearest[name]
    if _exchanged(statement, sentence):
        left *= _EXCHANGED
    denied = (statement.negated ^ sentence.negated) & statement.words & sentence.words
    if denied or (statement.negated and not statement.negated & sentence.negated):
        left *= _OPPOSITE
    return left


def _exchanged(statement: Sentence, sentence: Sentence) -> bool:
    """Whether the statement has another word where the sentence has one, between the same neighbours."""
    if statement.words <= sentence.words:
        return False
    between = {(before, after) for before, word, after in _triples(sentence) if word not in statement.order}
    return any((before, after) in between for before, word, after in _triples(statement) if word not in sentence.order)


def _triples(sentence: Sentence) -> Iterator[tuple[str, str, str]]:
    """Each word between its neighbours; the first has none before it, and does not count."""
    order = (*sentence.order, "")
    return zip(order, order[1:], order[2:], strict=False)


@lru_cache(maxsize=2_000)
def _passage(text: str) -> tuple[list[Sentence], frozenset[tuple[str, str]]]:
    found = sentences(text)
    return found, frozenset().union(*(sentence.pairs for sentence in found))
