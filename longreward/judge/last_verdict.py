"""Where in a judge's reply its verdict stands. What the judge thought aloud, and what it cites, is no verdict."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from longreward.errors import VerdictError
from longreward.text import thoughts
from longreward.text.language import CJK


class _Looks(dict[int, str]):
    """str.translate table: every character to what it looks like.

    NFKC, but for superscripts, subscripts and fractions, which say something else than their digits; lenticular
    brackets to square ones; characters without width to nothing. Marks that turn the direction of writing stay: what
    is seen and what is read would differ.
    """

    _own = {"【": "[", "】": "]"} | dict.fromkeys(
        "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufe0e\ufe0f\ufeff", ""
    )

    def __missing__(self, code: int) -> str:
        char = chr(code)
        looks_else = unicodedata.decomposition(char).startswith(("<super>", "<sub>", "<fraction>"))
        folded = self[code] = self._own.get(char, char if looks_else else unicodedata.normalize("NFKC", char))
        return folded


_LOOKS = _Looks()
_ESCAPED = re.compile(r"\\+(?=[\[\]*_])")
_TURNED = re.compile("[\u202d\u202e]")
BRACKETS = re.compile(r"\[{2,}([^\[\]]*)(\]{2,})?")
_LINK = re.compile(
    # Also an address that is not whole, or was cut.
    r"\((?=[^()\n]{0,400}[/#:]|[^\n]{0,400}(?:://|\w\.[a-z]))|\([^()]{0,400}\Z"
    r"|[\W_]{0,8}(?:https?://|www\.)|\[[^\[\]\n]{0,200}\](?!\])",
    re.IGNORECASE,
)
"""What makes a link of the double brackets before it."""
_MAY_GO_ON = re.compile(
    rf"[.,]?[0-9]|\s{{0,2}}[*_]{{0,2}}\s{{0,2}}(?:/|out\s+of\b|of\b)\s{{0,2}}(?!10\b)[0-9]"
    rf"|[^\w\s(]{{0,3}}\((?![^()\n]{{0,40}}[{CJK}][^()\n]{{0,40}}\))"
)
"""Behind double brackets: they may be the text of a link, or only a part of what was meant."""
_CITES = re.compile(
    r"(?:\b(?:sources?|references?|refs?|citations?|passages?|evidence|extractions?|chunks?|footnotes?|notes?|see|cf)"
    r"|来源|参考|引用|段落|证据|参见|见|脚注)[\s.:,，(（*_-]*$",
    re.IGNORECASE,
)
_NO_MORE = re.compile(r"[\s*_`'\"“”’.。,;!|~)>\]-]*")
_UNCLOSED = re.compile(r"(?<!\[)\[{2,}+[^\[\]\n]*\Z")
_IN_PROSE = re.compile(r"[^\w\n]*[0-9.]{1,5}\s*/\s*[0-9]{1,3}\W*")
_BOXED = re.compile(
    r"[\s$*(\\\[]*\\boxed\s{0,2}\{\s{0,5}(?:\\(?:text|textbf|mathrm|mathbf)\s{0,2}\{([^{}\[\]]{0,80})\}|([^{}\[\]\\]{0,80}))"
    r"\s{0,5}\}[\s$*)\\\].。]*"
)

_OUR_TAGS = (
    "question answer document context evidence passage passages extraction extractions point points reference examples "
    "example"
)
_VALUES = (
    "final verdict rating ratings score scores grade result results output response solution label conclusion overall"
)
_HTML = (
    "a abbr b big blockquote body br center code dd div dl dt em font h1 h2 h3 h4 h5 h6 head hr html i img kbd li mark "
    "ol p pre q section small span strong sub summary sup table tbody td th thead tr tt u ul"
)
_PLAIN = frozenset(f"{_OUR_TAGS} {_VALUES} {_HTML} ranking statement statements original language query text".split())
"""Words of marks that may stand around a verdict."""
_ASIDE = frozenset(
    "analysis analyses assessment check comment comments commentary comparison critique details evaluation explanation "
    "feedback justification note notes observation observations plan rationale reason reasons reflection review step "
    "steps 分析 解释 理由 评价 说明".split()
)
"""Words of marks around what is not the verdict: they have to be closed before it."""
_CHAT = frozenset(
    "assistant begin_of_sentence begin_of_text bos end end_header_id end_of_sentence end_of_text end_of_turn endoftext "
    "eom_id eop eos eot_id im_end im_sep im_start inst observation pad return s sop start_header_id start_of_turn sys "
    "system unk user".split()
)
"""Tokens of chat templates. They begin no thought, but a judge may go on talking to itself behind them."""
_BOX = frozenset({"<|begin_of_box|>", "<|end_of_box|>"})  # GLM's around its result


def folded(text: str) -> str:
    """The text as it looks, without escapes before brackets and stars."""
    # Almost all that judges say is ASCII, which looks as it is.
    return _ESCAPED.sub("", text if text.isascii() else text.translate(_LOOKS))


def after_thoughts(text: str, reply: str) -> str:
    """What stands after the thoughts in `text`. VerdictError, with the whole reply, for one that is not closed."""
    found = thoughts.spoken(text)
    while found.open_at is None and found.last != text:  # a thought in words is known at the beginning alone
        text = found.last
        found = thoughts.spoken(text)
    if found.open_at is not None:
        mark = text[found.open_at : found.open_at + 40].splitlines()[0]
        raise VerdictError(f"a thought is not closed, which begins with {mark!r}: the reply was cut short", reply)
    return found.last


def refuse_unknown_marks(text: str, reply: str) -> None:
    """VerdictError for a mark in `text`, all that stands before the last verdict, which may begin a thought.

    Allowed are ends, HTML, tokens of chat templates, the fences of our prompts, and names of what the judge was asked
    for. Where such a name is that of an analysis, its end must be there too.
    """
    aside: list[str] = []
    for mark in thoughts.MARK.finditer(text):
        words, closing = _named(mark), thoughts.is_closing(mark)
        is_heading = mark[0].startswith("[")
        if (is_heading and not _begins_line(text, mark.start())) or _does_no_harm(mark[0], words):
            continue  # [SIC]
        if _ASIDE.intersection(words) and (_PLAIN | _ASIDE).issuperset(words) and (mark["tag"] or is_heading):
            name = " ".join(words)
            if closing and name in aside:
                aside.remove(name)
            elif not closing and not is_heading:
                aside.append(name)
        elif not closing:
            raise VerdictError(f"{mark[0]!r} stands before the verdict: it may begin a thought", reply)
    if aside:
        raise VerdictError(f"<{aside[-1]}> is not closed before the verdict", reply)


def refuse_unknown_end(text: str, reply: str) -> None:
    """VerdictError where `text`, all that stands behind the last verdict, ends what we do not know: it may be a thought
    that began before the verdict, or with the prompt."""
    opened: set[tuple[str, ...]] = set()
    for mark in thoughts.MARK.finditer(text):
        words = _named(mark)
        if _does_no_harm(mark[0], words):
            continue
        if not thoughts.is_closing(mark):
            opened.add(words)
        elif words not in opened:
            raise VerdictError(f"{mark[0]!r} stands behind the verdict: it may end a thought", reply)


def _named(mark: re.Match[str]) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", thoughts.tag_name(mark))) if mark["tag"] else thoughts.words_of(mark)


def _does_no_harm(mark: str, words: tuple[str, ...]) -> bool:
    return mark in _BOX or "_".join(words) in _CHAT or (bool(words) and _PLAIN.issuperset(words))


def without_citations(found: Iterable[re.Match[str]]) -> list[re.Match[str]]:
    """Those double brackets that are not the text of a link."""
    return [match for match in found if not _LINK.match(match.string, match.end())]


def last_verdict(reply: str) -> str:
    """The content of the last verdict, folded and stripped: in double brackets, or in \\boxed{} alone in the last line.

    VerdictError where there is none, and where it is not certain which one is meant.
    """
    text = after_thoughts(folded(reply), reply)
    boxed, found = _boxed(text), without_citations(BRACKETS.finditer(text))
    if boxed is not None:
        if found or any(_IN_PROSE.fullmatch(line) for line in text.splitlines()):
            raise VerdictError("the reply has a verdict in \\boxed{} and one in another form", reply)
        refuse_unknown_marks(text[: text.rindex("\\boxed")], reply)
        return boxed
    if not found:
        raise VerdictError("no verdict in double brackets in the reply", reply)
    last = found[-1]
    before, behind = text[: last.start()], text[last.end() :]
    if last[2] is None or _UNCLOSED.search(before[before.rfind("\n") + 1 :]):
        raise VerdictError("the last verdict's double brackets are not closed", reply)
    refuse_unknown_marks(before, reply)
    refuse_unknown_end(behind, reply)
    if (why := _unlike_a_verdict(last, before, behind)) or (why := _one_of_several(found, text)):
        raise VerdictError(f"the last verdict {last[0]} {why}", reply)
    return last[1].strip()


def _unlike_a_verdict(last: re.Match[str], before: str, behind: str) -> str:
    """What speaks against taking double brackets for the verdict, by what stands around them; empty if nothing does."""
    line, rest = before.rpartition("\n")[2], behind.partition("\n")[0]
    if before.rfind("<!--") > before.rfind("-->"):
        return "stands in a comment"
    if _MAY_GO_ON.match(behind):
        return f"goes on: {last[0]}{rest[:20]}"
    if _TURNED.search(line + last[0] + rest):
        return "stands where the direction of writing turns: what is seen and what is read differ"
    line = thoughts.MARK.sub("", line)
    if line.rstrip().endswith("~~"):
        return "is struck out"
    if last[1].strip().isdigit() and _CITES.search(line[-60:]):
        return f"may be a citation: {line[-40:]}{last[0]}"
    return ""


def _one_of_several(found: list[re.Match[str]], text: str) -> str:
    """Why it is not certain that the last of several different verdicts is the one that is meant; empty if it is."""
    last = found[-1]
    if all(match[1].strip() == last[1].strip() for match in found):
        return ""
    turn = next((m.start() for m in thoughts.MARK.finditer(text) if "_".join(_named(m)) in _CHAT), len(text))
    if found[0].start() < turn < last.start():
        return f"stands behind the judge's turn, in which it said {found[0][0]}"
    line = thoughts.MARK.sub("", text[: last.start()].rpartition("\n")[2])
    rest = thoughts.MARK.sub("", text[last.end() :].partition("\n")[0])
    if line.strip(" \t*_>#-") and not _NO_MORE.fullmatch(rest):
        return f"stands within a line, and another is {found[-2][0]}"
    return ""


def _boxed(text: str) -> str | None:
    if "\\boxed" not in text:
        return None
    found = _BOXED.fullmatch(next(line for line in reversed(text.splitlines()) if line.strip()))
    return None if found is None else (found[1] if found[1] is not None else found[2]).strip()


def _begins_line(text: str, at: int) -> bool:
    return not text[text.rfind("\n", 0, at) + 1 : at].strip()
