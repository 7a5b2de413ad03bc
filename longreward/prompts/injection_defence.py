"""Makes foreign text harmless before it stands in a question to the judge: an answer cannot argue with its judge."""

from __future__ import annotations

import re
import unicodedata

from longreward.text.scripts import CJK

FENCES = (
    *("question", "answer", "statement", "statements", "evidence", "passage", "extractions"),
    *("reference", "examples", "language", "original"),
)
"""The tags that the prompts put around material."""

# What reads as a tag to a model that looks past spelling: tags are searched for in text folded by `_Folding`, with
# spaces between the letters, and with any letter of another script in the place of each letter.
_OTHER_LETTER = re.compile(rf"[^\x00-\xbf\u2000-\u2bff\u3000-\u303f{CJK}]")
_ANY = "\ue000"  # what such a letter is folded to
_TAG = "(?:{})".format(
    "|".join(
        r"\s{0,2}".join(f"[{letter}{_ANY}]" for letter in name)
        for name in sorted((*FENCES, "thinking", "think"), reverse=True)
    )
)
_LESS_THAN = r"(?:(?<=<)|(?<=&)(?:lt|\#0*60|\#x0*3c);?|(?<=\\)(?:u00|x)3c|(?<=%)3c)"
_MORE_THAN = r"(?:>|&(?:gt|\#0*62|\#x0*3e);?|\\(?:u00|x)3e|%3e)"
# Control tokens of chat templates besides those in <|...|>.
_TOKEN = r"/?(?:s|bos|eos|sop|eop|sys|(?:start|end)_of_turn)>"
_BRACKET_TOKEN = r"/?(?:INST|gMASK|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
_ACTIVE = re.compile(
    # The class comes first because the search for it is fast.
    r"[<&\\%\[\]](?:"
    rf"{_LESS_THAN}(?=(?:\s*[/\\])+\s*{_TAG}(?![\w{_ANY}])|\s*{_TAG}\s*(?:/\s*)?{_MORE_THAN}|{_TAG}\s[^>]{{0,200}}>)"
    rf"|(?<=<)(?=\|[^|<>\n]{{1,60}}\|\s*>|{_TOKEN})"
    rf"|(?<=\[)(?=\[|{_BRACKET_TOKEN})|(?<=\])(?=\]))",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[^\s\x20-\x7e]")
# Not text: lone surrogates, which servers refuse, and the characters that spell ASCII invisibly.
_NO_TEXT = re.compile("[\ud800-\udfff]|[\U000e0000-\U000e007f]+")


class _Folding(dict[int, str]):
    """str.translate table: every character to what it looks like, those that nobody sees to nothing.

    NFKC, as verdicts do; lenticular brackets to square ones; other angle brackets, slashes and bars to the plain ones.
    """

    _look_alikes = str.maketrans(
        dict.fromkeys("〈⟨❬❮❰⦑⧼ᐸ˂≺≮◁", "<")
        | dict.fromkeys("〉⟩❭❯❱⦒⧽ᐳ˃≻≯▷›", ">")
        | dict.fromkeys("⁄∕⧸╱⟋", "/")
        | dict.fromkeys("⧵∖╲⟍", "\\")
        | dict.fromkeys("∣ǀ│❘", "|")
        | {"【": "[", "】": "]"}
        # Blank, though letters or symbols by category.
        | dict.fromkeys("\u115f\u1160\u2800\ufffd", "")
    )

    def __missing__(self, code: int) -> str:
        seen = (c for c in unicodedata.normalize("NFKC", chr(code)) if c.isspace() or not _is_unseen(c))
        folded = self[code] = _OTHER_LETTER.sub(_ANY, "".join(seen).translate(self._look_alikes))
        return folded


def _is_unseen(char: str) -> bool:
    """Control and format characters, and marks that are drawn over their neighbour."""
    return unicodedata.category(char) in ("Cc", "Cf", "Mn", "Me")


_FOLDING = _Folding()


def neutralise(text: str) -> str:
    """Make what our prompts and parsers act on inert in untrusted text, and leave all other text as it is.

    Fence, <statement> and <think> tags and control tokens of chat templates, such as <|user|>, get `‹` for `<`: in any
    case, spaced out, in look-alikes of other scripts, with characters inside that nobody sees. Where an escape such as
    `&lt;` begins them, and between double square brackets, a space is put in. Lone surrogates become U+FFFD and tag
    characters are dropped. Idempotent.
    """
    if not text.isascii():
        text = _NO_TEXT.sub(lambda match: "\ufffd" if match[0] < "\ue000" else "", text)
    folded, offsets = _fold(text)
    pieces: list[str] = []
    done = 0
    for match in _ACTIVE.finditer(folded):
        at = offsets[match.start()] if offsets else match.start()
        is_tag = match[0] == "<"
        pieces += text[done : at if is_tag else at + 1], "‹" if is_tag else " "
        done = at + 1
    return "".join([*pieces, text[done:]])


def _fold(text: str) -> tuple[str, list[int] | None]:
    """The text folded character by character; for each folded character its origin, None if they are the same."""
    if text.isascii() and not _CONTROL.search(text):
        return text, None
    folded = text.translate(_FOLDING)
    if all(len(_FOLDING[ord(char)]) == 1 for char in set(text)):
        return folded, None
    return folded, [i for i, char in enumerate(text) for _ in _FOLDING[ord(char)]]
