"""What a model thinks aloud before it speaks, told apart from what it says, in the marks of the models in use.

Known are XML-like tags (<think>, <thought>, <seed:think>, ...), control tokens (<|START_THINKING|>,
<|begin_of_thought|>, ...), [THINK], ◁think▷, and the channels of gpt-oss (harmony) and Gemma, also where a server has
taken the control tokens out ("analysis...assistantfinal...").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MARK = re.compile(
    # The class comes first because the search for it is fast. In back quotes a mark is only spoken of.
    r"[<＜\[◁](?<!`.)(?:"
    r"(?<=<)\|channel\|?>\s{0,4}(?P<channel>\w{1,40})(?:[^<>\n]{0,80}<\|constrain\|>\s?\w{1,40})?(?:\s{0,4}<\|message\|>)?"
    r"|(?<=<)\|im_start\|>\s{0,4}(?P<turn>think\w{0,8}|thought\w?|analysis|reasoning|answer)\b"
    r"|(?P<token>(?<=[<＜])(?:[|｜][^<>＜＞|｜\n]{1,80}[|｜]?|[^<>＜＞|｜\n]{1,80}[|｜])[>＞]|(?<=◁)/?[\w ]{1,80}▷"
    r"|(?<=\[)(?<!\[\[)(?:/[A-Z][A-Z_ ]{2,80}\](?!\])|[A-Z][A-Z_ ]{2,80}\](?![\](])))"
    r"|(?P<tag>(?<=[<＜])\s{0,2}/?\s{0,2}[^\W\d_][\w:.-]{0,80}(?:\s{1,20}[\w:-]{1,40}\s{0,2}=[^<>]{0,200})?\s{0,2}/?[>＞]))"
)
"""A tag or a control token of whatever meaning."""
_PROSE = re.compile(
    r"assistant(?:final|analysis|commentary)|\A\s{0,20}analysis(?=\w)"
    r"|\A\s{0,20}Here (?:is my thought process|are my reasoning steps):|Here is my (?:final )?response:"
)
_WORD = re.compile(r"[^\W_]+")
_THOUGHT = re.compile(r"think.*|thought.*|.*thinking|reasoning|scratchpad|monologue|cot|思考.*|思维.*|推理.*")
_FRAME = frozenset("start begin end stop close of the".split())
_ANSWER = frozenset("answer content final output rating reply response score solution verdict".split())
# gpt-oss ends and begins its messages with these.
_MESSAGE = frozenset("message start end return call".split())
_MEDGEMMA = {"unused94": "open", "unused95": "close"}


@dataclass(frozen=True, slots=True)
class Spoken:
    """A text without its thoughts."""

    text: str
    """All that stands outside thoughts."""
    last: str
    """What stands after the last thought; empty where that one is not closed."""
    open_at: int | None = None
    """Where a thought begins that is never closed."""


def spoken(text: str) -> Spoken:
    """Take the thoughts out of a text. An end without a beginning ends a thought that the prompt's template began."""
    before: list[str] = []
    since: list[str] = []
    inside: dict[str, None] = {}  # in the order in which they began
    done, open_at, thought, answered = 0, None, False, False
    for mark in _marks(text):
        kind, name = _meaning(mark)
        if kind == "open":
            thought = True
            if not inside:
                since.append(text[done : mark.start()])
                open_at = mark.start()
            inside.setdefault(name)
        elif kind == "close" and name in inside:
            while inside.popitem()[0] != name:
                pass
            if not inside:
                before += since
                since, done = [], mark.end()
        elif (kind == "close" and _is_thought(name)) or kind == "speak" or (kind == "answer" and thought):
            # All before it was thought.
            before, since, inside, done = [], [], {}, mark.end()
            thought, answered = True, kind != "close"
        elif kind == "end" and answered and not inside:
            since.append(text[done : mark.start()])
            done = mark.end()
    if inside:
        return Spoken("".join(before + since), "", open_at)
    since.append(text[done:])
    return Spoken("".join(before + since), "".join(since))


def without_thoughts(answer: str, *, thinking: bool = False) -> str:
    """The part of an answer that is meant for its reader.

    `thinking`: the prompt has begun the first thought. A thought that is never closed goes to the answer's end, except
    where its mark stands within a line: there it is only spoken of.
    """
    whole = ("<think>" if thinking else "") + answer
    found = spoken(whole)
    said, at = found.text, found.open_at
    if at is not None and whole[:at].rpartition("\n")[2].strip():
        said += whole[at:]
    return answer if said == answer else said.strip()


def begins_thought(prompt: str) -> bool:
    """Whether a rendered prompt ends in the mark that begins a thought: the answer is to close it."""
    end = prompt[-200:].rstrip()
    marks = list(MARK.finditer(end))
    return bool(marks) and marks[-1].end() == len(end) and _meaning(marks[-1])[0] == "open"


def words_of(mark: re.Match[str]) -> tuple[str, ...]:
    """The words in a mark, in lower case: `<|START_THINKING|>` has "start" and "thinking"."""
    return tuple(_WORD.findall(mark[0].casefold()))


def tag_name(mark: re.Match[str]) -> str:
    """The name of an XML-like tag, in lower case and without its attributes."""
    return mark[0][1:-1].casefold().strip(" /").split()[0].rstrip("/")


def is_closing(mark: re.Match[str]) -> bool:
    """Whether a mark is written as an end: `</x>`, `[/X]`, `◁/x▷`."""
    return mark[0][1:].lstrip(" |｜").startswith("/")


def _marks(text: str) -> list[re.Match[str]]:
    found = list(MARK.finditer(text))
    prose = list(_PROSE.finditer(text)) if "assistant" in text or "Here " in text or "analysis" in text[:40] else []
    return sorted(found + prose, key=re.Match.start) if prose else found


def _meaning(mark: re.Match[str]) -> tuple[str, str]:
    """What a mark does, and the name by which its end is known: open, close, answer, speak (an answer that needs no
    thought before it), end (of an answer), or nothing."""
    if mark.re is _PROSE:
        if mark[0].endswith("response:"):
            return "answer", ""
        return ("speak", "") if mark[0] == "assistantfinal" else ("open", "prose")
    if mark["channel"]:
        return ("speak", "") if mark["channel"].casefold() == "final" else ("open", "channel")
    if mark["turn"]:
        return ("speak", "") if mark["turn"] == "answer" else ("open", "turn")
    words = words_of(mark)
    closing = is_closing(mark)
    if mark["token"]:
        closing = closing or bool({"end", "stop", "close"}.intersection(words))
        if words == ("channel",) and mark[0].endswith("|>"):
            return "close", "channel"
        if not any(map(_is_thought, words)):
            if _ANSWER.intersection(words):
                return ("end" if closing else "answer"), ""
            return ("end" if len(words) == 1 and words[0] in _MESSAGE else ""), ""
        name = " ".join(word for word in words if word not in _FRAME)
        return ("close" if closing else "open"), name
    name = tag_name(mark)
    if name in _MEDGEMMA:
        return _MEDGEMMA[name], "unused"
    if closing or mark[0][:-1].rstrip().endswith("/"):
        return ("close" if closing else ""), name
    # Web interfaces write <details type="reasoning">.
    return ("open" if _is_thought(" ".join(words) if name == "details" else name) else ""), name


def _is_thought(name: str) -> bool:
    return any(_THOUGHT.fullmatch(word) for word in _WORD.findall(name))
