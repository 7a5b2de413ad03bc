"""Which language the material is in, and the terms that retrieval and comparison count."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters, as the inside of a regex class."""
CJK = HAN + "\u3040-\u30ff\uac00-\ud7a3"
"""Characters of the scripts that put no reliable spaces between words, as the inside of a regex class."""

HAN_SHARE = 0.25
"""A Chinese word is about 1.7 characters and an English one about 5, so a text with as many words of each is a
quarter Han characters. A Chinese text full of English names stays Chinese, an English one that quotes a few
Chinese names stays English. Japanese counts as Chinese: of our two prompt languages it is the nearer."""

_HAN_RUN = re.compile(f"[{HAN}]+")
_LETTER_RUN = re.compile(r"[^\W\d_]+")
_TERM = re.compile(
    rf"([{CJK}]+)"
    r"|(?:(\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)+)"
    rf"|([^\W_{CJK}]+))(?:['’]s\b)?"
)
_ASCII_TERM = re.compile(r"(\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)+|[a-z0-9]+)(?:'s\b)?")


def detect(text: str) -> Literal["en", "zh"]:
    """The prompt language for a text: "zh" if at least `HAN_SHARE` of its letters are Han, else "en" (empty: "en")."""
    if text.isascii():
        return "en"
    letters = sum(map(len, _LETTER_RUN.findall(text)))
    han = sum(map(len, _HAN_RUN.findall(text)))
    return "zh" if letters and han >= HAN_SHARE * letters else "en"


def terms(text: str) -> list[str]:
    """Lowercased words and numbers ("1,000" as "1000", no possessive 's), and the bigrams of CJK runs; a CJK
    character that stands alone is a term of its own."""
    if text.isascii():
        # Half the time that the general way takes.
        simple: list[str] = _ASCII_TERM.findall(text.lower())
        return [term.replace(",", "") for term in simple] if "," in text else simple
    found: list[str] = []
    for cjk, number, word in _TERM.findall(unicodedata.normalize("NFKC", text).lower()):
        if word:
            found.append(word)
        elif cjk:
            found.extend([cjk[i : i + 2] for i in range(len(cjk) - 1)] or [cjk])
        else:
            found.append(number.replace(",", ""))
    return found
