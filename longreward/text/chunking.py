"""Cut a document into chunks of a bounded number of tokens, by slicing the text itself.

Chunks decoded from token ids would break characters of several tokens; a slice of the text never does.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from longreward.schema import Evidence
from longreward.text.scripts import CJK, JOINERS, MARKS, UNSPACED

Spans = Sequence[tuple[int, int]]
"""Token spans as (start, end) in characters, as fast tokenizers return for `return_offsets_mapping`."""

TokenSpans = Callable[[str], Spans]
"""Text -> character spans of its tokens. Use the policy's tokenizer, so that chunk sizes mean what they say."""

# Words and numbers are cut after 16 characters, or a "word" of a megabyte (base64, a genome) would be one token. Where
# no space ends a word, 4 characters are about a word.
_LETTER = rf"[^\W\d_{CJK}{UNSPACED}]|(?![{UNSPACED}])[{MARKS}{JOINERS}]"
_TOKEN = re.compile(rf"[{UNSPACED}]{{1,4}}|(?:{_LETTER}){{1,16}}|\d{{1,16}}|[{CJK}]|[^\w\s]|_")
_JOINER = "\u200d"


def word_spans(text: str) -> list[tuple[int, int]]:
    """A tokenizer without a model. Tokens are words, numbers, single CJK characters, four characters of other scripts
    without spaces (Thai, Khmer, ...), and punctuation marks."""
    return [match.span() for match in _TOKEN.finditer(text)]


@dataclass(frozen=True, slots=True)
class CutPoints:
    """Where a document may be cut: the places where tokens start, the number of tokens that start up to and including
    each place, and whether a cut there is clean (not inside a token or a visible character)."""

    starts: list[int]
    totals: Sequence[int]
    clean: list[bool]


def chunks_between(document: str, points: CutPoints, max_tokens: int) -> list[Evidence]:
    """Cut a document into contiguous chunks of at most `max_tokens` tokens (the paper: 128 and 4096).

    The chunks cover the whole text without gap or overlap and each but the first starts at a token's start. Spans may
    overlap, be empty or repeat (the byte tokens of one character); every span counts as a token of the chunk it starts
    in. Cuts inside a token or between a character and its combining marks are avoided while that keeps the limit. Only
    a single character of more than `max_tokens` tokens makes a chunk longer. Empty text gives no chunks; ValueError
    if `max_tokens` < 1.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; it must be 1 or more")
    if not document:
        return []
    starts, totals, clean = points.starts, points.totals, points.clean
    cuts = [0]
    first = 0
    while True:
        before = totals[first - 1] if first else 0
        end = max(bisect_right(totals, before + max_tokens, lo=first), first + 1)
        if end >= len(starts):
            break
        tidy = end
        while tidy > first and not clean[tidy]:
            tidy -= 1
        first = tidy if tidy > first else end
        cuts.append(starts[first])
    ends = [*cuts[1:], len(document)]
    return [
        Evidence(index=index, start=start, end=end, text=document[start:end])
        for index, (start, end) in enumerate(zip(cuts, ends, strict=True))
    ]


def cut_points(document: str, spans: Spans) -> CutPoints:
    """The cut points of a document from its token spans."""
    import numpy as np

    tokens = np.fromiter(chain.from_iterable(spans), dtype=np.int64, count=2 * len(spans)).reshape(-1, 2)
    # Special tokens come as (0, 0) at any place, so the spans may be out of order.
    starts, ends = tokens[np.argsort(tokens[:, 0], kind="stable")].T
    first = np.flatnonzero(np.diff(starts, prepend=-1))  # the first token of each place
    # Tokens that start where the document ends count with the last place before it.
    first = first[(starts[first] < len(document)) | (first == 0)]
    places = starts[first]
    covered = np.maximum.accumulate(np.append(0, ends))[first]  # where the tokens before end
    clean = (places >= covered) & ~_continues(_codes(document))[np.minimum(places, len(document))]
    return CutPoints(places.tolist(), np.append(first, len(starts))[1:].tolist(), clean.tolist())


def word_cut_points(document: str) -> CutPoints:
    """The same as `cut_points` of `word_spans`, but several times as fast: a few milliseconds for 64k tokens."""
    import numpy as np

    codes = _codes(document)
    kind = _character_kinds()[0][np.minimum(codes, _LAST)]
    at = np.arange(len(codes), dtype=np.int32)
    run = np.maximum.accumulate(np.where(np.diff(kind, prepend=np.int8(-1)), at, 0))  # where a run of one kind began
    starts = np.flatnonzero((kind != 0) & ((at - run) % np.array(_LONGEST, dtype=np.int32)[kind] == 0))
    return CutPoints(starts.tolist(), range(1, len(starts) + 1), (~_continues(codes)[starts]).tolist())


_LAST = 0x20000  # each character from here on (rare Han, variation selectors) is a token by itself, as this one is
_KINDS = (rf"[{CJK}]+|[^\w\s]+|_", rf"(?:{_LETTER})+", r"\d+", rf"[{UNSPACED}]+")  # the first is 1
_LONGEST = (1, 1, 16, 16, 4)  # of a token, by its kind


@cache
def _character_kinds() -> tuple[Any, Any]:
    """For each character up to `_LAST`: its kind for `_TOKEN` (0: none), and whether it belongs to the one before."""
    import numpy as np

    every = "".join(map(chr, range(_LAST + 1)))
    kinds, marks = np.zeros(_LAST + 1, dtype=np.int8), np.zeros(_LAST + 1, dtype=bool)
    for kind, pattern in enumerate(_KINDS, 1):  # marks are no word characters for `re`: the second takes them over
        for match in re.finditer(pattern, every):
            kinds[match.start() : match.end()] = kind
    for code, char in enumerate(every):
        is_skin_tone = "\U0001f3fb" <= char <= "\U0001f3ff"
        marks[code] = char == _JOINER or is_skin_tone or unicodedata.category(char)[0] == "M"
    return kinds, marks


def _codes(document: str) -> Any:
    """The characters of a document as an array of numbers."""
    import numpy as np

    return np.frombuffer(document.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _continues(codes: Any) -> Any:
    """For each character, and for the end: whether it belongs to the visible character before it."""
    import numpy as np

    before = np.append(np.uint32(0), codes)
    here = np.append(codes, np.uint32(0))
    is_selector = (here >= 0xE0100) & (here <= 0xE01EF)
    is_mark = _character_kinds()[1][np.minimum(here, _LAST)] | is_selector
    found = ((here == ord("\n")) & (before == ord("\r"))) | ((here >= 0x300) & (is_mark | (before == ord(_JOINER))))
    found[0] = False
    return found
