"""Reads the texts of a reply: statements, points, what was extracted, questions and an answer."""

from __future__ import annotations

import re

from longreward.errors import VerdictError
from longreward.judge.last_verdict import after_thoughts, folded, refuse_unknown_end, refuse_unknown_marks
from longreward.rows.text_files import unsound
from longreward.text.language import letters
from longreward.text.sentences import says_nothing

NO_STATEMENTS = "No statements"
"""The whole reply about an answer without factual statements, in both languages."""
NO_POINTS = "No points"
"""The whole reply about extractions that hold nothing on the question, in both languages."""
NO_QUESTIONS = "No questions"
"""The whole reply about a document that nothing can be asked about, in both languages."""
NO_ANSWER = "No answer"
"""The whole reply to a question that the document does not answer, in both languages."""
_NONE_ZH = {
    NO_STATEMENTS: ("没有陈述", "没有事实性陈述"),
    NO_POINTS: ("没有要点",),
    NO_QUESTIONS: ("没有问题",),
    NO_ANSWER: ("没有答案", "没有回答"),
}
NO_RELEVANT = {"en": "No relevant information", "zh": "没有相关信息"}
"""The whole reply about a passage that says nothing on the question."""

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
_TAGS = {
    name: re.compile(rf"[<＜]\s*(?:(/)\s*)?{name}\s*[>＞]", re.IGNORECASE)
    for name in ("statement", "point", "question")
}
_RESTATED = re.compile(
    r"<\s*statement\s*>([^<]*)<\s*/\s*statement\s*>\s*<\s*original\s*>([^<]*)<\s*/\s*original\s*>", re.IGNORECASE
)


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


def parse_questions(text: str, count: int) -> list[str]:
    """Read the contents of `<question>...</question>`, in order: as many as were asked for, none of them empty.

    An empty list only for the reply `No questions`. VerdictError for all else.
    """
    reply, found = _tagged(text, "question")
    if not found and _says_none(reply, NO_QUESTIONS, text):
        return []
    if len(found) != count:
        raise VerdictError(f"{len(found)} <question> tags, and {count} questions were asked for", text)
    if any(says_nothing(question) for question in found):
        raise VerdictError("a question is empty", text)
    refuse_unsound(found, text)
    return found


def parse_answer(text: str) -> str | None:
    """Read an answer, the whole reply. None for `No answer`. VerdictError for an empty reply."""
    reply = after_thoughts(text, text).strip()
    if says_nothing(reply):
        raise VerdictError("the reply is empty", text)
    refuse_unsound([reply], text)
    return None if _says(NO_ANSWER, reply) else reply


def refuse_unsound(written: list[str], text: str = "") -> None:
    """VerdictError where no tokenizer or server would take one of the texts that were written."""
    if why := unsound({"the reply": written}):
        raise VerdictError(why, text)


def _listed(text: str, name: str, none: str) -> list[str]:
    reply, texts = _tagged(text, name)
    found: dict[str, str] = {}
    for each in filter(None, texts):
        found.setdefault(" ".join(each.casefold().split()), each)
    if found:
        says_none = len(found) == 1 and _says(none, next(iter(found)))
        return [] if says_none else list(found.values())
    if _says_none(reply, none, text):
        return []
    raise VerdictError(f"neither <{name}> tags with content nor {none!r} in the reply", text)


def _tagged(text: str, name: str) -> tuple[str, list[str]]:
    """The reply without its thoughts, and the stripped contents of its tags, in order."""
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
    return reply, [reply[start.end() : end.start()].strip() for start, end in zip(starts, ends, strict=True)]


def _says_none(reply: str, none: str, text: str) -> bool:
    """Whether the last line of the reply says that there is none."""
    lines = [line for line in reply.splitlines() if letters(line)]
    if not lines or not _says(none, lines[-1]):
        return False
    refuse_unknown_marks(reply[: reply.rindex(lines[-1])], text)
    return True


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


def _says(none: str, line: str) -> bool:
    return letters(line) in {letters(none), *_NONE_ZH[none]}
