"""Does the evidence support a statement? The best sentence of it, and whether names, numbers and negations agree."""

from __future__ import annotations

from functools import lru_cache

from longreward.judge.offline.words import Sentence, read, sentences, weight_of
from longreward.judge.requests import VerifyStatement, VerifyStatements

_IN_ORDER = 0.35  # of the share, how much is for neighbours that are neighbours in the evidence, too
_TOGETHER = 0.85  # what words count that are found in two sentences, one after the other
_STRANGE, _ELSEWHERE = 0.6, 0.8  # what is left of the support for a name or number that the evidence lacks, or has elsewhere
_OPPOSITE = 0.5  # what is left where one denies what the other says
_LITTLE, _MUCH = 0.1, 0.7


def verify(request: VerifyStatement) -> float:
    """0..1."""
    statement = read(request.statement)
    if not statement.order:
        return 0.0
    everything = [_passage(text) for text in request.evidence]
    pairs = frozenset().union(*(pairs for _, pairs, _ in everything))
    said = frozenset().union(*(said for _, _, said in everything))
    whole = weight_of(statement.words)
    best, place, share = 0.0, None, 0.0
    for found, _, _ in everything:
        for i, sentence in enumerate(found):
            shared = statement.words & sentence.words
            if not shared:
                continue
            here = weight_of(shared) / whole
            following = found[i + 1] if i + 1 < len(found) else None
            if following is not None and here < 1:
                both = weight_of(statement.words & (sentence.words | following.words)) / whole
                here = max(here, both * (_TOGETHER if sentence.ends else 1.0))
            if here > share:
                share, place = here, (sentence, following)
    if place is None:
        return 0.0
    in_order = len(statement.pairs & pairs) / len(statement.pairs) if statement.pairs else share
    best = (1 - _IN_ORDER) * share + _IN_ORDER * in_order
    best = min(1.0, max(0.0, best))
    return _agreement(statement, place, said) * best


def verify_many(request: VerifyStatements) -> list[float]:
    """Each statement by the rule for one."""
    return [verify(VerifyStatement(request.language, text, request.evidence)) for text in request.statements]


def _agreement(statement: Sentence, place: tuple[Sentence, Sentence | None], said: frozenset[str]) -> float:
    sentence, following = place
    near = sentence.said | (following.said if following else frozenset())
    left = 1.0
    for name in statement.names - near:
        left *= _ELSEWHERE if name in said else _STRANGE
    denied = (statement.negated ^ sentence.negated) & statement.words & sentence.words
    if denied or (statement.negated and not sentence.negated):
        left *= _OPPOSITE
    return left


@lru_cache(maxsize=2_000)
def _passage(text: str) -> tuple[list[Sentence], frozenset[tuple[str, str]], frozenset[str]]:
    found = sentences(text)
    pairs = frozenset().union(*(sentence.pairs for sentence in found))
    return found, pairs, frozenset().union(*(sentence.said for sentence in found))
