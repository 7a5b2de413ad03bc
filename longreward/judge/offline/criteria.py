"""Does an answer do what its criteria ask for? It does where one of its statements has their words."""

from __future__ import annotations

from collections.abc import Sequence

from longreward.judge.offline.statements import is_statement
from longreward.judge.offline.words import Sentence, read, sentences, stem, topic
from longreward.judge.requests import JudgeCriteria

_ASKS = frozenset(
    map(stem, "describes explains gives give mentions names name notes says say shows states tells tell".split())
)
"""What a criterion begins with, and no answer needs."""
_LITTLE = 0.55  # half of the words may be there by chance
_OPPOSITE = 0.5  # what is left where one denies what the other says
_STRANGE = 0.3  # what is left where a name or a number of the criterion is missing


def judge(request: JudgeCriteria) -> list[float]:
    """0..1 for each criterion. To repeat the question meets none, and what else an answer says changes nothing."""
    question = frozenset(word for part in sentences(request.query) for word in part.words)
    said = [s for s in sentences(request.answer) if is_statement(s.text) and s.words - question]
    return [_met(text, said, question) for text in request.criteria]


def _met(text: str, said: Sequence[Sentence], question: frozenset[str]) -> float:
    criterion, words = read(text), topic(text).words
    asked = words.keys() - _ASKS
    asked = asked - question or asked
    if not asked:
        return 0.0
    whole = sum(words[word] for word in sorted(asked))
    best = 0.0
    for sentence in said:
        share = sum(words[word] for word in sorted(asked & sentence.words)) / whole
        denied = (criterion.negated ^ sentence.negated) & criterion.words & sentence.words
        strange = criterion.names & asked - sentence.said
        best = max(best, share * (_OPPOSITE if denied else 1.0) * (_STRANGE if strange else 1.0))
    return best if best >= _LITTLE else 0.0
