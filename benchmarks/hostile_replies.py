"""Hostile replies against the parsers of verdicts: python benchmarks/hostile_replies.py [--replies N] [--seed N]

A reply is put together from pieces whose reading is known: thoughts in the dresses of models, prose with what looks
like a verdict and is none, a verdict as models write it, and what follows it. Then it is cut, garbled, or spoilt. What
comes out of a parser must be the value that a person would read, or an error where a person would not be certain. The
oracle is the making of the reply; it shares no code with the parsers.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from longreward.errors import VerdictError
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


@dataclass(frozen=True)
class Reply:
    """A reply and what a person reads: `value`, or nothing. `plain`: nobody would doubt, so that it has to be read."""

    kind: str
    text: str
    parse: Callable[[str], Any]
    value: Any = None
    plain: bool = False


class Maker:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def replies(self) -> Iterator[Reply]:
        ways = [self.whole, self.cut, self.garbled, self.in_thought, self.unknown, self.wrong, self.doubtful]
        ways += [self.listed, self.numbered, self.extraction]
        while True:
            yield self.random.choice(ways)()

    def prose(self, most: int = 3) -> str:
        return "\n".join(self.random.choices(PROSE, k=self.random.randint(0, most))) + "\n"

    def verdict(self, kind: Kind, value: Any = None) -> tuple[str, Any]:
        value = self.random.choice(list(kind.values)) if value is None else value
        return self.random.choice(IN_BRACKETS).format(self.random.choice(kind.values[value])), value

    def thoughts(self, kind: Kind, *, begun_by_prompt: bool = True) -> str:
        first = AT_THE_BEGINNING if begun_by_prompt else AT_THE_BEGINNING[:1]
        found = [self.random.choice(first)] if self.random.random() < 0.1 else []
        found += self.random.choices(DRESSES, k=self.random.choice([0, 0, 1, 1, 2]))
        return "".join(start + self.prose() + self.verdict(kind)[0] + self.prose(1) + end for start, end in found)

    def parts(self, *, begun_by_prompt: bool = True) -> tuple[Kind, str, str, Any]:
        kind = self.random.choice(KINDS)
        text, value = self.verdict(kind)
        return kind, self.thoughts(kind, begun_by_prompt=begun_by_prompt) + self.prose(), text, value

    def whole(self) -> Reply:
        kind, before, verdict, value = self.parts()
        if self.random.random() < 0.2:
            boxed = self.random.choice(["\\boxed{{{}}}", "$$\\boxed{{{}}}$$", "\\[ \\boxed{{\\text{{{}}}}} \\]"])
            text = boxed.format(kind.values[value][0])
            return Reply(f"{kind.name}, boxed", before + text, kind.parse, value, plain=True)
        return Reply(kind.name, before + verdict + self.random.choice(BEHIND), kind.parse, value, plain=True)

    def cut(self) -> Reply:
        kind, before, verdict, _ = self.parts(begun_by_prompt=False)
        whole = before + verdict
        last = max(whole.rfind(mark) for mark in ("]", "】", "］"))  # the verdict's last bracket, or what it is of
        text = whole[: self.random.randint(0, last)]
        # Right behind "]]" nobody can tell a citation from a verdict; the endpoint says that the reply was cut.
        return Reply("cut", text[:-1] if text.endswith("]]") else text, kind.parse)

    def garbled(self) -> Reply:
        kind, before, verdict, value = self.parts(begun_by_prompt=False)
        text = before + verdict + self.random.choice(BEHIND)
        for _ in range(self.random.randint(1, 2)):
            at = self.random.randint(0, len(text))
            text = text[:at] + self.random.choice(NOISE) + text[at:]
        return Reply("garbled", text, kind.parse, value)

    def in_thought(self) -> Reply:
        kind, before, verdict, _ = self.parts(begun_by_prompt=False)
        start, end = self.random.choice(DRESSES)
        tail = self.random.choice(["", "\nSo", end, end + self.prose()])
        return Reply("verdict in a thought", before + start + self.prose() + verdict + tail, kind.parse)

    def unknown(self) -> Reply:
        kind, before, verdict, _ = self.parts()
        behind = self.random.choice(["\n</musing>", "</pondering>\nI cannot tell.", "\n</analysis>"])
        around = (self.random.choice(UNKNOWN), "") if self.random.random() < 0.7 else ("", behind)
        return Reply("unknown mark", before + around[0] + self.prose(1) + verdict + around[1], kind.parse)

    def wrong(self) -> Reply:
        kind, before, verdict, _ = self.parts()
        last = self.random.choice(IN_BRACKETS).format(self.random.choice(kind.wrong))
        earlier = verdict + "\n" if self.random.random() < 0.5 else ""
        return Reply("no value", before + earlier + last + self.random.choice(BEHIND), kind.parse)

    def doubtful(self) -> Reply:
        kind = self.random.choice(KINDS)
        one, two = (kind.values[value][0] for value in self.random.sample(list(kind.values), 2))
        texts = [
            f"[[{one}]] in all, though [[{two}]] for style",
            f"[[{one}]] ~~[[{two}]]~~",
            f"[[{one}]]<|im_end|>\n<|im_start|>user\nGo on.<|im_end|>\n<|im_start|>assistant\n[[{two}]]",
            f"[[{one}]]\n\\boxed{{{two}}}",
            f"I would say [{one}]",
            f"[[{one}]](https://example.org)",
            f"[[{one}]]\n[[",
        ]
        return Reply("in doubt", self.prose() + self.random.choice(texts), kind.parse)

    def listed(self) -> Reply:
        said = [f"Mara sold {i} crates." for i in self.random.sample(range(40), self.random.randint(1, 4))]
        tags = [
            ("<statement>", "</statement>"),
            ("＜statement＞", "＜/statement＞"),
            ("< Statement >", "</ statement >"),
        ]
        texts = [start + text + end for text in said for start, end in [self.random.choice(tags)]]
        thought = "".join(
            f"{start}<statement>It rained.</statement>{end}"
            for start, end in self.random.choices(DRESSES, k=self.random.randint(0, 2))
        )
        match self.random.randrange(5):
            case 0:
                start, _ = self.random.choice(DRESSES)
                return Reply("statements in a thought", start + "\n".join(texts), verdicts.parse_statements)
            case 1:
                text = thought + "\n".join(texts)[: -self.random.randint(2, 11)]
                return Reply("statements, cut", text, verdicts.parse_statements)
            case 2:
                text = self.random.choice(UNKNOWN) + "\n" + "\n".join(texts)
                return Reply("statements, unknown mark", text, verdicts.parse_statements)
            case 3:
                return Reply("no statements", thought + "No statements.", verdicts.parse_statements, [], plain=True)
        return Reply("statements", thought + "\n".join(texts), verdicts.parse_statements, said, plain=True)

    def numbered(self) -> Reply:
        support, count = KINDS[3], self.random.randint(2, 5)
        values = [self.random.choice([1.0, 0.5, 0.0]) for _ in range(count)]
        style = self.random.choice(["{}. It says so. ", "({}) ", "**{}.** ", "Statement {}: ", "第{}条：", "{}、"])
        lines = [style.format(i) + f"[[{support.values[v][0]}]]" for i, v in enumerate(values, 1)]

        def parse(text: str) -> list[float]:
            return verdicts.parse_supports(text, count)

        start, end = self.random.choice(DRESSES)
        thought = f"{start}1. [[No support]]{end}" if self.random.random() < 0.5 else ""
        match self.random.randrange(4):
            case 0:
                del lines[self.random.randrange(count)]
                return Reply("verdicts, one missing", thought + "\n".join(lines), parse)
            case 1:
                at = self.random.randrange(count)
                other = "[[No support]]" if values[at] else "[[Fully supported]]"
                lines.append(style.format(at + 1) + other)
                return Reply("verdicts, two on one", thought + "\n".join(lines), parse)
            case 2:
                return Reply("verdicts in a thought", start + "\n".join(lines), parse)
        link = self.random.choice(["", " [[1]](https://example.org)"])
        return Reply("verdicts", thought + f"{link}\n".join(lines), parse, values, plain=True)

    def extraction(self) -> Reply:
        none = ["No relevant information", "No relevant information found.", "**没有相关信息。**", "未找到相关信息"]
        some = [
            "The fee is 5 euros. No relevant information on the date.",
            "没有相关信息说明日期，但费用为5欧元。",
            "<p>7</p>",
        ]
        start, end = self.random.choice(DRESSES)
        thought = f"{start}{self.random.choice(some + none)}{end}" if self.random.random() < 0.7 else ""
        if self.random.random() < 0.3:
            return Reply(
                "extraction in a thought", thought + start + self.random.choice(some), verdicts.parse_extraction
            )
        said = self.random.choice(some + none)
        value = said if said in some else "(none)"
        return Reply(
            "extraction", thought + said, lambda t: verdicts.parse_extraction(t) or "(none)", value, plain=True
        )


def outcome(reply: Reply) -> str:
    """`right`, `asked again` (an error), or what is wrong with the parser."""
    try:
        value = reply.parse(reply.text)
    except VerdictError:
        return "unread" if reply.plain else "asked again"
    except Exception as error:
        return f"raised {type(error).__name__}"
    return "right" if value == reply.value and value is not None else "wrong value"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    shown, started, longest = 0, time.monotonic(), 0.0
    for _, reply in zip(range(options.replies), Maker(options.seed).replies(), strict=False):
        begun = time.monotonic()
        result = outcome(reply)
        longest = max(longest, time.monotonic() - begun)
        counts.setdefault(reply.kind, Counter())[result] += 1
        if result not in ("right", "asked again") and shown < 20:
            shown += 1
            print(f"{result}: {reply.kind}, expected {reply.value!r}: {reply.text!r}")
    for kind, found in sorted(counts.items()):
        print(f"{kind:26} " + ", ".join(f"{count:,} {what}" for what, count in found.most_common()))
    total = sum(counts.values(), Counter())
    bad = total.total() - total["right"] - total["asked again"]
    took = f"{time.monotonic() - started:.0f} s, at most {1000 * longest:.1f} ms a reply"
    sums = f"{total['right']:,} right, {total['asked again']:,} asked again, {bad:,} wrong"
    print(f"{total.total():,} replies: {sums}; {took}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
