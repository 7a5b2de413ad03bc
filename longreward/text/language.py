"""Which language the material is in, and the terms that retrieval and comparison count."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Literal

from longreward.text.scripts import CJK, DIGITS, HAN, MARKS, UNSPACED, members

HAN_SHARE = 0.25
"""A Chinese word is about 1.7 characters and an English one about 5, so a text with as many words of each is a
quarter Han characters. A Chinese text full of English names stays Chinese, an English one that quotes a few
Chinese names stays English. Japanese counts as Chinese: of our two prompt languages it is the nearer."""

_HAN_RUN = re.compile(f"[{HAN}]+")
_LETTER_RUN = re.compile(r"[^\W\d_]+")

NUMBER = r"\d{1,3}(?:,\d{2,3}){0,9},\d{3}(?!\d)(?:\.\d+)*|\d+(?:\.\d+)+"
"""A number of several parts, as a regex: with commas every three digits, or as in India, or with points. At most eleven
parts with commas, or a long list such as "1,22,33,..." would be read to its end from each of its numbers."""
LETTER = rf"[^\W_{CJK}{UNSPACED}]"
"""A letter or digit of a script with spaces between words, as a regex."""
WORD = rf"{LETTER}+(?:(?=[^\x00-\u02ff])[{MARKS}]+{LETTER}*)*"
"""A word of such a script, as a regex. Combining marks belong to it; the look ahead saves time where there are none."""

_TERM = re.compile(rf"([{CJK}]+)|([{UNSPACED}]+)|({NUMBER}|{WORD})(?:['’]s\b)?")
_ASCII_TERM = re.compile(rf"({NUMBER}|[a-z0-9]+)(?:'s\b)?")
_SYLLABLE = re.compile(rf".[{MARKS}]*")

# What two spellings of a word may differ in: characters that nobody sees or that are optional (soft hyphens, joiners,
# direction marks, variation selectors, vowel points of Hebrew and Arabic, the stretched line of Arabic), and digits.
_UNSEEN = "\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe00-\ufe0f\ufeff"
_POINTS = "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0670\u06d6-\u06dc\u06df-\u06e8"
_INSTEAD = {"\u066b": ".", "\u066c": ",", "\u0130": "I"}  # Arabic decimal point and thousands mark, Turkish capital i
_FOLDED = {
    **{char: str(unicodedata.decimal(char)) for char in members(DIGITS)},
    **dict.fromkeys(members(_UNSEEN + _POINTS + "\U000e0100-\U000e01ef"), ""),
    **_INSTEAD,
}
_TABLE = str.maketrans(_FOLDED)
_MANY_MARKS = re.compile("[{0}]{{30}}(?=[{0}])".format(MARKS + "\uff9e\uff9f\U0001bc9e"))
_SHORT = 2000  # characters; however many of them are marks, sorting those takes no time
_PERSIAN_PARTS = re.compile("(?<=[\u0600-\u06ff])\u200c")  # joined or written apart: two words in either case


def detect(text: str) -> Literal["en", "zh"]:
    """The prompt language for a text: "zh" if at least `HAN_SHARE` of its letters are Han, else "en" (empty: "en")."""
    if text.isascii():
        return "en"
    letters = sum(map(len, _LETTER_RUN.findall(text)))
    han = sum(map(len, _HAN_RUN.findall(text)))
    return "zh" if letters and han >= HAN_SHARE * letters else "en"


def samples(text: str, length: int = 1500) -> list[str]:
    """The head, the middle and the tail of a text, `length` characters each; of a short text all of it."""
    if len(text) <= 3 * length:
        return [text]
    middle = (len(text) - length) // 2
    return [text[:length], text[middle : middle + length], text[-length:]]


def nfkc(text: str) -> str:
    """A text in NFKC, in a time that is linear in its length.

    Normalizing sorts the marks of a letter, in a time that grows with the square of their number. Of a letter with
    hundreds of marks each thirty are kept apart by U+034F (UAX #15, Stream-Safe Text Format).
    """
    if len(text) > _SHORT and not text.isascii():
        text = _MANY_MARKS.sub("\\g<0>\u034f", text)
    return unicodedata.normalize("NFKC", text)


def letters(text: str) -> str:
    """The letters and digits of a text, in NFKC and without case: what is left where spaces and punctuation differ."""
    return "".join(char for char in nfkc(text).casefold() if char.isalnum())


def folded(text: str) -> str:
    """A text in NFKC with European digits, without what nobody sees and without vowel points that may be left out."""
    if text.isascii():
        return text
    text = nfkc(text)
    if "\u200c" in text:
        text = _PERSIAN_PARTS.sub(" ", text)
    # A regex would take several times as long to find that there is nothing to fold.
    return text if _FOLDED.keys().isdisjoint(text) else text.translate(_TABLE)


def terms(text: str) -> list[str]:
    """Lowercased words and numbers ("1,000" as "1000", no possessive 's). Where words have no spaces between them:
    the bigrams of a run's characters (CJK) or syllables (Thai, Khmer, ...); one that stands alone is a term."""
    if text.isascii():
        # Half the time that the general way takes.
        simple: list[str] = _ASCII_TERM.findall(text.lower())
        return [term.replace(",", "") for term in simple] if "," in text else simple
    found: list[str] = []
    for cjk, unspaced, word in _TERM.findall(folded(text).lower()):
        if word:
            found.append(word.replace(",", ""))
        elif cjk:
            found.extend([cjk[i : i + 2] for i in range(len(cjk) - 1)] or [cjk])
        else:
            parts = _SYLLABLE.findall(unspaced)
            found.extend([a + b for a, b in pairwise(parts)] or parts)
    return found
