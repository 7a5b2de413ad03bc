"""Signs of answers that were made for the judge rather than for the reader, and groups that teach nothing.

A sign is a reason to look, not a proof. It has no influence on rewards.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import numpy as np

from longreward import prompts
from longreward.report.reading.table import Column
from longreward.text.sentences import says_nothing

FLAGS = ("attack", "hidden", "copied", "repeated", "empty", "no spread")
"""A bit each, from the lowest: words, tags or verdicts addressed to the judge; invisible characters; mostly
sentences of the document; the same again and again; next to no answer, and yet rewarded; all siblings got the same."""
SIGNS = {
    "attack": (
        "address the judge",
        "They contain words, tags or verdicts addressed to the judge. LongReward makes them harmless before the judge "
        "sees them. But a policy that writes such text has learnt to try it.",
        "Read them. If their reward is above that of their siblings, the text works on the judge. Add some of them to "
        "the canaries, and penalise such text with a reward function of your own.",
    ),
    "hidden": (
        "contain invisible characters",
        "Zero-width, direction-changing or control characters do not show on a screen. They can hide words from "
        "readers and still reach the judge.",
        "Open one: invisible characters are shown by their code. If the documents contain them too, clean the data.",
    ),
    "copied": (
        "are mostly copied from the document",
        "Sentences of the document are always supported, so copying is an easy way to high faithfulness.",
        "Compare their totals with those of others. If copying pays, raise reward.copying.loss, or lower "
        "reward.copying.row where answers are short.",
    ),
    "repeated": (
        "repeat the same text",
        "Repeated text means that the policy is breaking down, or that the reward pays for length.",
        "Look at KL and length at the steps where it began. Lower the learning rate or raise the KL coefficient.",
    ),
    "empty": (
        "say almost nothing and are rewarded",
        "A judge that rewards an empty answer or a mere opening can be satisfied without any work.",
        "Read what the judge said about these answers. A stronger judge, or reward.gates, prevents such rewards.",
    ),
}
"""For each flag about an answer: the end of "Answers that ...", what it means, and what to do."""
SPREADLESS = 1 << FLAGS.index("no spread")

_COPIED_CHARACTERS, _COPIED_SHARE = 600, 0.8
"""Shorter answers may well be sentences of the document: a short quotation can be the right answer."""
_REPEATED_CHARACTERS, _REPEATED_RATIO = 400, 0.2
"""English and Chinese prose is compressed to 0.4 to 0.6 of its length, lists of alike facts to 0.3."""
_WORDS_REPEATED, _LONG_WORD = 0.4, 20  # share of different words; characters of a word where there are spaces
_LOOKED_AT = 20_000  # characters, for repetition: more would tell no more
_SAME = 1e-6  # difference of rewards in a group, of 10
_EMPTY_CHARACTERS, _EMPTY_REWARD = 40, 5.0

_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b\u000e-\u001f\u007f-\u0084\u0086-\u009f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:above|previous|prior|instructions?)\b"
    r"|\b(?:full marks|(?:highest|maximum|perfect) (?:rating|score|marks?|grade)|10 out of 10|10/10)\b"
    r"|\b(?:grading|scoring|rating) (?:policy|rules?|instructions?)\b|\bdear judge\b|\bgradebot\b"
    r"|\b(?:this|the) answer (?:is|was) (?:checked|perfect|fully correct|correct|complete)\b"
    r"|\bcomplete and correct answer\b|^\s*(?:your reply|final verdict|rating)\s*:"
    r"|^\s*(?:no statements|no relevant information|solution|thought process:?)\s*$"
    r"|\{\{\s*\w+\s*\}\}|\$\{answer\}|\\g<\w+>"
    r"|\"(?:rating|verdict)\"\s*:|忽略.{0,12}(?:指令|要求|以上)|满分|评分(?:标准|须知)|你的回复[:：]"
    r"|回答.{0,8}(?:完全正确|十分完整|已经核实|经专家审核)|^\s*没有(?:事实性陈述|相关信息)\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_HINTS = (
    *"ignore disregard forget marks rating score mark grade grading 10/10 policy judge gradebot reply verdict".split(),
    *("of 10", "answer is", "answer was", "and correct", "no statements", "no relevant", "solution", "thought"),
    *("{{", "${", "\\g<", "忽略", "满分", "评分", "你的回复", "回答", "没有"),
)
"""One of these is in all that _ORDERS finds: looking for them takes a tenth of the time."""
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*")


def flags(answer: str, total: float | None, in_document: Callable[[str], bool]) -> int:
    """The bits of FLAGS that hold for an answer with this reward (None: void). `in_document` says whether the document
    has these very words."""
    found = (
        _argues(answer),
        _HIDDEN.search(answer) is not None,
        _is_copied(answer, in_document),
        _repeats(answer),
        total is not None and total >= _EMPTY_REWARD and _is_empty(answer),
    )
    return sum(1 << bit for bit, holds in enumerate(found) if holds)


def spreadless(group: Column, total: Column) -> Column:
    """SPREADLESS for each answer whose group has several rewards, all of them the same; else 0."""
    valid = np.isfinite(total)
    each, where, count = np.unique(group[valid], return_inverse=True, return_counts=True)
    low, high = np.full(len(each), np.inf), np.full(len(each), -np.inf)
    np.minimum.at(low, where, total[valid])
    np.maximum.at(high, where, total[valid])
    found = np.zeros(len(group), "u1")
    found[valid] = ((count >= 2) & (high - low < _SAME))[where] * SPREADLESS
    return found


def _argues(answer: str) -> bool:
    # What the prompts have to make inert is a tag, a verdict or a control token, in whatever spelling.
    lower = answer.lower()
    ordered = any(hint in lower for hint in _HINTS) and _ORDERS.search(answer) is not None
    return ordered or prompts.neutralise(answer) != answer


def _is_copied(answer: str, in_document: Callable[[str], bool]) -> bool:
    if len(answer) < _COPIED_CHARACTERS:
        return False
    own, most = 0, (1 - _COPIED_SHARE) * len(answer)
    for match in _SENTENCE.finditer(answer):
        sentence = match[0].strip()
        if sentence and not in_document(sentence):
            own += len(sentence)
            if own > most:
                return False
    return True


def _repeats(answer: str) -> bool:
    if len(answer) < _REPEATED_CHARACTERS:
        return False
    words = answer[:_LOOKED_AT].split()
    if len(set(words)) > _WORDS_REPEATED * len(words) > _WORDS_REPEATED * len(answer[:_LOOKED_AT]) / _LONG_WORD:
        return False  # most texts: compressing takes ten times as long
    raw = answer[:_LOOKED_AT].encode("utf-8", "surrogatepass")
    return len(zlib.compress(raw, 1)) < _REPEATED_RATIO * len(raw)


def _is_empty(answer: str) -> bool:
    return len(answer.strip()) < _EMPTY_CHARACTERS and (says_nothing(answer) or answer.rstrip().endswith((":", "：")))
