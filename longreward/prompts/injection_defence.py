"""Makes foreign text harmless before it stands in a question to the judge: an answer cannot argue with its judge."""

from __future__ import annotations

import re
from collections.abc import Iterable

from longreward.prompts.control_tokens import AFTER_BRACKET, AFTER_CLOSING_BRACKET, AFTER_LESS_THAN
from longreward.prompts.look_alikes import ANY, LONG_S, RING, Folded

FENCES = (
    *("question", "answer", "statement", "statements", "evidence", "passage", "extractions"),
    *("point", "points", "criteria", "kinds"),
    *("reference", "examples", "language", "original"),
)
"""The tags that the prompts put around material."""

# What reads as a tag to a model that looks past spelling, in folded text. Letters may be spaced out; ASCII has
# look-alikes of its own, by the skeleton of UTS #39: 0 of O, 1 and | of l and I, rn of m; vv of w is ours. The long s
# is an s by its decomposition and an f by the skeleton.
_GAP = rf"[\s._*~{RING}-]*"
_ALSO = {"o": f"0{RING}", "l": "1|i", "i": "1|l", "s": LONG_S, "f": LONG_S}
_PAIRS = {"m": "rn", "w": "vv"}


def _letter(letter: str) -> str:
    one = f"[{letter}{_ALSO.get(letter, '')}{ANY}]"
    return f"(?:{one}|{_GAP.join(_PAIRS[letter])})" if letter in _PAIRS else one


_NAME = "(?:{})".format(
    "|".join(_GAP.join(map(_letter, name)) for name in sorted((*FENCES, "thinking", "think"), reverse=True))
)
_MORE_THAN = r"(?:>|&(?:amp;)*(?:gt|\#0*62|\#x0*3e);?|\\(?:u00|u\{0*|x)3e\}?|%(?:25)*3e)"


def _tag(group: str) -> str:
    """What makes the `<` before it a tag, the tag's name in this group: closing; else whole, or with attributes."""
    return (
        rf"(?:(?P<{group}_closes>(?:\s*+[/\\])++)\s*+|(?P<{group}_spaced>\s++))?+(?P<{group}>{_NAME})"
        rf"(?({group}_closes)(?![\w{ANY}])|(?:\s*(?:/\s*)?{_MORE_THAN}|(?({group}_spaced)(?!)|\s)))"
    )


# No two alternatives begin with the same character, and case is folded before: that makes the search fast.
_ACTIVE = re.compile(
    rf"<(?={_tag('plain')}|{AFTER_LESS_THAN})"
    rf"|&(?=(?:amp;)*(?:lt|\#0*60|\#x0*3c);?{_tag('entity')})"
    rf"|\\(?=(?:u00|u\{{0*|x)3c\}}?{_tag('escaped')})"
    rf"|%(?=(?:25)*3c{_tag('quoted')})"
    rf"|\[(?=\[|{AFTER_BRACKET})"
    rf"|\](?=\]|{AFTER_CLOSING_BRACKET})"
)
_BEGINNINGS = re.compile(r"[<&\\%\[\]]")
"""The characters with which `_ACTIVE` begins: without them, and without look-alikes, there is nothing to find."""
_TAG_NAMES = ("plain", "entity", "escaped", "quoted")
_SPACED = re.compile(_GAP)
_ORDINARY = re.compile(r"[\w\s]*|.")

# What is not text: lone surrogates, which servers refuse; of what Unicode calls default ignorable, the places that are
# not assigned, and what spells bytes invisibly: tag characters but those of three flags, and variation selectors that
# have no character of their own to vary. The rest has work to do: joiners in Persian, Hindi and emoji, direction marks.
_BLACK_FLAG = "\U0001f3f4"
_ENGLAND = "\U000e0065\U000e006e\U000e0067"
_SCOTLAND = "\U000e0073\U000e0063\U000e0074"
_WALES = "\U000e0077\U000e006c\U000e0073"
_FLAG_TAGS = f"\U000e0067\U000e0062(?:{_ENGLAND}|{_SCOTLAND}|{_WALES})\U000e007f"
_SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_EMPTY = "\u2065\ufff0-\ufff8\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_MAY_BE_NO_TEXT = re.compile(f"[{_BLACK_FLAG}\ud800-\udfff{_EMPTY}{_SELECTORS}]")
_NO_TEXT = re.compile(
    rf"{_MAY_BE_NO_TEXT.pattern}(?:"
    rf"(?<={_BLACK_FLAG})(?:{_FLAG_TAGS})?|(?<=[\ud800-\udfff])|(?<=[{_EMPTY}])"
    rf"|(?<=[{_SELECTORS}])(?<![^\s{_IGNORABLE}][{_SELECTORS}]))"
)


def added_tokens_in(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """What finds a tokenizer's added tokens in folded text; None where `neutralise` makes all of them inert without it.

    Words, white space and single characters are left out: they are ordinary text.
    """
    stripped = {token.strip() for token in tokens}
    left = {Folded(token).text for token in stripped if not _ORDINARY.fullmatch(token) and neutralise(token) == token}
    # Looking ahead finds tokens that overlap.
    return re.compile(f"(?={'|'.join(map(re.escape, sorted(left)))})") if left else None


def neutralise(text: str, added: re.Pattern[str] | None = None) -> str:
    """Make what our prompts and parsers act on inert in untrusted text, and leave all other text as it is.

    Fence, <statement> and <think> tags and control tokens of chat templates, such as <|user|>, get `‹` for `<`: in any
    case, spaced out, in look-alikes of other scripts, with characters inside that nobody sees. Where an escape such as
    `&lt;` begins them, between double square brackets, and in control tokens that begin with a square bracket, a space
    is put in, and behind the first character of whatever `added` finds. Lone surrogates become U+FFFD; tag characters
    that are no flag's, variation selectors that vary nothing and code points that Unicode keeps for invisible
    characters to come are dropped. Idempotent, in linear time.
    """
    if text.isascii() and added is None and not _BEGINNINGS.search(text):
        return text
    folded = Folded(text)
    if _MAY_BE_NO_TEXT.search(folded.unusual):
        text = _NO_TEXT.sub(_as_text, text)
        folded = Folded(text)
    found = [match.start() for match in _ACTIVE.finditer(folded.text) if _is_meant(match, folded)]
    if added is not None:
        found = sorted({*found, *(match.start() for match in added.finditer(folded.text))})
    pieces: list[str] = []
    done = 0
    for place in found:
        at = folded.origin(place)
        if at < done:  # one character that looks like several
            continue
        is_tag = folded.text[place] == "<"
        pieces += text[done : at if is_tag else at + 1], "‹" if is_tag else " "
        done = at + 1
    return "".join([*pieces, text[done:]])


def _as_text(match: re.Match[str]) -> str:
    if match[0][0] == _BLACK_FLAG:
        return match[0]
    return "\ufffd" if "\ud800" <= match[0] <= "\udfff" else ""


def _is_meant(match: re.Match[str], folded: Folded) -> bool:
    """False for a word of another script, of whose letters less than half resemble a tag's, and for a small [args]."""
    if match["capitals"]:
        return folded.cased[slice(*match.span("capitals"))].isupper()
    name = "".join(filter(None, match.group(*_TAG_NAMES)))
    return ANY not in name or 2 * name.count(ANY) <= len(_SPACED.sub("", name))
