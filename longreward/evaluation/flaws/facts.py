"""Facts of an answer made wrong: a number, a name, a unit, a negation. Only what stands in the document is changed:
what was wrong before would be no more wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator

from longreward.evaluation.flaws.material import Material
from longreward.text.language import NUMBER, folded, terms
from longreward.text.sentences import STOP_WORDS

_NUMBER = re.compile(rf"(?<![A-Za-z0-9_.,])(?:{NUMBER}|\d+)(?![A-Za-z0-9_]|[.,]\d)")
_LIST_NUMBER = re.compile(r"^[ \t]*[(（]?\d+[.)）、]", re.MULTILINE)

_NAME = re.compile(r"(?<![\w-])[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})*(?![\w-])")
_NO_NAMES = frozenset(
    "january february march april may june july august september october november december monday tuesday wednesday "
    "thursday friday saturday sunday".split()
)
_OTHER_NAMES = (("Harwick", "Delphine Harwick"), ("Tolmarsh", "Osbert Tolmarsh"), ("Quennel", "Ludmilla Quennel"))
_TITLE = re.compile("《[^《》]+》")
_OTHER_TITLES = ("《寒山集》", "《白鹿记》", "《远帆》")
_ZH_PLACES = ("北京", "上海", "广州", "重庆", "中国", "美国", "日本", "英国", "法国", "德国")

_UNITS = {
    **{"thousand": "million", "million": "billion", "billion": "million", "trillion": "billion"},
    **{"percent": "per mille", "%": "‰", "dollars": "euros", "euros": "dollars", "yen": "dollars"},
    **{"years": "months", "months": "years", "weeks": "days", "days": "weeks", "hours": "days", "minutes": "hours"},
    **{"kilometres": "miles", "kilometers": "miles", "km": "miles", "miles": "metres", "metres": "miles"},
    **{"meters": "miles", "feet": "miles", "inches": "feet", "kilograms": "tons", "kg": "tons", "tons": "grams"},
    **{"万": "亿", "亿": "万", "小时": "天", "分钟": "小时", "天": "周", "个月": "天"},
    **{"公里": "米", "千米": "米", "米": "公里", "公斤": "吨", "吨": "公斤", "美元": "日元", "元": "美元"},
}
_UNIT = re.compile(
    rf"({NUMBER}|\d+)([ -]?)({'|'.join(sorted(_UNITS, key=len, reverse=True))})(?![A-Za-z])", re.IGNORECASE
)

_VERBS = "is|are|was|were|can|could|will|would|should|must|(?:has|have|had)(?= been| [a-z]+ed)"
_AUXILIARY = re.compile(rf"\b({_VERBS})\b(?! not\b|n['’]t\b)")
_NOT = re.compile(rf"\b({_VERBS}|do|does|did)(?: not|n['’]t)\b|\bcannot\b", re.IGNORECASE)
_NEGATIVE = re.compile(r"\b(?:not|no|never|none|nor|nothing|without)\b|n['’]t\b", re.IGNORECASE)
_NOT_TRUE = "It is not true that "
_ZH_NOT_TRUE = "并非"


def number_changed(material: Material) -> str | None:
    """A number of the document in another digit, wherever the answer has it."""
    listed = {m.end() - 1 for m in _LIST_NUMBER.finditer(material.answer)}
    places = [m for m in _NUMBER.finditer(material.answer) if m.end() not in listed]
    found = {m[0] for m in places}
    for number in _in_any_order(material, [one for one in sorted(found) if one.replace(",", "") in material.known]):
        for other in _other_digits(number):
            if other.replace(",", "") not in material.known and other not in found:
                return _replaced(material.answer, [m.span() for m in places if m[0] == number], other)
    return None


def name_changed(material: Material) -> str | None:
    """A name of the document, wherever the answer has it, made one that the document has not."""
    answer, context = material.answer, material.sample.context
    starts = {start for start, _ in material.spans}
    found = {m[0] for m in _NAME.finditer(answer) if m.start() not in starts and _is_name(m[0], material)}
    for name in _in_any_order(material, sorted(found)):
        for one, several in _OTHER_NAMES:
            if one not in context:
                return re.sub(rf"(?<![\w-]){name}(?![\w-])", several if " " in name else one, answer)
    for pattern, others in ((_TITLE, _OTHER_TITLES), (re.compile("|".join(_ZH_PLACES)), _ZH_PLACES)):
        known = sorted({m[0] for m in pattern.finditer(answer) if m[0] in context})
        free = [other for other in others if other not in context and other not in answer]
        if known and free:
            return answer.replace(material.rng.choice(known), material.rng.choice(free))
    return None


def unit_changed(material: Material) -> str | None:
    """The unit, or the order of magnitude, behind a number of the document."""
    places = [m for m in _UNIT.finditer(material.answer) if m[1].replace(",", "") in material.known]
    if not places:
        return None
    chosen = material.rng.choice(places)
    other = chosen[1] + chosen[2] + _UNITS[chosen[3].lower()]
    return re.sub(rf"(?<![\d.,]){re.escape(chosen[0])}(?![A-Za-z])", other, material.answer)


def negated(material: Material) -> str | None:
    """The negation taken out of a sentence, or one put in."""
    for index in material.claims()[:1]:
        return material.with_sentence(index, opposite(material.sentences[index], material))
    return None


def opposite(sentence: str, material: Material) -> str:
    """The sentence with its negation taken out, or with one put in."""
    if material.language == "zh":
        return sentence.removeprefix(_ZH_NOT_TRUE) if sentence.startswith(_ZH_NOT_TRUE) else _ZH_NOT_TRUE + sentence
    if _NOT.search(sentence):
        return _NOT.sub(lambda m: m[1] or "can", sentence, count=1)
    if not _NEGATIVE.search(sentence) and (verb := _AUXILIARY.search(sentence)):
        return f"{sentence[: verb.end()]} not{sentence[verb.end() :]}"
    first = terms(sentence)[0]
    begins = sentence[0].lower() if first in STOP_WORDS and first != "i" else sentence[0]
    return _NOT_TRUE + begins + sentence[1:]


def _replaced(text: str, spans: list[tuple[int, int]], other: str) -> str:
    for start, end in reversed(spans):
        text = text[:start] + other + text[end:]
    return text


def _is_name(run: str, material: Material) -> bool:
    """Whether it stands in the document, and not each of its words in lower case, too."""
    words = set(run.lower().split())
    known = words <= material.known and not words & (_NO_NAMES | STOP_WORDS)
    return known and not words <= material.in_lower_case


def _other_digits(number: str) -> Iterator[str]:
    """The number with another last digit; of a round number, with another last one that is not 0."""
    plain = folded(number)
    place = max((i for i, digit in enumerate(plain) if digit in "123456789"), default=len(plain) - 1)
    for step in range(3, 9):
        yield f"{plain[:place]}{(int(plain[place]) + step - 1) % 9 + 1}{plain[place + 1 :]}"


def _in_any_order(material: Material, found: list[str]) -> list[str]:
    return material.rng.sample(found, len(found))
