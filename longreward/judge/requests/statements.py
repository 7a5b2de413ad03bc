"""An answer's statements, and whether the document supports them (paper, section 3.3)."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from longreward.config import PAPER_FORM, ReplyForm, RewardConfig
from longreward.errors import VerdictError
from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.distribution import Token, mean_and_deviation, mean_likelihood, odds_of_word
from longreward.judge.requests.base import AnalysedRequest, Measure, RewardRequest, as_lines, as_passages
from longreward.judge.said import Reading, Said
from longreward.prompts import OURS, Prompts
from longreward.schema import Dimension
from longreward.text.sentences import language_name, split_sentences
from longreward.text.shorten import better_half
from longreward.text.tokens import tokens_in

_YES_NO = {"Yes": 1.0, "No": 0.0}
_UNSURE = 4  # of ten statements
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

    def text(self, prompts: Prompts = OURS, form: ReplyForm = PAPER_FORM) -> str:
        return "\n".join(self.texts(prompts, form)) if form.way != "chat" else AnalysedRequest.text(self, prompts, form)

    def texts(self, prompts: Prompts, form: ReplyForm) -> tuple[str, str]:
        """What a checker gets: the evidence and the statement, or a prompt and the word that it is to continue."""
        shown, statement = "\n\n".join(text.strip() for text in self.evidence), self.statement.strip()
        if form.way == "score":
            return prompts.inert(shown), prompts.inert(statement)
        if form.way == "likelihood":
            return prompts.render("likelihood", self.language, evidence=shown), prompts.inert(statement)
        return prompts.render("yes_no", self.language, evidence=shown, statement=statement), ""

    def said(self, texts: Sequence[str], tokens: Sequence[Token], form: ReplyForm, prompts: Prompts = OURS) -> Said:
        if form.way == "yes_no":
            return Said(texts[0], odds=(odds_of_word(tokens, _YES_NO),))
        if form.way == "likelihood":
            return Said(f"{mean_likelihood(tokens, self.texts(prompts, form)[1]):.6f}")
        return AnalysedRequest.said(self, texts, tokens, form, prompts)

    def read(self, said: Said, form: ReplyForm) -> Reading[float]:
        if form.way == "chat":
            return AnalysedRequest.read(self, said, form)
        if form.way == "yes_no":
            support, deviation = mean_and_deviation(said.odds[0] if said.odds else {}, _YES_NO)
            return Reading(support, (deviation,))
        try:
            support = float(said.text)
        except ValueError:
            raise VerdictError("no number", said.text) from None
        if form.way == "likelihood":
            middle, width = form.curve
            support = 1 / (1 + math.exp(min(500.0, (middle - support) / width)))
        return Reading(support, (math.sqrt(support * (1 - support)),))

    def typical(self) -> tuple[float, float]:
        return 1.0, 60  # one to three sentences and a verdict

    def typical_in(self, wanted: ReplyForm) -> tuple[float, float]:
        value, _ = self.typical()
        return (value, 1) if wanted.way != "chat" else (value, AnalysedRequest.typical_in(self, wanted)[1])

    def shrunk(self) -> Self | None:
        evidence = better_half(self.evidence, [self.statement])
        return replace(self, evidence=evidence) if evidence else None


@dataclass(frozen=True, slots=True)
class CheckStatement(VerifyStatement):
    """The same question to another model, which is asked first (`faithfulness.first`)."""

    kind: ClassVar[str] = "check"
    label: ClassVar[str] = "first check"

    @classmethod
    def asked(cls, config: RewardConfig) -> bool:
        return config.faithfulness.first is not None

    @property
    def prompt(self) -> str:
        return VerifyStatement.kind

    def typical(self) -> tuple[float, float]:
        # An estimate takes it to be unsure of as many statements as SmolLM2 was (benchmarks/README.md).
        return 0.5 if zlib.crc32(self.statement.encode()) % 10 < _UNSURE else 1.0, 60


@dataclass(frozen=True, slots=True)
class VerifyStatements(AnalysedRequest[list[float]]):
    """Does the evidence support each of the statements? 1, 0.5 or 0 for each, in their order."""

    kind: ClassVar[str] = "verify_many"
    dimension: ClassVar[Dimension] = "faithfulness"
    label: ClassVar[str] = "verification of several statements"
    grows_with: ClassVar[Measure] = "answer_text"
    statements: Sequence[str]
    evidence: Sequence[str]

    @classmethod
    def asked(cls, config: RewardConfig) -> bool:
        return config.faithfulness.statements_per_call > 1

    def fields(self) -> dict[str, str]:
        return {"evidence": as_passages(self.evidence), "statements": as_lines(self.statements)}

    def parse(self, text: str) -> list[float]:
        return verdicts.parse_supports(text, len(self.statements))

    def shape(self, form: ReplyForm) -> Shape[list[float]]:
        return constrained.supports(len(self.statements), form.analysis)

    def typical(self) -> tuple[list[float], float]:
        return [1.0] * len(self.statements), 35 * len(self.statements)  # a line for each

    def shrunk(self) -> VerifyStatements | None:
        evidence = better_half(self.evidence, self.statements)
        return replace(self, evidence=evidence) if evidence else None
