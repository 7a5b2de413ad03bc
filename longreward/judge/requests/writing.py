"""What a model is asked that writes examples for supervised training: questions about a document, and an answer to one.

The way is LongAlign's self-instruct (arXiv 2401.18058), with which the LongReward paper made its supervised data. Both
prompts begin alike, up to the end of the document, so that the writer's server reads a document once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, TypeVar

from longreward.config import ReplyForm
from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.requests.base import JudgeRequest, as_lines
from longreward.prompts import Language
from longreward.text.shorten import without_middle

T = TypeVar("T")

QuestionKind = Literal["extraction", "summary", "reasoning", "multi-part"]
KINDS: dict[QuestionKind, dict[Language, str]] = {
    "extraction": {"en": "extraction", "zh": "信息提取"},
    "summary": {"en": "summary", "zh": "总结"},
    "reasoning": {"en": "reasoning", "zh": "推理"},
    "multi-part": {"en": "several parts", "zh": "多个部分"},
}
"""Kinds of questions, as the prompts call them."""


@dataclass(frozen=True, slots=True)
class WritingRequest(JudgeRequest[T]):
    """A question to the writer; no reward depends on it."""

    document: str

    def shrunk(self) -> Self | None:
        document = without_middle(self.document)
        return replace(self, document=document) if len(document) < len(self.document) else None


@dataclass(frozen=True, slots=True)
class WriteQuestions(WritingRequest[list[str]]):
    """A question about the document for each of these kinds, in their order; none where nothing can be asked."""

    kind: ClassVar[str] = "write_questions"
    kinds: Sequence[QuestionKind]

    def fields(self) -> dict[str, str]:
        return {"document": self.document, "kinds": as_lines([KINDS[kind][self.language] for kind in self.kinds])}

    def parse(self, text: str) -> list[str]:
        return verdicts.parse_questions(text, len(self.kinds))

    def shape(self, form: ReplyForm) -> Shape[list[str]]:
        return constrained.questions(len(self.kinds))


@dataclass(frozen=True, slots=True)
class WriteAnswer(WritingRequest[str | None]):
    """The answer to a question from the document alone; None where the document does not answer it."""

    kind: ClassVar[str] = "write_answer"
    query: str

    def parse(self, text: str) -> str | None:
        return verdicts.parse_answer(text)

    def shape(self, form: ReplyForm) -> Shape[str | None]:
        return constrained.answer()


WRITING: tuple[type[WritingRequest[Any]], ...] = (WriteQuestions, WriteAnswer)
