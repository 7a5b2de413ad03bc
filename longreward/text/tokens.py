"""About how many tokens a judge counts in a text, where the judge's own tokenizer is not known."""

from __future__ import annotations

import math
import re

from longreward.text.language import CJK

ASCII_BYTES_PER_TOKEN = 4.2
"""English prose with its markup, in the vocabularies of 100k to 200k tokens that judges have."""
OTHER_BYTES_PER_TOKEN = 3.0
"""Chinese: one character of three bytes. Newer vocabularies need fewer tokens: this is on the safe side."""
RARE_BYTES_PER_TOKEN = 1.5
"""Scripts that vocabularies hold few pieces of, such as Bengali, Tamil, Khmer and Amharic: two tokens a character."""

# From Bengali to Sinhala, from Lao to Ethiopic, Khmer and Mongolian: all have three bytes a character.
_RARE = re.compile("[\u0980-\u0dff\u0e80-\u10ff\u1200-\u139f\u1780-\u18af]+")

_UNSPACED = re.compile(rf"[{CJK}\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+")
"""Runs of scripts that put no spaces between words: those of East Asia, Thai, Lao, Burmese and Khmer."""
_UNSPACED_PER_TOKEN = 5  # characters; tokenizers that know such a script well have about 2

_MOST_CHARACTERS = 17  # of a token: no word token is longer, with the space before it


def tokens_in(text: str) -> float:
    """About how many tokens a judge counts in a text."""
    if text.isascii():
        return len(text) / ASCII_BYTES_PER_TOKEN
    plain, rare = len(text.encode("ascii", "ignore")), 3 * sum(map(len, _RARE.findall(text)))
    other = size_in(text) - plain - rare
    return plain / ASCII_BYTES_PER_TOKEN + other / OTHER_BYTES_PER_TOKEN + rare / RARE_BYTES_PER_TOKEN


def fewest_tokens_in(text: str) -> float:
    """The fewest tokens that any tokenizer makes of a text: none joins words that white space separates."""
    words = float(len(text.split()))
    if text.isascii():
        return words
    return words + sum(map(len, _UNSPACED.findall(text))) / _UNSPACED_PER_TOKEN


def size_in(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def text_of(tokens: float, like: str) -> str:
    """A text of about so many tokens: the beginning of `like`, or `like` several times over where it is shorter."""
    like = like or "word "
    head = like[: math.ceil(tokens) * _MOST_CHARACTERS]
    length = max(1, round(tokens * len(head) / tokens_in(head)))
    return (head * (length // len(head) + 1))[:length]
