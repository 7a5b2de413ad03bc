"""Which sentences of an answer claim something, which are small talk, and which refuse to answer."""

from __future__ import annotations

import re
from functools import lru_cache

from longreward.judge.offline.words import says_nothing
from longreward.judge.requests import ListStatements
from longreward.text.sentences import content_words, is_question, names_and_numbers, split_sentences

_CUES = frozenset(
    "answer ask asked glad happy help helps hope interesting let please question see summary thank thanks think "
    "welcome 问题 希望 帮助 谢谢 总之 综上".split()
)
_SMALL_TALK = 0.3  # share of the words of a sentence that are cues
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|as an? (?:ai|artificial|language)\b"
    r"|(?:can ?not|can['’]t|could not|couldn['’]t|unable to|not able to|do not know how to|don['’]t know how to)"
    r" (?:\w+ )?(?:answer|assist|help|comply|provide|determine|respond|summari[sz]e)"
    r"|(?:no|not enough|insufficient|lacks?) (?:\w+ )?information"
    r"|(?:document|text|passage|context|article)s?(?: provided| given)?"
    r" (?:does not|doesn['’]t|do not|did not|provides? no)"
    r" (?:\w+ )?(?:mention|provide|contain|specify|state|say|include|have|answer|give))"
    r"|\bi (?:do not|don['’]t) know\b"
    r"|抱歉|对不起|无法(?:回答|提供|确定|帮助)|没有(?:提到|提及|提供|说明)|未(?:提到|提及|提供|说明)|不知道",
    re.IGNORECASE,
)


_ASKS_WHETHER = re.compile(
    r"\b(?:am|is|are|was|were|do|does|did|can|could|will|would|shall|should|has|have|had|may|must)\b[^.?!]*\?\s*$|吗[？?]\s*$",
    re.IGNORECASE,
)
_ASKS_WHAT = re.compile(r"\b(?:who|whom|whose|what|when|where|which|why|how)\b", re.IGNORECASE)
_YES_OR_NO = re.compile(r"\W*(?:yes|no|是的?|不是|否|对|不对)\b\W*(?:(?:yes|no)\b\W*)*$", re.IGNORECASE)


def list_statements(request: ListStatements) -> list[str]:
    """The answer's sentences less those that claim nothing, each once."""
    return list(dict.fromkeys(s for s in split_sentences(request.answer) if is_statement(s)))


@lru_cache(maxsize=50_000)
def is_statement(sentence: str) -> bool:
    """Whether a sentence claims something: three words, or a name or number and something that is said of it."""
    words = content_words(sentence)
    if not words or is_question(sentence) or is_empty(sentence):
        return False
    return not is_bare(sentence) and (len(words) >= 3 or bool(names_and_numbers(sentence)))


@lru_cache(maxsize=50_000)
def is_empty(sentence: str) -> bool:
    """Whether a sentence is small talk, fits any answer, or refuses to answer."""
    words = content_words(sentence)
    if sum(word in _CUES for word in words) > _SMALL_TALK * len(words) or says_nothing(words):
        return True
    return bool(_REFUSAL.search(sentence))


def refuses(text: str) -> bool:
    """Whether a text refuses to answer and says nothing else."""
    sentences = split_sentences(text)
    return any(map(_REFUSAL.search, sentences)) and all(map(is_empty, sentences))


def is_bare(sentence: str) -> bool:
    """Whether a sentence is only a name or two, or mostly numbers, of which nothing is said."""
    words = content_words(sentence)
    if 2 * sum(word[0].isdigit() for word in words) > len(words):
        return True
    return len(words) < 3 and names_and_numbers(sentence).issuperset(words)


def is_yes_or_no(query: str, answer: str) -> bool:
    """Whether an answer is a mere yes or no, and the question can be answered so."""
    return bool(_YES_OR_NO.match(answer) and _ASKS_WHETHER.search(query)) and not _ASKS_WHAT.search(query)
