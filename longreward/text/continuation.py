"""Where a prompt ends in a text that begins with it, though decoding changed it or its left part was cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

_TAIL = 32
"""Characters of the prompt's end that are looked for."""
_STEP, _ANCHOR, _DRIFT = 512, 24, 128
"""In characters: a piece of the prompt is looked for after each `_STEP`; it has `_ANCHOR`, and stands at most
`_DRIFT` away from where the piece before it says."""
_MOST_PLACES = 256


def continuation(text: str, prompt: str) -> str | None:
    """What follows `prompt` in `text`; None where the end of `prompt` is not found.

    Only the text before the prompt's end decides where the end is. A continuation that repeats the prompt's last words
    cannot move it.
    """
    if text.startswith(prompt):
        return text[len(prompt) :]
    # Without white space: some tokenizers decode special tokens with spaces around them.
    words = [(word.start(), word.group()) for word in _WORD.finditer(text)]
    end = _end("".join(word for _, word in words), "".join(prompt.split()))
    if end is None:
        return None
    rest, space = text[_original(words, end) :], prompt[len(prompt.rstrip()) :]
    # The white space that the prompt ends with belongs to it, however it was decoded.
    return rest.removeprefix(space) if rest.startswith(space) else rest.lstrip()


_WORD = re.compile(r"\S+")


def _original(words: list[tuple[int, str]], end: int) -> int:
    """Where the first `end` characters of the words end in the text that they stand in."""
    if not end:
        return 0
    for start, word in words:
        if end <= len(word):
            return start + end
        end -= len(word)
    raise AssertionError("the end is within the words")


def _end(text: str, prompt: str) -> int | None:
    """Where `prompt` ends in `text`."""
    if text.startswith(prompt):
        return len(prompt)
    tail = prompt[-_TAIL:]
    places = [start + len(tail) for start in islice(_starts(text, tail), _MOST_PLACES)]
    # Cut from the left: the text begins with what is left of the prompt.
    exact = next((place for place in places if prompt.endswith(text[:place])), None)
    if exact is not None or not places:
        return exact
    expected = _expected_end(text, prompt)
    return min(places, key=lambda place: abs(place - expected))


def _starts(text: str, piece: str) -> Iterator[int]:
    """Each place where `piece` begins in `text`; the pieces may overlap."""
    start = text.find(piece)
    while start >= 0:
        yield start
        start = text.find(piece, start + 1)


def _expected_end(text: str, prompt: str) -> int:
    """Where the prompt should end, by following it through the text piece by piece."""
    shift = _first_shift(text, prompt)
    for position in range(max(0, -shift), len(prompt) - _ANCHOR, _STEP):
        piece, due = prompt[position : position + _ANCHOR], position + shift
        found = _nearest(text, piece, due)
        if found is not None:
            shift += found - due
    return len(prompt) + shift


def _first_shift(text: str, prompt: str) -> int:
    """How much further to the right than in the prompt its first recognizable piece stands in the text."""
    for start in range(0, min(len(text), 64 * _ANCHOR), _ANCHOR):
        piece = text[start : start + _ANCHOR]
        found = prompt.find(piece)
        if len(piece) == _ANCHOR and found >= 0 and prompt.find(piece, found + 1) < 0:
            return start - found
    return 0


def _nearest(text: str, piece: str, due: int) -> int | None:
    """The place of `piece` nearest to `due` in `text`, at most `_DRIFT` away."""
    window_start = max(0, due - _DRIFT)
    window = text[window_start : due + _DRIFT + len(piece)]
    places = (window_start + start for start in _starts(window, piece))
    return min(places, key=lambda place: abs(place - due), default=None)
