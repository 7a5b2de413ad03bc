"""Sentences, content words, names and numbers, by rules. The offline judge reads these.

Sentences end as the scripts of the world end them; function words are known in English and Chinese only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from longreward.text.language import LETTER, NUMBER, WORD, folded, terms
from longreward.text.scripts import CJK, MARKS, UNSPACED, script_of


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS = _words(
    "a about above after again all also although am an and any are as at be because been before being below between "
    "both but by ca can could did do does doing don down during each either for from further furthermore had has have "
    "having he hence her here hers him his how however i if in into is it its itself just ll may me might moreover "
    "must my of off on once only or other our ours out over own re s same shall she should since so some such t than "
    "that the their theirs them then there therefore these they this those though through thus to too under until up "
    "upon us ve very was we were what when where whether which while who whom whose why will with wo would yes you "
    "your yours"
)
"""English function words. Negations are not among them: they change what a sentence says."""
_NOT = re.compile(r"(?<=\w)(?:n['’]t|(?<=\bcan)not)\b", re.IGNORECASE)
_ZH_STOP = re.compile(
    "[的了吗呢吧啊嘛]|[我你他她它]们|[这那][个些里]|一[个些]|自己|什么|怎么|如何|哪些|因为|所以|因此|但是|然而|而且|并且|以及|或者|"
    "如果|虽然|可以|能够|对于|关于|其中|此外|同时"
)

# Never the end of a sentence, whatever follows.
_TITLES = _words("mr mrs ms dr prof gen lt sgt capt gov sen rep rev hon st mt messrs vs cf viz e.g i.e approx")
# Only before a number.
_BEFORE_NUMBER = _words("no nos fig figs eq eqs sec ch vol p pp art ca jan feb aug sept oct nov dec")
# The end of a sentence only if a common first word follows ("in the U.S. The ...").
_MAYBE_LAST = _words("inc ltd co corp bros etc al jr sr dept est")

QUESTION_MARKS = "?？؟፧⁇"
FULL_STOPS = "。！？；｡।॥؟።፧፨։׃។៕။།༎᠃᠉᱾᱿꫰꯫෴߹܀܁܂꧉꩝꩞꩟᥄᥅‼⁇⁈⁉"
"""The marks that end a sentence whatever follows, in all scripts, as the inside of a regex class."""
# Urdu's full stop stands in its abbreviations, too. A semicolon after a Greek letter is a question mark.
_STOP = re.compile(rf"\n|[{FULL_STOPS}!?.۔]+[\"'”’」』）)\]】》»*_]*|(?<=[\u0370-\u03ff\u1f00-\u1fff]);")
# What stands in for full stops in scripts without any: a space, unless a number or a foreign word is beside it.
_PAUSE = re.compile(rf"(?<=[{UNSPACED}])\s+(?=[{UNSPACED}])")
_SPACE = re.compile(r"(?<=[^\W_])\s+")
_BETWEEN = re.compile(rf"(?![{MARKS}])")
_LONG, _TOO_LONG = 30, {True: 200, False: 1000}  # characters; with and without spaces between words
_BEFORE = re.compile(r"(?:^|[^A-Za-z.])([A-Za-z][A-Za-z.]*)$")
_NEXT = re.compile(r"\s*[\"'“‘(\[「『*_]*([^\W_]+)?")
_WORD = re.compile(WORD)
_UNSPACED_CHAR = re.compile(f"[{CJK}{UNSPACED}]")
_NO_STOPS = re.compile(f"[{UNSPACED}]")
_NUMBER = re.compile(rf"(?<!{LETTER})(?:{NUMBER}|\d+)")
_NO_CHINESE = re.compile("[\u3040-\u30ff\uac00-\ud7a3]")  # of Japanese and Korean
_TITLE_MARKS = re.compile("《([^《》]+)》")


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of every sentence, in order, without the white space around it.

    Sentences end at . ! ? 。！？； and the full stops of other scripts (closing quotes included) and at line breaks;
    pieces without a letter or digit are dropped. Where there is no full stop, as in Thai, they end at a space after 30
    characters, at the latest after 200; in scripts with spaces between words after 1,000.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for stop in _STOP.finditer(text):
        if _ends_sentence(text, start, stop):
            _add(spans, text, start, stop.end())
            start = stop.end()
    _add(spans, text, start, len(text))
    return spans


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, see `sentence_spans`."""
    return [text[start:end] for start, end in sentence_spans(text)]


def says_nothing(text: str) -> bool:
    """Nothing but white space, punctuation, symbols or control characters."""
    return not any(character.isalnum() for character in text)


