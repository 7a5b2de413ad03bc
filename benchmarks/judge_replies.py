"""What the benchmarks' judge says: a valid verdict for each kind of question."""

from __future__ import annotations

import re
import zlib
from typing import Any

from longreward.judge import requests
from longreward.judge.offline import by_rules
from longreward.judge.requests import JudgeRequest


def rating(prompt: str) -> float:
    """The rating that this judge gives to a prompt."""
    return zlib.crc32(prompt.encode()) % 21 / 2


def reply(kind: str, prompt: str, statements: int) -> str:
    """A valid verdict on a question of this kind."""
    match kind:
        case "extract":
            return f"Mara sold copper, {zlib.crc32(prompt.encode())}."
        case "verify_many":
            numbers = re.findall(r"^(\d+)\. ", prompt.rpartition("<statements>")[2], re.MULTILINE)
            return "\n".join(f"{number}. Passage 1 says so. [[Fully supported]]" for number in numbers)
        case "verify":
            return "[[Fully supported]]"
        case "statements":
            answer = prompt.rpartition("<answer>\n")[2].partition("\n")[0][:40]
            return "\n".join(f"<statement>{answer} {i} crates of copper.</statement>" for i in range(statements))
    return f"[[{rating(prompt)}]]"


def ruled(kind: str, prompt: str) -> str:
    """The verdict of the offline judge, read back from the prompt's fences: a judge over the network with a meaning."""
    fields = dict(re.findall(r"^<(\w+)>\n(.*?)\n</\1>$", prompt, re.MULTILINE | re.DOTALL))
    answer, query = fields.get("answer", ""), fields.get("question", "")
    request: JudgeRequest[Any]
    match kind:
        case "completeness":
            request = requests.RateCompleteness("en", query, answer, _passages(fields["extractions"]))
        case "extract":
            request = requests.ExtractRelevant("en", query, fields["passage"])
        case "verify_many":
            listed = re.findall(r"^\d+\. (.*)$", fields["statements"], re.MULTILINE)
            request = requests.VerifyStatements("en", listed, _passages(fields["evidence"]))
        case "verify":
            request = requests.VerifyStatement("en", fields["statement"], _passages(fields["evidence"]))
        case "statements":
            request = requests.ListStatements("en", query, answer)
        case "logicality":
            request = requests.RateLogicality("en", query, answer)
        case _:
            request = requests.RateHelpfulness("en", query, answer)
    value: Any = by_rules(request)
    match request:
        case requests.VerifyStatements():
            return "\n".join(f"{number}. {_support(support)}" for number, support in enumerate(value, 1))
        case requests.VerifyStatement():
            return _support(value)
        case requests.ListStatements():
            return "\n".join(f"<statement>{text}</statement>" for text in value) or "No statements"
        case requests.ExtractRelevant():
            return value or "No relevant information"
    return f"[[{value:.4f}]]"


def _support(support: float) -> str:
    """The nearest verdict: over the network there are three."""
    return ("[[No support]]", "[[Partially supported]]", "[[Fully supported]]")[round(2 * support)]


def _passages(text: str) -> list[str]:
    return [] if text == "(none)" else [part.split(") ", 1)[1] for part in re.split(r"\n\n(?=\(\d+\) )", text)]
