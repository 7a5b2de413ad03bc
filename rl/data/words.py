"""The words of an answer, by which answers are compared with reference answers."""

from __future__ import annotations

import re
import unicodedata

from longreward.text.language import nfkc

_CJK = "\u3041-\u3096\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_NUMBER = r"(?<![\w.,])-?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)"
_WORD = re.compile(rf"{_NUMBER}|[{_CJK}]|[^\s.,\-{_CJK}]+")


def words(text: str) -> list[str]:
    """What is compared: words in small letters, numbers with their sign and fraction, CJK characters one by one."""
    plain = nfkc(text).casefold()
    # Marks are kept: they are the vowels of many scripts.
    spaced = "".join(c if c in ".,-" or c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in plain)
    return [word.replace(",", "") for word in _WORD.findall(spaced)]
