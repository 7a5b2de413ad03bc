"""Changes that make an answer neither better nor worse."""

from __future__ import annotations

import re

from longreward.evaluation.flaws.material import Material
from longreward.text.language import terms

_ITEM = re.compile(r"[ \t]*[-*•][ \t]+(?=\S)")
# A sentence with one of these may need the one before it, and so may one that begins with a link.
_REFERS = frozenset(
    "it its itself he she him his her hers they them their theirs this that these those such there here then too both "
    "either neither another other others else same former latter first second third next last later earlier "
    "afterwards again still respectively".split()
)
_LINKS = frozenset(
    "and but or nor so yet because instead also however therefore thus hence further furthermore moreover additionally "
    "besides meanwhile finally firstly secondly similarly likewise consequently overall in for to while as which who "
    "yes no".split()
)
_OF_ITS_OWN = re.compile(r"\d|(?<=\s)[A-Z]")
"""A number, or a name behind the first word: such a sentence seldom leans on another."""
_ZH_REFERS = re.compile(
    "[他她它这那其此该也还又则再且但而]|因为|所以|因此|首先|其次|最后|总之|另外|同时|上述|以上|例如"
)


def spaced_otherwise(material: Material) -> str | None:
    """Each sentence a paragraph of its own, and white space around the answer."""
    starts = [start for start, _ in material.spans[1:]]
    if _is_list(material.answer):
        return None
    pieces = [material.answer[a:b].rstrip() for a, b in zip([0, *starts], [*starts, len(material.answer)], strict=True)]
    return "\n" + "\n\n".join(pieces) + "\n"


def list_or_prose(material: Material) -> str | None:
    """A list of the sentences, or the items of a list as prose. None where the answer is neither alone."""
    if _is_list(material.answer):
        return ("" if material.language == "zh" else " ").join(_items(material.answer))
    if len(material.spans) < 2 or "\n" in material.answer.strip():
        return None
    return "\n".join(f"- {sentence}" for sentence in material.sentences)


def in_another_order(material: Material) -> str | None:
    """The items of a list, or the sentences, the last first: where none of them refers to another."""
    is_list = _is_list(material.answer)
    parts = _items(material.answer) if is_list else material.sentences
    if len(parts) < 2 or (not is_list and "\n" in material.answer.strip()) or any(map(_refers, parts)):
        return None
    if is_list:
        return "\n".join(f"- {part}" for part in reversed(parts))
    ended = all(part[-1] in ".!?。！？" for part in parts)
    return ("" if material.language == "zh" else " ").join(reversed(parts)) if ended else None


def _refers(sentence: str) -> bool:
    """Whether a sentence may need another."""
    words = terms(sentence)
    refers = not _REFERS.isdisjoint(words) or words[0] in _LINKS or _ZH_REFERS.search(sentence)
    return bool(refers) or not _OF_ITS_OWN.search(sentence)


def _is_list(answer: str) -> bool:
    lines = [line for line in answer.splitlines() if line.strip()]
    return len(lines) > 1 and all(_ITEM.match(line) for line in lines)


def _items(answer: str) -> list[str]:
    return [_ITEM.sub("", line, count=1).strip() for line in answer.splitlines() if line.strip()]