def language_name(text: str) -> Literal["English", "Chinese"] | None:
    """The language of a text, where its words or characters leave no doubt; None for all other languages."""
    script, words = script_of(text), terms(text)
    if script == "LATIN":
        # About 0.45 of the words of English prose; below 0.1 in German, Dutch and French.
        is_english = sum(word in STOP_WORDS for word in words) >= 0.25 * len(words)
        return "English" if is_english else None
    is_chinese = script == "CJK" and len(_NO_CHINESE.findall(text)) < 0.05 * len(text)
    return "Chinese" if is_chinese else None


def is_question(sentence: str) -> bool:
    """Whether a sentence ends with a question mark, in any script."""
    text = sentence.rstrip()
    return text.endswith(tuple(QUESTION_MARKS)) or (text.endswith(";") and bool(_STOP.search(text, len(text) - 1)))


def has_no_end(sentence: str) -> bool:
    """Whether a sentence was ended by its length and not by a mark; see `sentence_spans`."""
    return bool(_NO_STOPS.match(sentence[-1:]))


def content_words(text: str) -> list[str]:
    """The terms of a text (see `language.terms`) without function words, in order, repetitions kept.

    "didn't" gives "not".
    """
    plain = _ZH_STOP.sub(" ", _NOT.sub(" not", text))
    return [term for term in terms(plain) if term not in STOP_WORDS]


def names_and_numbers(text: str) -> set[str]:
    """What must not differ between a statement and its evidence: numbers ("1,000" as "1000", "10km" as "10") and
    names, lowercased.

    A name is a capitalised word that is not a function word (a sentence's first word counts unless the text also has it
    in lower case), a word of letters and digits ("E12", "v3"), or a title in 《》. An ordinary first word may be among
    them, so look names up in all words of the evidence, not only in its names.
    """
    plain = folded(text)
    found = {number.replace(",", "") for number in _NUMBER.findall(plain)}
    found.update(title.strip().lower() for title in _TITLE_MARKS.findall(plain))
    in_lower_case = {word for word in _WORD.findall(plain) if word[0].islower()}
    for sentence in split_sentences(plain):
        for position, word in enumerate(_WORD.findall(sentence)):
            lower = word.lower()
            is_identifier = any(c.isdigit() for c in word) and not word[0].isdigit()
            is_name = word[0].isupper() and lower not in STOP_WORDS and (position or lower not in in_lower_case)
            if is_identifier or is_name:
                found.add(lower)
    return found


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    for first, last in _pieces(text, start, end) if end - start > _LONG else ((start, end),):
        piece = text[first:last]
        if any(c.isalnum() for c in piece):
            spans.append((first + len(piece) - len(piece.lstrip()), last - (len(piece) - len(piece.rstrip()))))


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A sentence cut by length, where no mark may have ended it."""
    no_stops = text[end - 1] not in FULL_STOPS and bool(_NO_STOPS.search(text, start, end))
    too_long = _TOO_LONG[no_stops]
    if no_stops:
        for pause in _PAUSE.finditer(text, start, end):
            if pause.start() - start >= _LONG:
                yield from _short(text, start, pause.start(), too_long)
                start = pause.end()
    yield from _short(text, start, end, too_long)


def _short(text: str, start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Pieces of about `most` characters, cut at a space near their end where there is one."""
    while end - start > most:
        space = _SPACE.search(text, start + most * 3 // 4, start + most)
        cut = space.start() if space else next(m.start() for m in _BETWEEN.finditer(text, start + most))
        yield start, cut
        start = cut
    yield start, end


def _ends_sentence(text: str, start: int, stop: re.Match[str]) -> bool:
    mark = stop[0]
    if mark in ("\n", ";") or any(c in FULL_STOPS for c in mark) or stop.end() == len(text):
        return True
    follows = text[stop.end()]
    if not follows.isspace() and not _UNSPACED_CHAR.match(follows):
        return False
    after = _NEXT.match(text, stop.end())
    next_word = (after and after[1]) or ""
    is_plain_dot = mark == "."
    if next_word[:1].islower() and not is_plain_dot and mark not in ("!", "?"):
        return False  # "Go!" and left; well... maybe
    return not (is_plain_dot and _is_abbreviation(text[max(start, stop.start() - 24) : stop.start()], next_word))


def _is_abbreviation(before: str, next_word: str) -> bool:
    """Whether a dot after `before` (the sentence's end so far) is that of an abbreviation, initial or list number."""
    item = before.strip()
    if len(item) <= 3 and (item.isdigit() or (len(item) == 1 and item.isalpha())):
        return True
    match = _BEFORE.search(before)
    if not match:
        return False
    word = match[1].lower()
    if word in _TITLES:
        return True
    if word in _BEFORE_NUMBER:
        return next_word[:1].isdigit()
    is_initials = "." in word or (len(word) == 1 and match[1].isupper())
    starts_afresh = next_word[:1].isupper() and next_word.lower() in STOP_WORDS
    return (is_initials or word in _MAYBE_LAST) and not starts_afresh
