"""The offline judge: fixed rules instead of a model. A STAND-IN for trying things out, not a measure of quality.

It needs no network and no key and always gives the same verdict for the same request. It compares words: supported
statements score, names and numbers must match the evidence, repetition and self-contradiction cost, relevant passages
must be covered; in evaluations, words in common with the reference count. It understands nothing: use a real judge for
any result that matters.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache, singledispatch
from itertools import pairwise
from typing import Any, TypeVar

from longreward.concurrency.pacing import Priority, pacer
from longreward.judge.base import Judge, Verdict
from longreward.judge.evaluation_requests import CompareAnswers, RateAgainstReference, RateChat, RateSummary
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
from longreward.judge.verdicts import Preference
from longreward.schema import JudgeCall
from longreward.text.language import terms
from longreward.text.sentences import content_words, has_no_end, is_question, names_and_numbers, split_sentences

T = TypeVar("T")

NOTICE = "judge: offline - a rule-based stand-in for trying things out, not a measure of quality"

_FILLER_CUES = frozenset(
    "answer ask asked glad happy help helps hope interesting let please question see summary think thanks thank "
    "问题 希望 帮助 谢谢 总之 综上".split()
)
_FULL, _PARTIAL = 0.85, 0.7  # share of a statement's words found together in the evidence
_SAME_FACT = 0.4  # word overlap above which two sentences on one subject speak of the same matter
_ALL, _SOME = 0.85, 0.4  # share of the reference's words that an answer has
_MUCH, _ON_TOPIC = 10, 0.25  # of more sentences than `_MUCH`, this share must speak of what is asked
_MOST = 50  # others that a sentence is compared with: no rule takes longer than in proportion to the text
_LONG = 10_000  # characters of a request; the rules take some 10 ms for them
_CLOSE = 0.02  # answers whose worth differs by no more are a tie


class OfflineJudge(Judge):
    """Answers by rules; every call ends in a verdict and costs nothing."""

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        # Many requests at once take turns, and a long one leaves the event loop: meanwhile it does other things.
        await pacer().turn(Priority.ARRIVAL)
        is_long = sum(map(len, request.fields().values())) > _LONG
        value: Any = await asyncio.to_thread(by_rules, request) if is_long else by_rules(request)
        return Verdict(value, JudgeCall(kind=request.kind, attempts=1))


@singledispatch
def by_rules(request: object) -> object:
    """The verdict of the rule for this kind of request, always the same for the same request."""
    raise TypeError(f"the offline judge has no rule for {type(request).__name__}; add one in {__name__}")


@by_rules.register
def _helpfulness(request: RateHelpfulness) -> float:
    """Are the things asked about spoken of, without padding, repetition or other matters?"""
    asked, texts = _topic(request.query), split_sentences(request.answer)
    useful = _useful(request.query, texts)
    if not asked or not useful or _is_heap(texts, useful):
        return 0.0
    covered = len(asked & frozenset().union(*useful)) / len(asked)
    return 10 * covered * (0.4 + 0.6 * len(useful) / len(texts))


@by_rules.register
def _logicality(request: RateLogicality) -> float:
    """Does a sentence repeat an earlier one, or say something else of the same matter? What claims nothing has no
    logic."""
    texts = split_sentences(request.answer)
    statements = sum(map(_is_statement, texts))
    if not statements or _is_heap(texts, _useful(request.query, texts)):
        return 0.0
    sentences = [words for text in texts if (words := content_words(text)) and not _is_bare(text, words)]
    # Small talk must not hide a flaw: at most one such sentence for each statement counts.
    weight = min(len(sentences), 2 * statements)
    flaws = 0.0
    said: set[frozenset[str]] = set()
    # The subject: a sentence's first content word.
    by_subject: dict[str, deque[frozenset[str]]] = defaultdict(lambda: deque(maxlen=_MOST))
    for words in sentences:
        fact, earlier = frozenset(words), by_subject[words[0]]
        if fact in said:
            flaws += 0.5
        elif any(_contradict(fact, other) for other in earlier):
            flaws += 1
        said.add(fact)
        earlier.append(fact)
    return 10 * max(0.0, 1 - 2 * flaws / weight)


@by_rules.register
def _statements(request: ListStatements) -> list[str]:
    """The answer's sentences less those that claim nothing, each once."""
    return list(dict.fromkeys(s for s in split_sentences(request.answer) if _is_statement(s)))


@by_rules.register
def _verify(request: VerifyStatement) -> float:
    """Are the statement's words, names and numbers found together in one sentence of the evidence, or two?"""
    words, names = set(content_words(request.statement)), names_and_numbers(request.statement)
    if not words:
        return 0.0
    best = 0.0
    for passage in request.evidence:
        for (found, found_names, no_end), (more, more_names, _) in pairwise([*_sentences(passage), _EMPTY]):
            share, names_match = len(words & found) / len(words), names <= found_names
            if share < _FULL or not names_match:
                share_two = len(words & (found | more)) / len(words)
                # Two sentences may complete one another, but only where they speak of the same subject, or where it
                # was their length alone that made them two.
                of_one = no_end or (share >= 0.5 and more_names & found_names & names)
                if names <= found_names | more_names and share_two >= _FULL and of_one:
                    share, names_match = share_two, True
            best = max(best, 1.0 if share >= _FULL and names_match else 0.5 if share >= _PARTIAL else 0.0)
    return best


@by_rules.register
def _verify_many(request: VerifyStatements) -> list[object]:
    """Each statement by the rule for one."""
    each = (VerifyStatement(request.language, text, request.evidence) for text in request.statements)
    return [_verify(statement) for statement in each]


