"""What hostile replies are made of: thoughts, prose, noise, and verdicts of each kind in all spellings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from longreward.judge import verdicts

DRESSES = [
    ("<think>", "</think>"),
    ("<think>\n", "\n</think>\n\n"),
    ("<THINKING>", "</THINKING>"),
    ("<thought>", "</thought>"),
    ("＜think＞", "＜/think＞"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<reasoning>\n", "</reasoning>"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|><|begin_of_solution|>"),
    ("<unused94>thought\n", "<unused95>"),
]
AT_THE_BEGINNING = [("analysisWe see: ", "assistantfinal"), ("", "</think>"), ("Well. ", "[/THINK]\n")]
UNKNOWN = [
    "<musing>",
    "<|foo|>",
    "[MUSING]",
    "◁muse▷",
    "<deep:consider>",
    "<沉吟>",
    "<|start_pondering|>",
    "<analysis>",
]
PROSE = [
    "The answer names the buyer.",
    "It leaves out two of [3] points, see [7].",
    "A rating of 7/10 would be generous (8 at most).",
    "As [[1]](https://example.org/a_(b)) says, and [[2]](#cite-2).",
    "It writes `<think>` and `<musing>`, x --> y, a < b > c, [sic].",
    "答案提到了买家，但遗漏了日期。",
    "<b>Good</b> structure.<br/>",
    "- one\n- two",
    "> quoted: [9]",
    "\\(x_1\\) is **right**; so is \\boxed{y} here.",
    "Here is my reasoning: it holds.",
]
BEHIND = [
    "",
    "",
    "\n",
    "\n\n",
    "<|im_end|>",
    "</s>",
    "\n[[1]](https://example.org)",
    " [[2]](www.example.org).",
    "\n\n---",
]
NOISE = [
    *"[]<>|{}*`_#\n\t $()\\:-",
    "\u200b",
    "\ufeff",
    "\u202e",
    "\u0336",
    "\x00",
    "\ud83d",
    "</",
    "[[",
    "]]",
    "<|",
    "```",
]


@dataclass(frozen=True)
class Kind:
    """A parser, the values that it can read with their spellings, and contents that are no value."""

    name: str
    parse: Callable[[str], Any]
    values: dict[Any, list[str]]
    wrong: list[str]


NUMBERS = {
    value: [
        text,
        f" {text} ",
        f"**{text}**",
        f"{text}分",
        f"Rating: {text}",
        f"{text}/10",
        f"`{text}`",
        f"评分：{text}",
    ]
    for value in [0.0, 1.0, 3.0, 6.5, 7.0, 7.5, 8.0, 10.0]
    for text in [f"{value:g}"]
}
KINDS = [
    Kind(
        "rating",
        verdicts.parse_rating,
        NUMBERS,
        [
            "11",
            "-1",
            "NaN",
            "7-8",
            "7 8",
            "7,5",
            "1e1",
            "good",
            "",
            "7²",
            "½",
            "~~7~~",
            "not 7",
            "100",
            "7/5",
            "n",
            "+7",
        ],
    ),
    Kind(
        "grade",
        lambda text: verdicts.parse_grade(text, 3),
        {value: [f"{value}", f"**{value}**", f"{value}分", f"Grade: {value}", f"{value}/3"] for value in (1, 2, 3)},
        ["0", "4", "2.5", "2/5", "two", "1 or 2", ""],
    ),
    Kind(
        "preference",
        verdicts.parse_preference,
        {"A": ["A", "a", "Answer A", "**A**"], "B": ["B", " b "], "tie": ["C", "Tie", "平局"]},
        ["D", "A or B", "A>B", "not A", "", "AB"],
    ),
    Kind(
        "support",
        verdicts.parse_support,
        {
            1.0: ["Fully supported", "完全支持", "**Full support**", "fully-supported."],
            0.5: ["Partially supported", "部分支持", "Verdict: Partially supported"],
            0.0: ["No support", "Not supported", "Contradicted", "Irrelevant", "Not relevant", "不支持", "矛盾"],
        },
        ["Not fully supported", "Supported", "不完全支持", "Fully or partially supported", "1", "", "Not contradicted"],
    ),
]
IN_BRACKETS = [
    "[[{}]]",
    "[[{}]]",
    "**[[{}]]**",
    "【【{}】】",
    "［［{}］］",
    r"\[\[{}\]\]",
    "[\u200b[{}]]",
    "Rating: [[{}]]",
    "<b>[[{}]]</b>",
]
