"""Reads the value out of a judge's reply, or raises VerdictError.

The last verdict counts and must be valid. A number out of range is not moved into the range, and an earlier verdict
never stands in for a bad last one: a judge that corrects itself at the end must not be read by its first thought. The
formats are those of LongReward (paper, section 3).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from longreward.errors import VerdictError

NO_STATEMENTS = "No statements"
"""The whole reply about an answer without factual statements, in both languages."""
NO_RELEVANT = {"en": "No relevant information", "zh": "没有相关信息"}
"""The whole reply about a passage that says nothing on the question."""

_SUPPORT = {
    1.0: "fully supported|full supported|fully support|full support|完全支持|完全被支持|完全得到支持",
    0.5: "partially supported|partial supported|partially support|partial support|partly supported"
    "|部分支持|部分被支持|部分得到支持",
    0.0: "no support|no supported|not supported|unsupported|不支持|无支持|不被支持|没有支持|未得到支持",
}
_LABELS = {label: value for value, labels in _SUPPORT.items() for label in labels.split("|")}

Preference = Literal["A", "B", "tie"]
"""Which of two answers is better: the one shown first ("A") or second ("B")."""
_PREFERENCES: dict[str, Preference] = {"a": "A", "b": "B", "c": "tie", "tie": "tie", "平局": "tie"}

_THINK = re.compile(r"<think(?:ing)?>|◁think▷", re.IGNORECASE)
_THINK_END = re.compile(r"</think(?:ing)?>|◁/think▷", re.IGNORECASE)
_BRACKETS = re.compile(r"\[{2,}([^\[\]]*)(\]{2,})?")
_LENTICULAR = str.maketrans("【】", "[]")
# The number of a statement at the beginning of a line. "12:30" and "3.5" are not such numbers.
_NUMBERED = re.compile(
    r"[\s>|*_#`•(\[-]*(?:(?:statement|陈述)[\s*_#(\[]*(?P<named>\d{1,6})(?!\d)|第\s*(?P<counted>\d{1,6})\s*[条句项]"
    r"|(?P<plain>\d{1,6})\s*(?:[)\]|、*_]|[.:](?!\d)|[-–—]\s|(?=\[\[)))",
    re.IGNORECASE,
)
_CIRCLED = {0x2460 + i: f"({i + 1})" for i in range(20)}  # ① to ⑳
_RATING = re.compile(r"([0-9]{1,2}(?:\.[0-9]+)?)(?:\s*/\s*10)?")
_GRADE = re.compile(r"([0-9]{1,2})(?:\s*/\s*([0-9]{1,2}))?")
_TAG = re.compile(r"[<＜]\s*(?:(/)\s*)?statement\s*[>＞]", re.IGNORECASE)


def parse_rating(text: str, lowest: int = 0) -> float:
    """Read `[[7]]`, `[[7.5]]`, `[[ 8 ]]` or `[[8/10]]`, full-width forms included; `lowest`..10.

    Raises VerdictError if there is no double bracket or if the last one holds anything else.
    """
    content = _last_bracket(text)
    match = _RATING.fullmatch(content)
    if not match:
        expected = f"expected [[n]] with n from {lowest} to 10"
        raise VerdictError(f"the last verdict [[{content}]] is not a rating; {expected}", text)
    rating = float(match[1])
    if not lowest <= rating <= 10:
        raise VerdictError(f"the rating [[{content}]] is outside {lowest}..10", text)
    return rating


def parse_grade(text: str, highest: int) -> int:
    """Read a whole number in 1..`highest`: `[[2]]`, or `[[2/3]]` where `highest` is 3, full-width forms included.

    Raises VerdictError if there is no double bracket or if the last one holds anything else, `[[2.5]]` for instance.
    """
    content = _last_bracket(text)
    match = _GRADE.fullmatch(content)
    if not match or int(match[2] or highest) != highest:
        expected = f"expected [[n]] with a whole number from 1 to {highest}"
        raise VerdictError(f"the last verdict [[{content}]] is not a grade; {expected}", text)
    grade = int(match[1])
    if not 1 <= grade <= highest:
        raise VerdictError(f"the grade [[{content}]] is outside 1..{highest}", text)
    return grade


def parse_preference(text: str) -> Preference:
    """Read `[[A]]`, `[[B]]` or `[[C]]` (neither is better; also `[[Tie]]`), in any case, full-width forms included.

    Raises VerdictError if there is no double bracket or if the last one holds anything else, `[[A or B]]` for instance.
    """
    content = _last_bracket(text)
    label = _PREFERENCES.get(content.casefold())
    if label is None:
        raise VerdictError(f"the last verdict [[{content}]] is not a preference; expected [[A]], [[B]] or [[C]]", text)
    return label


def parse_support(text: str) -> float:
    """Read `[[Fully supported]]` (1.0), `[[Partially supported]]` (0.5) or `[[No support]]` (0.0).

    The label is looked up whole, so `[[Not fully supported]]` and any unknown label raise VerdictError.
    """
    return _support(_last_bracket(text), text)


def parse_supports(text: str, count: int) -> list[float]:
    """Read one verdict for each of `count` numbered statements, in their order.

    A verdict belongs to the number that begins its line, or the nearest line above that begins with one. VerdictError
    unless every statement has its verdict: for a number that is missing, out of range or has two different verdicts,
    a verdict without a number, and an unknown label.
    """
    found: dict[int, float] = {}
    number: int | None = None
    for line in _folded(_without_thoughts(text).translate(_CIRCLED)).splitlines():
        numbered = _NUMBERED.match(line)
        if numbered:
            number = int(numbered["named"] or numbered["counted"] or numbered["plain"])
            if not 1 <= number <= count:
                raise VerdictError(f"the reply speaks of statement {number}; there are {count}", text)
        for verdict in _BRACKETS.finditer(line):
            if number is None:
                raise VerdictError(f"the verdict {verdict[0]} belongs to no numbered statement", text)
            if verdict[2] is None:
                raise VerdictError(f"the double brackets of statement {number}'s verdict are not closed", text)
            support = _support(verdict[1].strip(), text)
            if found.setdefault(number, support) != support:
                raise VerdictError(f"statement {number} has two different verdicts", text)
        if number in found:
            number = None
    missing = [str(i) for i in range(1, count + 1) if i not in found]
    if missing:
        raise VerdictError(f"no verdict for statement {', '.join(missing)}", text)
    return [found[i] for i in range(1, count + 1)]


def parse_statements(text: str) -> list[str]:
    """Read the contents of `<statement>...</statement>`, in order, empty ones dropped, repetitions (but for case and
    white space) counted once.

    An empty list only if the judge says so: the reply, or its last line, is `No statements`. VerdictError if there
    is neither, or if tags do not pair up (a reply cut short).
    """
    reply = _without_thoughts(text)
    tags = list(_TAG.finditer(reply))
    starts, ends = tags[::2], tags[1::2]
    if any(tag[1] for tag in starts) or not all(tag[1] for tag in ends):
        raise VerdictError("the <statement> tags do not pair up", text)
    if len(starts) > len(ends):
        raise VerdictError("the last <statement> is not closed: the reply was cut short", text)
    found: dict[str, str] = {}
    for start, end in zip(starts, ends, strict=True):
        if statement := reply[start.end() : end.start()].strip():
            found.setdefault(" ".join(statement.casefold().split()), statement)
    if found:
        says_none = len(found) == 1 and _says_no_statements(next(iter(found)))
        return [] if says_none else list(found.values())
    lines = [line for line in reply.splitlines() if _letters(line)]
    if lines and _says_no_statements(lines[-1]):
        return []
    raise VerdictError(f"neither <statement> tags with content nor {NO_STATEMENTS!r} in the reply", text)


def parse_extraction(text: str) -> str | None:
    """Read what the judge extracted. None if the whole reply is `No relevant information` (or 没有相关信息), in any
    case and with any spaces and punctuation. VerdictError for an empty reply."""
    reply = _without_thoughts(text).strip()
    said = _letters(reply)
    if not said:
        raise VerdictError("the reply is empty", text)
    return None if said in {_letters(sentence) for sentence in NO_RELEVANT.values()} else reply


def _last_bracket(text: str) -> str:
    """The content of the last double bracket, folded to NFKC and stripped."""
    found = list(_BRACKETS.finditer(_folded(_without_thoughts(text))))
    if not found:
        raise VerdictError("no verdict in double brackets in the reply", text)
    last = found[-1]
    if last[2] is None:
        raise VerdictError("the last verdict's double brackets are not closed", text)
    return last[1].strip()


def _support(content: str, text: str) -> float:
    label = " ".join(re.sub(r"[_-]", " ", content.casefold()).split()).strip(" .。!*\"'")
    if label not in _LABELS:
        known = "Fully supported, Partially supported or No support"
        raise VerdictError(f"unknown verdict [[{content}]]; expected {known}", text)
    return _LABELS[label]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(_LENTICULAR)


def _without_thoughts(text: str) -> str:
    """The reply after its last <think> block. Some servers send only the end tag: the template has the start."""
    end = 0
    for closing in _THINK_END.finditer(text):
        end = closing.end()
    if _THINK.search(text, end):
        raise VerdictError("<think> is not closed: the reply was cut short", text)
    return text[end:]


def _says_no_statements(line: str) -> bool:
    return _letters(line) in {_letters(NO_STATEMENTS), "没有陈述", "没有事实性陈述"}


def _letters(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())
