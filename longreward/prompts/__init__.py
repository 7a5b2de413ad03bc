"""The judge's prompts: one .txt per prompt and language, filled in one pass with neutralised material.

Every text puts its fixed part first, then the document's part, then the question, and the answer or statement last,
so that a judge server's prefix cache serves all calls on one document.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache
from importlib import resources
from typing import Literal

Language = Literal["en", "zh"]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
NAMES = ("helpfulness", "logicality", "statements", "verify", "extract", "completeness")
FENCES = ("question", "answer", "statement", "evidence", "passage", "extractions")
"""The tags that the prompts put around material."""

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")

# Characters that a judge does not see but that would hide a tag from a plain search.
_INVISIBLE = "[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]*"
_GAP = r"[\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff]*"
_TAG = "(?:" + "|".join(_INVISIBLE.join(name) for name in sorted((*FENCES, "thinking", "think"), reverse=True)) + ")"
_ACTIVE = re.compile(
    rf"<(?={_GAP}[/\\]{_GAP}{_TAG}\b|{_GAP}{_TAG}{_GAP}(?:/{_GAP})?>|{_TAG}\s[^>]{{0,200}}>"
    rf"|\|{_GAP}[\w ]{{1,40}}\|{_GAP}>)"
    rf"|\[(?={_INVISIBLE}\[)|\](?={_INVISIBLE}\])",
    re.IGNORECASE,
)


class _Folding(dict[int, str]):
    """str.translate table: every character to its NFKC form, lenticular brackets to square ones, as verdicts do."""

    def __missing__(self, code: int) -> str:
        folded = unicodedata.normalize("NFKC", chr(code)).translate({0x3010: "[", 0x3011: "]"})
        self[code] = folded
        return folded


_FOLDING = _Folding()


def neutralise(text: str) -> str:
    """Make what our prompts and parsers act on inert in untrusted text, and leave all other text as it is.

    Fence, <statement> and <think> tags (also with spaces, in any case, in full-width or other NFKC look-alikes, with
    invisible characters inside) and chat-template tokens such as <|user|> get `‹` for `<`; double square brackets get
    a space between them. Idempotent.
    """
    folded, offsets = _fold(text)
    pieces: list[str] = []
    done = 0
    for match in _ACTIVE.finditer(folded):
        at = offsets[match.start()] if offsets else match.start()
        is_tag = match[0] == "<"
        pieces += text[done : at if is_tag else at + 1], "‹" if is_tag else " "
        done = at + 1
    return "".join([*pieces, text[done:]])


def render(name: str, language: Language, /, **fields: str) -> str:
    """Fill a prompt with neutralised fields, all in one pass: a field's value is never searched for placeholders.

    ValueError for an unknown prompt or language and for missing or unknown fields, naming them.
    """
    template, wanted = _template(name, language)
    missing, unknown = sorted(wanted - fields.keys()), sorted(fields.keys() - wanted)
    if missing or unknown:
        wrong = [f"{kind} {', '.join(names)}" for kind, names in (("missing", missing), ("unknown", unknown)) if names]
        raise ValueError(f"prompt {name!r} wants the fields {', '.join(sorted(wanted))}: {'; '.join(wrong)}")
    return _PLACEHOLDER.sub(lambda match: neutralise(fields[match[1]]), template)


@cache
def _template(name: str, language: str) -> tuple[str, frozenset[str]]:
    if name not in NAMES or language not in LANGUAGES:
        raise ValueError(f"no prompt {name!r} in {language!r}; prompts: {', '.join(NAMES)} in {', '.join(LANGUAGES)}")
    text = resources.files(__name__).joinpath(f"{name}.{language}.txt").read_text(encoding="utf-8").strip()
    return text, frozenset(_PLACEHOLDER.findall(text))


def _fold(text: str) -> tuple[str, list[int] | None]:
    """The text folded character by character; for each folded character its origin, None if they are the same."""
    if text.isascii():
        return text, None
    folded = text.translate(_FOLDING)
    if len(folded) == len(text):
        return folded, None
    return folded, [i for i, char in enumerate(text) for _ in _FOLDING[ord(char)]]


def _version() -> str:
    texts = (f"{name}.{language}\0{_template(name, language)[0]}\0" for name in NAMES for language in LANGUAGES)
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:12]


VERSION: str = _version()
"""Changes with any prompt text; part of the cache key."""
