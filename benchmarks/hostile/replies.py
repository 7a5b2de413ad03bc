"""Judge replies made of pieces whose reading is known, then cut, garbled or spoilt."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hostile.pieces import AT_THE_BEGINNING, BEHIND, DRESSES, IN_BRACKETS, KINDS, NOISE, PROSE, UNKNOWN, Kind
from longreward.judge import verdicts


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
