"""The questions LongReward asks a judge (paper, section 3), each with its material and the parser of its reply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, Self, TypeVar

from longreward import prompts
from longreward.judge import verdicts
from longreward.prompts import Language
from longreward.text.shorten import better_half, without_middle

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JudgeRequest(ABC, Generic[T]):
    """A question to the judge. Subclasses name their prompt, fill its fields and read the reply."""

    prompt: ClassVar[str]
    version: ClassVar[str] = prompts.VERSION
    """That of the group of prompts which `prompt` belongs to; part of the cache key."""
    goes_first: ClassVar[bool] = False
    """Other questions wait for the reply, so this one goes before those that nothing waits for."""
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

    def shrunk(self) -> Self | None:
        """The same question with about half its material, for a judge whose context is too short; None where nothing
        of it can be left out."""
        return None


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
    goes_first: ClassVar[bool] = True
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

    def shrunk(self) -> VerifyStatement | None:
        evidence = _half_of_evidence(self.evidence, [self.statement])
        return replace(self, evidence=evidence) if evidence else None


@dataclass(frozen=True, slots=True)
class VerifyStatements(JudgeRequest[list[float]]):
    """Does the evidence support each of the statements? 1, 0.5 or 0 for each, in their order."""

    prompt: ClassVar[str] = "verify_many"
    statements: Sequence[str]
    evidence: Sequence[str]

    def fields(self) -> dict[str, str]:
        # One line each: a statement with a line break could else look like two.
        numbered = "\n".join(f"{i}. {' '.join(text.split())}" for i, text in enumerate(self.statements, 1))
        return {"evidence": _passages(self.evidence), "statements": numbered}

    def parse(self, text: str) -> list[float]:
        return verdicts.parse_supports(text, len(self.statements))

    def shrunk(self) -> VerifyStatements | None:
        evidence = _half_of_evidence(self.evidence, self.statements)
        return replace(self, evidence=evidence) if evidence else None


@dataclass(frozen=True, slots=True)
class ExtractRelevant(JudgeRequest[str | None]):
    """What in one chunk of the document bears on the question; None where nothing does."""

    prompt: ClassVar[str] = "extract"
    goes_first: ClassVar[bool] = True
    query: str
    chunk: str

    def fields(self) -> dict[str, str]:
        return {"chunk": self.chunk, "query": self.query}

    def parse(self, text: str) -> str | None:
        return verdicts.parse_extraction(text)

    def shrunk(self) -> ExtractRelevant | None:
        chunk = without_middle(self.chunk)
        return replace(self, chunk=chunk) if len(chunk) < len(self.chunk) else None


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

    def shrunk(self) -> RateCompleteness | None:
        extractions = [without_middle(text) for text in self.extractions]
        return replace(self, extractions=extractions) if extractions != list(self.extractions) else None


def _half_of_evidence(evidence: Sequence[str], statements: Sequence[str]) -> list[str]:
    """The half that bears most on the statements; of a single passage its head and tail. Empty if nothing is left."""
    if len(evidence) == 1:
        shorter = without_middle(evidence[0])
        return [shorter] if len(shorter) < len(evidence[0]) else []
    return better_half(evidence, statements)


def _passages(texts: Sequence[str]) -> str:
    return "\n\n".join(f"({i}) {text.strip()}" for i, text in enumerate(texts, 1)) or "(none)"
