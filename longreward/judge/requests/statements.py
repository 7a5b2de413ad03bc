"""An answer's statements, and whether the document supports them (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.requests.base import AnalysedRequest, Measure, RewardRequest, as_passages, numbered_lines
from longreward.judge_config import ReplyForm
from longreward.schema import Dimension
from longreward.text.sentences import language_name, split_sentences
from longreward.text.shorten import better_half
from longreward.text.tokens import tokens_in

_SHOWN = 200  # characters of a document in a language without a name


@dataclass(frozen=True, slots=True)
class ListStatements(RewardRequest[list[str]]):
    """The factual statements of the answer, possibly none, in the document's language: evidence is found by words."""

    kind: ClassVar[str] = "statements"
    dimension: ClassVar[Dimension] = "faithfulness"
    label: ClassVar[str] = "statements"
    goes_first: ClassVar[bool] = True
    query: str
    answer: str
    document: str = ""
    """A piece of the document, which shows its language. Without it the statements are in the answer's language."""

    def fields(self) -> dict[str, str]:
        own, names = "the language of the answer", {"English": "English", "Chinese": "Chinese"}
        same = "the language of this piece of the document: "
        if self.language == "zh":
            own, names, same = "回答所用的语言", {"English": "英文", "Chinese": "中文"}, "文档中这段文字所用的语言："
        name = language_name(self.document)
        shown = names[name] if name else same + " ".join(self.document[-_SHOWN:].split()) if self.document else own
        return {"document_language": shown, "query": self.query, "answer": self.answer}

    def parse(self, text: str) -> list[str]:
        return verdicts.parse_statements(text)

    def shape(self, form: ReplyForm) -> Shape[list[str]]:
        return constrained.statements()

    def typical(self) -> tuple[list[str], float]:
        sentences = split_sentences(self.answer)
        # A repetition counts once, as in `parse`.
        different = {" ".join(sentence.casefold().split()): sentence for sentence in sentences}
        # A statement is its sentence with names in place of pronouns. Its two tags have 8 tokens together.
        return list(different.values()), 1.1 * tokens_in(self.answer) + 8 * len(sentences)


@dataclass(frozen=True, slots=True)
class VerifyStatement(AnalysedRequest[float]):
    """Does the evidence support the statement? 1, 0.5 or 0."""

    kind: ClassVar[str] = "verify"
    dimension: ClassVar[Dimension] = "faithfulness"
    label: ClassVar[str] = "verification"
    grows_with: ClassVar[Measure] = "answer_text"
    statement: str
    evidence: Sequence[str]

    def parse(self, text: str) -> float:
        return verdicts.parse_support(text)

    def shape(self, form: ReplyForm) -> Shape[float]:
        return constrained.support(form.analysis)

    def typical(self) -> tuple[float, float]:
        return 1.0, 60  # one to three sentences and a verdict

    def shrunk(self) -> VerifyStatement | None:
        evidence = better_half(self.evidence, [self.statement])
        return replace(self, evidence=evidence) if evidence else None


@dataclass(frozen=True, slots=True)
class VerifyStatements(AnalysedRequest[list[float]]):
    """Does the evidence support each of the statements? 1, 0.5 or 0 for each, in their order."""

    kind: ClassVar[str] = "verify_many"
    dimension: ClassVar[Dimension] = "faithfulness"
    label: ClassVar[str] = "verification of several statements"
    grows_with: ClassVar[Measure] = "answer_text"
    statements: Sequence[str]
    evidence: Sequence[str]

    def fields(self) -> dict[str, str]:
        return {"evidence": as_passages(self.evidence), "statements": numbered_lines(self.statements)}

    def parse(self, text: str) -> list[float]:
        return verdicts.parse_supports(text, len(self.statements))

    def shape(self, form: ReplyForm) -> Shape[list[float]]:
        return constrained.supports(len(self.statements), form.analysis)

    def typical(self) -> tuple[list[float], float]:
        return [1.0] * len(self.statements), 35 * len(self.statements)  # a line for each

    def shrunk(self) -> VerifyStatements | None:
        evidence = better_half(self.evidence, self.statements)
        return replace(self, evidence=evidence) if evidence else None