@by_rules.register
def _extract(request: ExtractRelevant) -> str | None:
    """The chunk's sentences that speak of what is asked about."""
    asked = _topic(request.query)
    enough = 1 if names_and_numbers(request.query) else max(1, len(asked) // 2)
    relevant = [s for s in split_sentences(request.chunk) if len(asked & set(content_words(s))) >= enough]
    return " ".join(relevant) or None


@by_rules.register
def _completeness(request: RateCompleteness) -> float:
    """How much of each relevant sentence is found in one sentence of the answer?"""
    needed = [set(content_words(s)) for passage in request.extractions for s in split_sentences(passage)]
    needed = [words for words in needed if words]
    texts = split_sentences(request.answer)
    # Where nothing is known to be relevant, no answer is known to cover it.
    if not needed or _is_heap(texts, _useful(request.query, texts)):
        return 0.0
    said = dict.fromkeys(frozenset(content_words(s)) for s in texts)
    having: dict[str, list[frozenset[str]]] = defaultdict(list)
    for sentence in said:
        for word in sentence:
            having[word].append(sentence)
    covered = (
        max((len(words & sentence) / len(words) for sentence in _nearest(words, having)), default=0.0)
        for words in needed
    )
    # Half the words are easily shared by chance, so coverage counts from there on.
    return 10 * sum(max(0.0, 2 * share - 1) for share in covered) / len(needed)


@by_rules.register
def _against_reference(request: RateAgainstReference) -> int:
    """Are the reference's words in the answer, and of its names and numbers all (right) or some (partly right)?"""
    covered = _covered(request.reference, request.answer, request.query)
    # Any word of the answer may be the name: a capital letter proves nothing where a sentence begins.
    said = set(terms(request.answer)) | names_and_numbers(request.answer)
    names = names_and_numbers(request.reference) - set(terms(request.query))
    if covered >= _ALL and names <= said:
        return 3
    return 2 if covered >= _SOME and (names & said or not names) else 1


@by_rules.register
def _summary(request: RateSummary) -> int:
    return 1 + round(4 * _likeness(request.reference, request.answer))


@by_rules.register
def _chat(request: RateChat) -> float:
    """The scored examples are not looked at."""
    return round(1 + 9 * _covered(request.reference, request.answer, request.query), 1)


@by_rules.register
def _compare(request: CompareAnswers) -> Preference:
    """Each answer is looked at alone, so their order cannot matter."""
    first, second = (_worth(request, text) for text in (request.first, request.second))
    if abs(first - second) <= _CLOSE:
        return "tie"
    return "A" if first > second else "B"


_Sentence = tuple[frozenset[str], frozenset[str], bool]
"""Of a sentence in the evidence: its content words, what a name may be found in, and whether it has no end."""
_EMPTY: _Sentence = (frozenset(), frozenset(), False)


@lru_cache(maxsize=2_000)
def _sentences(passage: str) -> list[_Sentence]:
    return list(map(_sentence, split_sentences(passage)))


@lru_cache(maxsize=50_000)
def _sentence(text: str) -> _Sentence:
    words = frozenset(content_words(text))
    # In the evidence any word may be the name: a capital letter proves nothing where a sentence begins.
    return words, words | names_and_numbers(text), has_no_end(text)


def _nearest(words: Collection[str], having: Mapping[str, Sequence[frozenset[str]]]) -> set[frozenset[str]]:
    """The sentences that share words with these, at most some `_MOST`: those with the rarest words first."""
    found: set[frozenset[str]] = set()
    for _, word in sorted((len(having[word]), word) for word in words if word in having):
        found.update(having[word][: _MOST - len(found)])
    return found


def _topic(query: str) -> set[str]:
    """What the question is about: the words of its names and numbers, or else all its content words."""
    words = set(content_words(query))
    named = {word for name in names_and_numbers(query) for word in content_words(name)}
    return (words & named) or words


def _useful(query: str, texts: Sequence[str]) -> set[frozenset[str]]:
    """The sentences that speak of what is asked. To repeat the question is not to answer it: they add something."""
    asked, question = _topic(query), set(content_words(query))
    sentences = (frozenset(content_words(s)) for s in texts if not is_question(s))
    return {words for words in sentences if words & asked and words - question and not _is_filler(words)}


def _is_heap(texts: Sequence[str], useful: Collection[frozenset[str]]) -> bool:
    """Whether a long text hardly speaks of what is asked: sentences copied from the document, say."""
    return len(texts) > _MUCH and len(useful) < _ON_TOPIC * len(texts)


def _is_filler(words: Iterable[str]) -> bool:
    return bool(_FILLER_CUES.intersection(words))


@lru_cache(maxsize=50_000)
def _is_statement(sentence: str) -> bool:
    """Whether a sentence claims something: three words, or a name or number and something that is said of it."""
    words = content_words(sentence)
    if not words or is_question(sentence):
        return False
    if len(words) >= 3 and not _is_filler(words):
        return True
    return bool(names_and_numbers(sentence)) and not _is_bare(sentence, words)


def _is_bare(sentence: str, words: Sequence[str]) -> bool:
    """Whether a sentence is only a name or a number or two, of which nothing is said."""
    return len(words) < 3 and names_and_numbers(sentence).issuperset(words)


def _contradict(a: frozenset[str], b: frozenset[str]) -> bool:
    """Whether two sentences on one subject are about the same matter, with different details on both sides."""
    return len(a & b) / len(a | b) >= _SAME_FACT and bool(a - b) and bool(b - a)


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
