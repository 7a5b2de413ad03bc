"""Judge text -> value, or VerdictError. Pure.

The last verdict counts and must be valid: nothing is clamped, and a bad last verdict is never replaced by an earlier
good one (DESIGN, section 5). Reply formats are those of LongReward (paper, section 3).
"""

from __future__ import annotations

import re
import unicodedata

from longreward.errors import VerdictError

NO_STATEMENTS = "No statements"
"""What the judge replies, alone, for an answer without factual statements (both languages)."""
NO_RELEVANT = {"en": "No relevant information", "zh": "没有相关信息"}
"""What the judge replies, alone, for a passage without anything on the question."""

_SUPPORT = {
    1.0: "fully supported|full supported|fully support|full support|完全支持|完全被支持|完全得到支持",
    0.5: "partially supported|partial supported|partially support|partial support|partly supported"
    "|部分支持|部分被支持|部分得到支持",
    0.0: "no support|no supported|not supported|unsupported|不支持|无支持|不被支持|没有支持|未得到支持",
}
_LABELS = {label: value for value, labels in _SUPPORT.items() for label in labels.split("|")}

_THINK = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_THINK_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_BRACKETS = re.compile(r"\[{2,}([^\[\]]*)(\]{2,})?")
_LENTICULAR = str.maketrans("【】", "[]")
_RATING = re.compile(r"([0-9]{1,2}(?:\.[0-9]+)?)(?:\s*/\s*10)?")
_TAG = re.compile(r"[<＜]\s*(?:(/)\s*)?statement\s*[>＞]", re.IGNORECASE)


def parse_rating(text: str) -> float:
    """Read `[[7]]`, `[[7.5]]`, `[[ 8 ]]` or `[[8/10]]`, full-width forms included; 0..10.

    Raises VerdictError if there is no double bracket or if the last one holds anything else.
    """
    content = _last_bracket(text)
    match = _RATING.fullmatch(content)
    if not match:
        raise VerdictError(f"the last verdict [[{content}]] is no rating; expected [[n]] with n from 0 to 10", text)
    rating = float(match[1])
    if rating > 10:
        raise VerdictError(f"the rating [[{content}]] is outside 0..10", text)
    return rating


def parse_support(text: str) -> float:
    """Read `[[Fully supported]]` (1.0), `[[Partially supported]]` (0.5) or `[[No support]]` (0.0).

    The label is looked up whole, so `[[Not fully supported]]` and any unknown label raise VerdictError.
    """
    content = _last_bracket(text)
    label = " ".join(re.sub(r"[_-]", " ", content.casefold()).split()).strip(" .。!*\"'")
    if label not in _LABELS:
        known = "Fully supported, Partially supported or No support"
        raise VerdictError(f"unknown verdict [[{content}]]; expected {known}", text)
    return _LABELS[label]


def parse_statements(text: str) -> list[str]:
    """Read the contents of `<statement>...</statement>`, in order, empty ones dropped, repetitions (but for case and
    white space) counted once.

    An empty list only if the judge says so: the reply, or its last line, is `No statements`. VerdictError if there
    is neither, or if tags do not pair up (a reply cut short).
    """
    reply = _without_thoughts(text)
    found: dict[str, str] = {}
    open_at: int | None = None
    for tag in _TAG.finditer(reply):
        closing = bool(tag[1])
        if closing != (open_at is not None):
            raise VerdictError("the <statement> tags do not pair up", text)
        if open_at is None:
            open_at = tag.end()
            continue
        statement = reply[open_at : tag.start()].strip()
        open_at = None
        if statement:
            found.setdefault(" ".join(statement.casefold().split()), statement)
    if open_at is not None:
        raise VerdictError("the last <statement> is not closed: the reply was cut short", text)
    if found:
        says_none = len(found) == 1 and _says_no_statements(next(iter(found)))
        return [] if says_none else list(found.values())
    lines = [line for line in reply.splitlines() if _letters(line)]
    if lines and _says_no_statements(lines[-1]):
        return []
    raise VerdictError(f"neither <statement> tags with content nor {NO_STATEMENTS!r} in the reply", text)


def parse_extraction(text: str) -> str | None:
    """Read what the judge extracted; None if the whole reply, but for case, spaces and punctuation, is the sentence
    `No relevant information` (or 没有相关信息). VerdictError for an empty reply."""
    reply = _without_thoughts(text).strip()
    said = _letters(reply)
    if not said:
        raise VerdictError("the reply is empty", text)
    return None if said in {_letters(sentence) for sentence in NO_RELEVANT.values()} else reply


def _last_bracket(text: str) -> str:
    """The content of the last double bracket, folded to NFKC and stripped."""
    folded = unicodedata.normalize("NFKC", _without_thoughts(text)).translate(_LENTICULAR)
    found = list(_BRACKETS.finditer(folded))
    if not found:
        raise VerdictError("no verdict in double brackets in the reply", text)
    last = found[-1]
    if last[2] is None:
        raise VerdictError("the last verdict's double brackets are not closed", text)
    return last[1].strip()


def _without_thoughts(text: str) -> str:
    """The reply after a leading <think> block. Some servers send only its end, the start being in their template."""
    start, end = _THINK.match(text), _THINK_END.search(text)
    if start and not end:
        raise VerdictError("<think> is not closed: the reply was cut short", text)
    return text[end.end() :] if end else text


def _says_no_statements(line: str) -> bool:
    return _letters(line) in {_letters(NO_STATEMENTS), "没有陈述", "没有事实性陈述"}


def _letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())
