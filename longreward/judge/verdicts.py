"""Reads the value out of a judge's reply, or raises VerdictError.

The last verdict counts and must be valid. A number out of range is not moved into the range, and an earlier verdict
never stands in for a bad last one: a judge that corrects itself at the end must not be read by its first thought. What
the judge says in addition to a value that is certain, such as its unit, does no harm. The formats are those of
LongReward (paper, section 3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from longreward.errors import VerdictError
from longreward.judge.last_verdict import (
    BRACKETS,
    after_thoughts,
    folded,
    last_verdict,
    refuse_unknown_end,
    refuse_unknown_marks,
    without_citations,
)
from longreward.text.language import letters
from longreward.text.sentences import says_nothing

NO_STATEMENTS = "No statements"
"""The whole reply about an answer without factual statements, in both languages."""
NO_POINTS = "No points"
"""The whole reply about extractions that hold nothing on the question, in both languages."""
_NONE_ZH = {NO_STATEMENTS: ("没有陈述", "没有事实性陈述"), NO_POINTS: ("没有要点",)}
NO_RELEVANT = {"en": "No relevant information", "zh": "没有相关信息"}
"""The whole reply about a passage that says nothing on the question."""

_SUPPORT = {
    1.0: "fully supported|full supported|fully support|full support|完全支持|完全被支持|完全得到支持",
    0.5: "partially supported|partial supported|partially support|partial support|partly supported"
    "|部分支持|部分被支持|部分得到支持",
    0.0: "no support|no supported|not supported|unsupported|contradicted|contradiction|contradictory|contradicts"
    "|refuted|irrelevant|not relevant|no relevance|not mentioned|no evidence|不支持|无支持|不被支持|没有支持|未得到支持"
    "|矛盾|相矛盾|与证据矛盾|无关|不相关|没有依据|无依据",
}
_COVERAGE = {
    1.0: "covered|fully covered|completely covered|已覆盖|完全覆盖|覆盖",
    0.5: "partly|partly covered|partially covered|partial|部分|部分覆盖",
    0.0: "missing|not covered|uncovered|absent|遗漏|缺失|未覆盖|没有覆盖",
}


@dataclass(frozen=True, slots=True)
class _Scale:
    """Labels with a value, and what they are about."""

    about: str
    known: str
    values: dict[str, float]

    def value(self, content: str, text: str) -> float:
        """Of the content of double brackets. The label is looked up whole. VerdictError, with the whole reply, for
        another one."""
        label = " ".join(re.sub(r"[_-]", " ", _value(content).casefold()).split()).strip(" .。!*\"'")
        if label not in self.values:
            raise VerdictError(f"unknown verdict [[{content}]]; expected {self.known}", text)
        return self.values[label]


def _scale(about: str, known: str, labels: dict[float, str]) -> _Scale:
    return _Scale(about, known, {label: value for value, names in labels.items() for label in names.split("|")})


_OF_STATEMENTS = _scale("statement", "Fully supported, Partially supported or No support", _SUPPORT)
_OF_POINTS = _scale("point", "Covered, Partly covered or Missing", _COVERAGE)

Preference = Literal["A", "B", "tie"]
"""Which of two answers is better: the one shown first ("A") or second ("B")."""
_PREFERENCES: dict[str, Preference] = {"a": "A", "b": "B", "c": "tie", "tie": "tie", "平局": "tie"}

# The number of a statement or a point at the beginning of a line. "12:30" and "3.5" are not such numbers.
_NUMBERED = re.compile(
    r"[\s>|*_#`•(\[-]*(?:(?:statement|point|陈述|要点)[\s*_#(\[]*(?P<named>\d{1,6})(?!\d)|第\s*(?P<counted>\d{1,6})\s*[条句项]"
    r"|(?P<plain>\d{1,6})\s*(?:[)\]|、*_]|[.:](?!\d)|[-–—]\s|(?=\[\[)))",
    re.IGNORECASE,
)
_CIRCLED = {0x2460 + i: f"({i + 1})" for i in range(20)}  # ① to ⑳
_POINTS = r"\s*(?:分|points?)?"
_RATING = re.compile(rf"([0-9]{{1,2}}(?:\.[0-9]+)?){_POINTS}(?:\s*(?:/|out\s+of)\s*10{_POINTS})?[.。]?", re.IGNORECASE)
_GRADE = re.compile(rf"([0-9]{{1,2}}){_POINTS}(?:\s*(?:/|out\s+of)\s*([0-9]{{1,2}}){_POINTS})?[.。]?", re.IGNORECASE)
# What a judge writes before its value, inside the brackets.
_NAMED = re.compile(
    r"(?:(?:my|the|final|overall|total)\s+)*(?:(?:helpfulness|logicality|completeness|faithfulness)\s*)?"
    r"(?:rating|ranking|score|grade|verdict|preference|排名|评分|得分|分数|总分|评级|结论|判断)?\s*(?:[:=]|\bis\b|为|是)?[\s*_`]*",
    re.IGNORECASE,
)
_RANKED = re.compile(r"(?:answer|response|回答|答案)?[\s#(]*([0-9]{1,2})[\s)]*", re.IGNORECASE)
_ANSWER = re.compile(r"(?:answer|response|回答|答案)\s*(?=[abc]\b)", re.IGNORECASE)
_MARKUP = " \t\r\n*_`\"'$“”‘’「」"
# The whole reply about a passage that says nothing, as judges reword it.
_PASSAGE = "(?:the|this) (?:passage|text|chunk|excerpt|document)"
_NOTHING_FOUND = re.compile(
    r"(?:there (?:is|was) )?no relevant information"
    r"(?: (?:(?:is|was|has been|could be) )?(?:found|available|given|provided|present|contained|identified))?"
    rf"(?: (?:on|to|for|about|regarding) (?:the|this) question)?(?: (?:in|from) {_PASSAGE})?"
    rf"|{_PASSAGE} (?:contains|has|holds|provides|gives) no relevant information"
)
_LONGEST_NONE = 200  # characters
_NOTHING_FOUND_ZH = re.compile(
    r"(?:(?:本|该|这|此)?(?:段落?|文|段文字)中?)?(?:没有|无|未|并未|并没有)(?:找到|发现|包含|提供)?(?:任何)?(?:与(?:该|此)?问题)?相关的?信息"
)
_TAGS = {name: re.compile(rf"[<＜]\s*(?:(/)\s*)?{name}\s*[>＞]", re.IGNORECASE) for name in ("statement", "point")}
_QUOTED = re.compile(r"\"([^\"\n]+)\"|“([^“”\n]+)”|„([^„“”\n]+)[“”]|「([^「」\n]+)」|『([^『』\n]+)』|«([^«»\n]+)»")
_RESTATED = re.compile(
    r"<\s*statement\s*>([^<]*)<\s*/\s*statement\s*>\s*<\s*original\s*>([^<]*)<\s*/\s*original\s*>", re.IGNORECASE
)


def parse_rating(text: str, lowest: int = 0) -> float:
    """Read `[[7]]`, `[[7.5]]`, `[[8/10]]`, `[[Rating: 8]]`, `[[**8 points**]]` or `[[8分]]`, full-width forms included;
    `lowest`..10. Also `\\boxed{7}`, where it is alone in the last line.

    Raises VerdictError if there is no double bracket or if the last one holds anything else.
    """
    content = last_verdict(text)
    match = _RATING.fullmatch(_value(content))
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
    content = last_verdict(text)
    match = _GRADE.fullmatch(_value(content))
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
    content = last_verdict(text)
    label = _PREFERENCES.get(_ANSWER.sub("", _value(content)).strip(" .。!").casefold())
    if label is None:
        raise VerdictError(f"the last verdict [[{content}]] is not a preference; expected [[A]], [[B]] or [[C]]", text)
    return label


def parse_ranking(text: str, count: int) -> list[int]:
    """Read `[[2 > 1 = 3]]`, the numbers of `count` answers from the best to the worst, as the place of each answer in
    their order: 2, 1, 2. Full-width forms and names such as `Answer 2` included.

    Raises VerdictError if there is no double bracket or if the last one holds anything else: an answer that is
    missing, unknown or named twice.
    """
    content = last_verdict(text)
    expected = f"expected each number from 1 to {count} once, the best first, such as [[2 > 1 = 3]]"
    found: dict[int, int] = {}
    for equal in _value(content).split(">"):
        place = len(found) + 1
        for name in equal.split("="):
            match = _RANKED.fullmatch(name.strip(_MARKUP))
            if not match or not 1 <= int(match[1]) <= count or int(match[1]) in found:
                raise VerdictError(f"the last verdict [[{content}]] is not a ranking; {expected}", text)
            found[int(match[1])] = place
    if len(found) < count:
        raise VerdictError(f"the ranking [[{content}]] lacks an answer; {expected}", text)
    return [found[i] for i in range(1, count + 1)]


def parse_support(text: str) -> float:
    """Read `[[Fully supported]]` (1.0), `[[Partially supported]]` (0.5) or `[[No support]]` (0.0); `[[Contradicted]]`
    and `[[Irrelevant]]` are no support.

    The label is looked up whole, so `[[Not fully supported]]` and any unknown label raise VerdictError.
    """
    return _OF_STATEMENTS.value(last_verdict(text), text)


def parse_supports(text: str, count: int) -> list[float]:
    """Read one verdict for each of `count` numbered statements, in their order.

    A verdict belongs to the number that begins its line, or the nearest line above that begins with one. VerdictError
    unless every statement has its verdict: for a number that is missing, out of range or has two different verdicts,
    a verdict without a number, and an unknown label.
    """
    return _numbered_verdicts(text, count, _OF_STATEMENTS)


def parse_coverage(text: str, count: int) -> list[float]:
    """The same for points: `[[Covered]]` (1.0), `[[Partly covered]]` (0.5) or `[[Missing]]` (0.0)."""
    return _numbered_verdicts(text, count, _OF_POINTS)


def parse_quotes(text: str) -> dict[int, list[str]]:
    """Read what stands in quotation marks before each verdict of such a reply: number of the point -> quotations."""
    found: dict[int, list[str]] = {}
    for line in after_thoughts(text, text).translate(_CIRCLED).splitlines():
        if numbered := _NUMBERED.match(line):
            said = line[numbered.end() :].rpartition("[[")[0]
            found.setdefault(_number(numbered), ["".join(match.groups("")) for match in _QUOTED.finditer(said)])
    return found


def _numbered_verdicts(text: str, count: int, scale: _Scale) -> list[float]:
    about = scale.about
    found: dict[int, float] = {}
    number: int | None = None
    said = after_thoughts(folded(text.translate(_CIRCLED)), text)
    refuse_unknown_marks(said[: max(said.rfind("[["), 0)], text)
    refuse_unknown_end(said[said.rfind("]]") + 1 :], text)
    for line in said.splitlines():
        numbered = _NUMBERED.match(line)
        if numbered:
            number = _number(numbered)
            if not 1 <= number <= count:
                raise VerdictError(f"the reply speaks of {about} {number}; there are {count}", text)
        for verdict in without_citations(BRACKETS.finditer(line)):
            if number is None:
                raise VerdictError(f"the verdict {verdict[0]} belongs to no numbered {about}", text)
            if verdict[2] is None:
                raise VerdictError(f"the double brackets of {about} {number}'s verdict are not closed", text)
            if line[: verdict.start()].rstrip().endswith("~~"):
                raise VerdictError(f"the verdict on {about} {number} is struck out", text)
            value = scale.value(verdict[1].strip(), text)
            if found.setdefault(number, value) != value:
                raise VerdictError(f"{about} {number} has two different verdicts", text)
        if number in found:
            number = None
    missing = [str(i) for i in range(1, count + 1) if i not in found]
    if missing:
        raise VerdictError(f"no verdict for {about} {', '.join(missing)}", text)
    return [found[i] for i in range(1, count + 1)]


def parse_statements(text: str) -> list[str]:
    """Read the contents of `<statement>...</statement>`, in order, empty ones dropped, repetitions (but for case and
    white space) counted once.

    An empty list only if the judge says so: the reply, or its last line, is `No statements`. VerdictError if there
    is neither, or if tags do not pair up (a reply cut short).
    """
    return _listed(text, "statement", NO_STATEMENTS)


def parse_points(text: str) -> list[str]:
    """The same for `<point>...</point>` and `No points`."""
    return _listed(text, "point", NO_POINTS)


def _listed(text: str, name: str, none: str) -> list[str]:
    reply = after_thoughts(text, text)
    tags = list(_TAGS[name].finditer(reply))
    starts, ends = tags[::2], tags[1::2]
    if any(tag[1] for tag in starts) or not all(tag[1] for tag in ends):
        raise VerdictError(f"the <{name}> tags do not pair up", text)
    if len(starts) > len(ends):
        raise VerdictError(f"the last <{name}> is not closed: the reply was cut short", text)
    edges = [0, *(tag.start() if not tag[1] else tag.end() for tag in tags)]
    outside = zip(edges[::2], edges[1::2], strict=False)
    refuse_unknown_marks(" ".join(reply[start:end] for start, end in outside), text)
    refuse_unknown_end(reply[edges[-1] :] if tags else "", text)
    found: dict[str, str] = {}
    for start, end in zip(starts, ends, strict=True):
        if statement := reply[start.end() : end.start()].strip():
            found.setdefault(" ".join(statement.casefold().split()), statement)
    if found:
        says_none = len(found) == 1 and _says(none, next(iter(found)))
        return [] if says_none else list(found.values())
    lines = [line for line in reply.splitlines() if letters(line)]
    if lines and _says(none, lines[-1]):
        refuse_unknown_marks(reply[: reply.rindex(lines[-1])], text)
        return []
    raise VerdictError(f"neither <{name}> tags with content nor {none!r} in the reply", text)


def parse_original_wording(text: str) -> dict[str, str]:
    """Read what follows a restated statement: statement -> the answer's own words, `<original>...</original>`."""
    found = _RESTATED.findall(after_thoughts(text, text))
    return {statement.strip(): words.strip() for statement, words in found if words.strip()}


def parse_extraction(text: str) -> str | None:
    """Read what the judge extracted. None if the whole reply is `No relevant information` (or 没有相关信息), in any
    case, with any spaces and punctuation, or `No relevant information found`. VerdictError for an empty reply."""
    reply = after_thoughts(text, text).strip()
    if says_nothing(reply):
        raise VerdictError("the reply is empty", text)
    if len(reply) > _LONGEST_NONE:
        return reply
    words = "".join(c if c.isalnum() else " " for c in folded(reply).casefold()).split()
    none = _NOTHING_FOUND.fullmatch(" ".join(words)) or _NOTHING_FOUND_ZH.fullmatch("".join(words))
    return None if none else reply


def _value(content: str) -> str:
    """A verdict's content without its markup and its name: `**Rating:** 7` is `7`."""
    content = content.strip(_MARKUP)
    named = _NAMED.match(content)
    return content[named.end() if named else 0 :].strip(_MARKUP)


def _number(numbered: re.Match[str]) -> int:
    return int(numbered["named"] or numbered["counted"] or numbered["plain"])


def _says(none: str, line: str) -> bool:
    return letters(line) in {letters(none), *_NONE_ZH[none]}
