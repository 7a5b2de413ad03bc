"""Does an answer repeat itself, contradict itself, or break off?"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Mapping, Sequence

from longreward.judge.offline.helpfulness import focus
from longreward.judge.offline.statements import is_bare, is_statement, is_yes_or_no
from longreward.judge.offline.words import Sentence, sentences
from longreward.judge.requests import RateLogicality

_MOST = 50  # others that a sentence is compared with: no rule takes longer than in proportion to the text
_SAME_FACT = 0.4  # word overlap above which two sentences on one subject speak of the same matter
_ALIKE = 0.5  # word overlap from which on a sentence repeats an earlier one
_REPEATED, _CONTRADICTED = 0.5, 1.0  # what a sentence costs, in sentences
_YES_OR_NO = 0.5  # of the score, for that alone


def rate(request: RateLogicality) -> float:
    """0..10. What claims nothing has no logic."""
    said = sentences(request.answer)
    claims = sum(is_statement(sentence.text) for sentence in said)
    if not claims:
        return 10 * _YES_OR_NO * is_yes_or_no(request.query, request.answer) / max(1, len(request.answer.split()))
    counted = [sentence for sentence in said if not is_bare(sentence.text)]
    # Small talk must not hide a flaw: at most one such sentence for each statement counts.
    sizes = min(len(counted), 2 * claims)
    flaws = 0.0
    earlier: dict[str, list[frozenset[str]]] = defaultdict(list)
    by_subject: dict[str, deque[Sentence]] = defaultdict(lambda: deque(maxlen=_MOST))
    known: set[frozenset[str]] = set()
    for sentence in counted:
        same_subject = by_subject[sentence.order[0]]
        if sentence.words not in known and any(_contradict(sentence, other) for other in same_subject):
            flaws += _CONTRADICTED
        else:
            flaws += _REPEATED * _again(sentence.words, known, earlier)
        same_subject.append(sentence)
        if sentence.words not in known:
            known.add(sentence.words)
            for word in sentence.words:
                earlier[word].append(sentence.words)
    return 10 * max(0.0, 1 - 2 * flaws / sizes) * (1 - _repeated(said)) * focus(request.query, said)


def _repeated(said: Sequence[Sentence]) -> float:
    """The share of the text that is said again word for word, within a sentence, too."""
    words = [word for sentence in said for word in sentence.order]
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def _nearest(words: Collection[str], having: Mapping[str, Sequence[frozenset[str]]]) -> set[frozenset[str]]:
    """The sentences that share words with these, at most some `_MOST`: those with the rarest words first."""
    found: set[frozenset[str]] = set()
    for _, word in sorted((len(having[word]), word) for word in words if word in having):
        found.update(having[word][: _MOST - len(found)])
    return found


def _again(
    words: frozenset[str], known: Collection[frozenset[str]], earlier: Mapping[str, Sequence[frozenset[str]]]
) -> float:
    """0..1: how much a sentence repeats an earlier one."""
    if words in known:
        return 1.0
    alike = max((len(words & other) / len(words | other) for other in _nearest(words, earlier)), default=0.0)
    return max(0.0, (alike - _ALIKE) / (1 - _ALIKE))


def _contradict(a: Sentence, b: Sentence) -> bool:
    """Whether two sentences on one subject are about the same matter, with different details on both sides."""
    same = a.words & b.words
    differ = bool(a.words - b.words) and bool(b.words - a.words)
    return len(same) / len(a.words | b.words) >= _SAME_FACT and (differ or bool(a.negated) != bool(b.negated))
