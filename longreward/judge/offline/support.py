"""Does the evidence support a statement? The best sentence of it, and whether names, numbers and negations agree."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from longreward.judge.offline.words import Sentence, read, sentences, weight_of
from longreward.judge.requests import VerifyStatement, VerifyStatements

_IN_ORDER = 0.35  # of the share, how much is for neighbours that are neighbours in the evidence, too
_TOGETHER = 0.85  # what words count that are found in two sentences, one after the other
_STRANGE, _ELSEWHERE = 0.6, 0.8  # what is left of the support for a name or number that the evidence lacks, or has elsewhere
_OPPOSITE = 0.5  # what is left where one denies what the other says
_EXCHANGED = 0.4  # what is left where another word stands in the same place
_CONCAVE = 1.7  # real answers have words of their own: half of them together is more than half of the support
_NEARLY = 0.6  # of the best share: such sentences are looked at, too, whether names and numbers agree there


def verify(request: VerifyStatement) -> float:
    """0..1."""
    statement = read(request.statement)
    if not statement.words:
        return 0.0
    everything = [_passage(text) for text in request.evidence]
    pairs = frozenset().union(*(pairs for _, pairs, _ in everything))
    said = frozenset().union(*(said for _, _, said in everything))
    places: list[tuple[float, Sentence, Sentence | None]] = []
    for found, _, _ in everything:
        for sentence, following in zip(found, [*found[1:], None], strict=True):
            if share := _share(statement, sentence, following):
                places.append((share, sentence, following))
    if not places:
        return 0.0
    in_order = len(statement.pairs & pairs) / len(statement.pairs) if statement.pairs else 1.0
    nearly = _NEARLY * max(share for share, *_ in places)
    return max(
        (1 - (1 - (1 - _IN_ORDER) * share - _IN_ORDER * in_order) ** _CONCAVE) * _agreement(statement, sentence, following, said)
        for share, sentence, following in places
        if share >= nearly
    )


def verify_many(request: VerifyStatements) -> list[float]:
    """Each statement by the rule for one."""
    return [verify(VerifyStatement(request.language, text, request.evidence)) for text in request.statements]


def _share(statement: Sentence, sentence: Sentence, following: Sentence | None) -> float:
    """0..1: how much of the statement is in a sentence, or in two that follow one another."""
    shared = statement.words & sentence.words
    if not shared:
        return 0.0
    whole = weight_of(statement.words)
    share = weight_of(shared) / whole
    if following is None or share == 1:
        return share
    both = weight_of(statement.words & (sentence.words | following.words)) / whole
    return max(share, both * (_TOGETHER if sentence.ends else 1.0))


def _agreement(statement: Sentence, sentence: Sentence, following: Sentence | None, said: frozenset[str]) -> float:
    """0..1: 1 where names, numbers and negations agree."""
    near = sentence.said | (following.said if following else frozenset())
    left = 1.0
    for name in statement.names - near:
        left *= _ELSEWHERE if name in said else _STRANGE
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
    frames = {(a, b) for a, word, b in _triples(sentence) if word not in statement.words}
    return any((a, b) in frames for a, word, b in _triples(statement) if word not in sentence.words)


def _triples(sentence: Sentence) -> Iterator[tuple[str, str, str]]:
    order = ("", *sentence.order, "")
    return zip(order, order[1:], order[2:], strict=False)


@lru_cache(maxsize=2_000)
def _passage(text: str) -> tuple[list[Sentence], frozenset[tuple[str, str]], frozenset[str]]:
    found = sentences(text)
    pairs = frozenset().union(*(sentence.pairs for sentence in found))
    return found, pairs, frozenset().union(*(sentence.said for sentence in found))
