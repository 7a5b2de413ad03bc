"""Which characters make words, in every script, each as the inside of a regex class."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Chinese characters."""
CJK = HAN + "\u3040-\u30ff\uac00-\ud7a3"
"""Characters of East Asian scripts that put no reliable spaces between words."""


def _inside(codes: Iterable[int]) -> str:
    """The inside of a regex class that holds these characters, given in order."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def members(inside: str) -> list[str]:
    """The characters of a small class, given as its inside."""
    return [
        chr(code)
        for match in re.finditer("(.)(?:-(.))?", inside, re.DOTALL)
        for code in range(ord(match[1]), ord(match[2] or match[1]) + 1)
    ]


# Thai and Lao, Burmese, Khmer, Tai Le to New Tai Lue, Tai Tham, Balinese, Yi, Javanese, Tai Viet.
_NO_SPACES = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F)),
    *((0xA000, 0xA48F), (0xA980, 0xA9FF), (0xAA60, 0xAADF)),
)
UNSPACED = _inside(
    code for first, last in _NO_SPACES for code in range(first, last + 1) if unicodedata.category(chr(code))[0] in "LM"
)
"""Letters and marks of the other scripts without spaces between words. In some of them a space ends a sentence."""

# Where marks and digits are, without the large blocks of Chinese, Korean and hieroglyphs, which have none.
_BLOCKS = (
    *((0x300, 0x3100), (0xA480, 0xAC00), (0xFB00, 0xFE30), (0xFF10, 0xFF1A), (0x10000, 0x12000)),
    *((0x16A00, 0x17000), (0x1CF00, 0x20000)),
)
_CATEGORIES = {code: unicodedata.category(chr(code)) for first, end in _BLOCKS for code in range(first, end)}

MARKS = _inside(code for code, category in _CATEGORIES.items() if category[0] == "M")
"""Combining marks. Most vowels of Indic scripts are marks: without them a word falls apart into consonants."""

DIGITS = _inside(code for code, category in _CATEGORIES.items() if category == "Nd")
"""Decimal digits besides 0 to 9."""

JOINERS = "\u200c\u200d"
"""They shape the letters beside them and may stand inside a word."""


def script_of(text: str) -> str:
    """The script that most letters of a text are in, by its Unicode name ("LATIN", "CJK"); empty without a letter.

    Those of Japanese and Korean count as "CJK", because both mix with Chinese characters.
    """
    counts: dict[str, int] = {}
    for char in text:
        if char.isalpha():
            name = unicodedata.name(char, "").partition(" ")[0]
            name = "CJK" if name in ("HIRAGANA", "KATAKANA", "HANGUL", "FULLWIDTH", "HALFWIDTH") else name
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=counts.__getitem__, default="")
