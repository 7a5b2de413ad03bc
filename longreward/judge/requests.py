"""The six questions LongReward asks a judge (paper, section 3), each with its material and the parser of its reply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from longreward import prompts, verdicts
from longreward.prompts import Language

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JudgeRequest(ABC, Generic[T]):
    """A question to the judge. Subclasses name their prompt, fill its fields and read the reply."""

    prompt: ClassVar[str]
    language: Language

    @abstractmethod
    def fields(self) -> dict[str, str]:
        """The prompt's placeholders."""

    @abstractmethod
    def parse(self, text: str) -> T:
        """Read the judge's reply; VerdictError where it holds no valid verdict."""

    def text(self) -> str:
        """The whole user message."""
        return prompts.render(self.prompt, self.language, **self.fields())


@dataclass(frozen=True, slots=True)
class RateHelpfulness(JudgeRequest[float]):
    """Does the answer serve the question? 0..10. The judge does not see the document."""

    prompt: ClassVar[str] = "helpfulness"
    query: str
    answer: str

    def fields(self) -> dict[str, str]:
        return {"query": self.query, "answer": self.answer}

    def parse(self, text: str) -> float:
        return verdicts.parse_rating(text)


@dataclass(frozen=True, slots=True)
class RateLogicality(RateHelpfulness):
    """Does the answer contradict itself or derive wrongly? 0..10. The judge does not see the document."""

    prompt: ClassVar[str] = "logicality"


@dataclass(frozen=True, slots=True)
class ListStatements(JudgeRequest[list[str]]):
    """The factual statements of the answer, possibly none."""

    prompt: ClassVar[str] = "statements"
    query: str
    answer: str

    def fields(self) -> dict[str, str]:
        return {"query": self.query, "answer": self.answer}

    def parse(self, text: str) -> list[str]:
        return verdicts.parse_statements(text)


@dataclass(frozen=True, slots=True)
class VerifyStatement(JudgeRequest[float]):
    """Does the evidence support the statement? 1, 0.5 or 0."""

    prompt: ClassVar[str] = "verify"
    statement: str
    evidence: Sequence[str]

    def fields(self) -> dict[str, str]:
        return {"evidence": _passages(self.evidence), "statement": self.statement}

    def parse(self, text: str) -> float:
        return verdicts.parse_support(text)


@dataclass(frozen=True, slots=True)
class ExtractRelevant(JudgeRequest[str | None]):
    """What in one chunk of the document bears on the question; None where nothing does."""

    prompt: ClassVar[str] = "extract"
    query: str
    chunk: str

    def fields(self) -> dict[str, str]:
        return {"chunk": self.chunk, "query": self.query}

    def parse(self, text: str) -> str | None:
        return verdicts.parse_extraction(text)


@dataclass(frozen=True, slots=True)
class RateCompleteness(JudgeRequest[float]):
    """Does the answer cover what the document holds on the question? 0..10, judged against the extractions."""

    prompt: ClassVar[str] = "completeness"
    query: str
    answer: str
    extractions: Sequence[str]

    def fields(self) -> dict[str, str]:
        return {"extractions": _passages(self.extractions), "query": self.query, "answer": self.answer}

    def parse(self, text: str) -> float:
        return verdicts.parse_rating(text)


def _passages(texts: Sequence[str]) -> str:
    return "\n\n".join(f"({i}) {text.strip()}" for i, text in enumerate(texts, 1)) or "(none)"
