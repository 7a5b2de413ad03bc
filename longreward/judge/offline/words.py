"""Words as the offline judge compares them: without endings, weighted, with the names and negations of a sentence."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from longreward.text.language import terms
from longreward.text.sentences import content_words, has_no_end, is_question, names_and_numbers, split_sentences

_ENDINGS = (
    *("ations", "ation", "ments", "ment", "ings", "ing", "ies", "ied", "ers", "er", "ed", "es", "ly", "s", "e", "y"),
)
_LONGEST = 8  # characters of a word that count: long words are rare ones, but not ever rarer
_NAME = 2.0  # how much more a name or a number counts than another word of its length
NEGATIONS = frozenset("cannot neither never no nobody none nor not nothing without".split())
_ENOUGH = 0.6  # share of the other words of a question that is as good as all of them
_MOST_ASKED = 60.0  # weight, some four names: nobody repeats the whole of a long question
_REACH = 3  # words after a negation that it is about
_ORDERS = frozenset(
    "act answer ask asked comment describe detail discuss discussion explain give hello help hi know let like list "
    "mention overview please present provide question regarding say summarise summarize summary talk tell thank thanks "
    "think thought want wonder above article document following passage text".split()
)

_OF_ANY_DOCUMENT = frozenset(
    "aim author book chapter feature features first five four goal goals idea ideas important interesting "
    "introduce introduction know library main method name names need new one package paper plot point points "
    "problem problems product program project purpose reader readers report result results sentence sentences "
    "short software solution solve solves story subject support theme thing things three tool topic topics two use "
    "used user users using work works".split()
)
"""A question of such words alone is a general one: it can be asked of any document."""
_OF_ANY_MATTER = frozenset(
    "answer answers aspect aspects certain clear clearly complex complexity comprehensive conclude conclusion "
    "consider considered contain contains context cover covers depend depends describes details different discussed "
    "discusses extensive extensively factor factors find found general generally given gives great information kind "
    "kinds lot lots many matter matters more most much number numerous other others overall part particular parts "
    "question regard relevant several state stated states take thorough thoroughly understand understanding "
    "understood variety various way ways".split()
)
"""With the words above, those of a sentence that fits any answer, such as: this is an important point to consider."""
_OF_ANY_DOCUMENT_ZH = re.compile(
    "介绍|内容|总结|文章|概括|说明|请问?|一下|这[个篇些]?|什么|哪些|如何|怎样|主要|主题|作者|功能|问题|软件|目的|结果|读者|用途|"
    "本文|简要|简述|描述|文档|的|是|有|了|和|吗|呢"
)


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """A word without its English ending: "rates", "rated" and "rating" are one. Other words stay as they are."""
    if len(word) < 5 or not (word.isascii() and word.isalpha()):
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def stems(text: str) -> list[str]:
    """The stems of a text's content words, in order."""
    return [stem(word) for word in content_words(text)]


def weight(word: str) -> float:
    """How much a word tells: by its length, which is a fair guess at how rare it is. A number counts as a name."""
    return _LONGEST * _NAME if word[0].isdigit() else float(min(len(word), _LONGEST))


def weight_of(words: Iterable[str], names: Collection[str] = ()) -> float:
    """The weights of some words together; names count more."""
    return sum(weight(word) * (_NAME if word in names and not word[0].isdigit() else 1.0) for word in words)


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is compared of a sentence."""

    text: str
    order: tuple[str, ...]
    """Its stems, in order."""
    words: frozenset[str]
    """Without negations, which `negated` has."""
    pairs: frozenset[tuple[str, str]]
    """Neighbours in `order`."""
    names: frozenset[str]
    """Stems of its names and numbers. Its first word is none: there a capital letter proves nothing."""
    said: frozenset[str]
    """Where names of another sentence are looked up: any word may be one."""
    negated: frozenset[str]
    """The words that follow a negation: what it is about."""
    asks: bool
    ends: bool
    """Whether a mark ended it, and not its length."""


@lru_cache(maxsize=20_000)
def read(text: str) -> Sentence:
    """A sentence, read."""
    order = tuple(stems(text))
    first = {stem(term) for term in terms(text)[:1] if not term[0].isdigit()}
    named = names_and_numbers(text)
    names = frozenset(stem(name) for name in named) - first
    negated: set[str] = set()
    for place, word in enumerate(order):
        if word in NEGATIONS:
            negated.update(order[place + 1 : place + 1 + _REACH])
    return Sentence(
        *(
            text,
            order,
            frozenset(order) - NEGATIONS,
            frozenset(pairwise(order)),
            names,
            frozenset(order) | frozenset(map(stem, named)),
        ),
        *(frozenset(negated), is_question(text), not has_no_end(text)),
    )


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text that have a content word."""
    return [sentence for piece in split_sentences(text) if (sentence := read(piece)).order]


@dataclass(frozen=True, slots=True)
class Topic:
    """What a question is about."""

    words: dict[str, float]
    """Its words and their weights, without those that only say what to do ("summarise"). Empty for a general one."""
    needed: float
    """The weight that an answer must speak of: all names, and a part of the other words, as it has words of its own."""

    def covered_by(self, words: Collection[str]) -> float:
        """0..1: how much of it is spoken of. All of a general question."""
        return (
            min(1.0, sum([self.words[word] for word in words if word in self.words]) / self.needed)
            if self.words
            else 1.0
        )


def says_nothing(words: Collection[str]) -> bool:
    """Whether a sentence of these content words fits any answer to any question."""
    return all(word in _OF_ANY_DOCUMENT or word in _OF_ANY_MATTER or word in _ORDERS for word in words)


@lru_cache(maxsize=2_000)
def topic(query: str) -> Topic:
    """What a question is about."""
    names = frozenset().union(*(sentence.names for sentence in sentences(query)))
    told = {
        word
        for word in content_words(_OF_ANY_DOCUMENT_ZH.sub(" ", query))
        if word not in _ORDERS and word not in NEGATIONS
    }
    asked = set() if told <= _OF_ANY_DOCUMENT else {stem(word) for word in told}
    words = {word: weight_of([word], names) for word in sorted(asked)}
    needed = sum(much * (1.0 if word in names else _ENOUGH) for word, much in words.items())
    return Topic(words, min(needed, _MOST_ASKED))
