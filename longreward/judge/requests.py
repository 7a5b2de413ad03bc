"""The questions that LongReward asks a judge (paper, section 3). `REQUESTS` is the one list of them.

A class holds all that is known of a kind of question: its prompt, its material, the parser of the reply, its name for
people, and what an estimate expects of it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from longreward.judge import constrained, verdicts, votes
from longreward.judge.constrained import Shape
from longreward.judge.distribution import Token, odds_of
from longreward.judge.said import Reading, Said
from longreward.judge_config import PAPER_FORM, ReplyForm
from longreward.prompts import OURS, Language, Prompts
from longreward.schema import Dimension
from longreward.text.sentences import language_name, split_sentences
from longreward.text.shorten import better_half, without_middle
from longreward.text.tokens import text_of, tokens_in

T = TypeVar("T")

_SHOWN = 200  # characters of a document in a language without a name
_BARE = 8  # tokens of a verdict without an analysis

Measure = Literal["answers", "answer_text", "document_text"]
"""What the number of calls grows with: the number of answers, their length, or the documents' length."""


@dataclass(frozen=True, slots=True)
class JudgeRequest(ABC, Generic[T]):
    """A question to the judge. Subclasses name their prompt, fill its fields and read the reply."""

    kind: ClassVar[str]
    """The prompt's name. Rows, logs and the header `X-LongReward-Request` show it."""
    goes_first: ClassVar[bool] = False
    """Whether other questions wait for the reply. Such a question is sent before the others."""
    language: Language

    def fields(self) -> dict[str, str]:
        """Placeholder of the prompt -> its material: the request's own fields, several passages as one text."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "language"}
        return {name: value if isinstance(value, str) else _passages(value) for name, value in own.items()}

    @abstractmethod
    def parse(self, text: str) -> T:
        """Read the judge's reply; VerdictError where it holds no valid verdict."""

    @abstractmethod
    def shape(self, form: ReplyForm) -> Shape[T]:
        """What the reply's verdict looks like where it is constrained."""

    def form(self, wanted: ReplyForm) -> ReplyForm:
        """What of a judge's form goes for this question. Its value may have no mean, and it may ask for no analysis."""
        return ReplyForm("written" if wanted.verdict == "written" else "constrained")

    def text(self, prompts: Prompts = OURS, form: ReplyForm = PAPER_FORM) -> str:
        """The whole user message."""
        form = self.form(form)
        written = prompts.render(self.kind, self.language, **self.fields())
        if form == PAPER_FORM:
            return written
        shape = self.shape(form)
        wanted = json.dumps(shape.schema) if form == ReplyForm("constrained") else shape.shown
        digit = form.verdict == "distribution" and shape.is_digit
        return "\n\n".join([written, *prompts.closings(self.language, form, wanted, digit)])

    def said(self, texts: Sequence[str], tokens: Sequence[Token], form: ReplyForm) -> Said:
        """What of a reply counts: its texts, and where the judge's distribution is wanted, what its tokens tell."""
        form = self.form(form)
        if form.verdict != "distribution":
            return Said(texts[0], tuple(texts[1:]))
        shape = self.shape(form)
        value = shape.read(texts[0])
        return Said(texts[0], odds=odds_of(tokens, shape.labels, len(value) if isinstance(value, list) else 1))

    def read(self, said: Said, form: ReplyForm) -> Reading[T]:
        """The value of what was said in this form; VerdictError where there is none."""
        form = self.form(form)
        if form.verdict == "distribution":
            return self.shape(form).mean(said.odds)
        read = self.parse if form.verdict == "written" else self.shape(form).read
        return Reading(read(said.text)) if form.votes == 1 else votes.mean(read, said, form.votes)

    def shrunk(self) -> Self | None:
        """The same question with about half its material, for a judge whose context is too short. None where nothing
        can be taken out."""
        return None


@dataclass(frozen=True, slots=True)
class RewardRequest(JudgeRequest[T]):
    """A question that the reward depends on. The typical value and length are those of judges that do not reason before
    they answer."""

    dimension: ClassVar[Dimension]
    label: ClassVar[str]
    """What people call this kind of question."""
    grows_with: ClassVar[Measure] = "answers"

    @abstractmethod
    def typical(self) -> tuple[T, float]:
        """A value that judges often give, and the length of such a reply in tokens. An estimate goes on with the value
        to the next questions."""

    def typical_in(self, wanted: ReplyForm) -> tuple[T, float]:
        """The same for a form of the reply; the tokens are those of all votes."""
        value, tokens = self.typical()
        form = self.form(wanted)
        if not form.analysis:
            tokens = _BARE * (len(value) if isinstance(value, list) else 1)
        return value, form.votes * tokens


@dataclass(frozen=True, slots=True)
class AnalysedRequest(RewardRequest[T]):
    """A question whose verdict stands on a scale, behind an analysis."""

    def form(self, wanted: ReplyForm) -> ReplyForm:
        return wanted


@dataclass(frozen=True, slots=True)
class RateAnswer(AnalysedRequest[float]):
    """A rating of an answer, 0..10."""

    reply_tokens: ClassVar[float]
    query: str
    answer: str

    def parse(self, text: str) -> float:
        return verdicts.parse_rating(text)

    def shape(self, form: ReplyForm) -> Shape[float]:
        return (
            constrained.digit(form.analysis)
            if form.verdict == "distribution"
            else constrained.number(0, 10, form.analysis)
        )

    def typical(self) -> tuple[float, float]:
        return 7.0, self.reply_tokens


@dataclass(frozen=True, slots=True)
class RateHelpfulness(RateAnswer):
    """Does the answer serve the question? 0..10. The judge does not see the document."""

    kind: ClassVar[str] = "helpfulness"
    dimension: ClassVar[Dimension] = "helpfulness"
    label: ClassVar[str] = "helpfulness"
    reply_tokens: ClassVar[float] = 90  # two to four sentences and a number


@dataclass(frozen=True, slots=True)
class RateLogicality(RateAnswer):
    """Does the answer contradict itself or derive wrongly? 0..10. The judge does not see the document."""

    kind: ClassVar[str] = "logicality"
    dimension: ClassVar[Dimension] = "logicality"
    label: ClassVar[str] = "logicality"
    reply_tokens: ClassVar[float] = 90


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
        # One line each, or a statement with a line break could look like two.
        numbered = "\n".join(f"{i}. {' '.join(text.split())}" for i, text in enumerate(self.statements, 1))
        return {"evidence": _passages(self.evidence), "statements": numbered}

    def parse(self, text: str) -> list[float]:
        return verdicts.parse_supports(text, len(self.statements))

    def shape(self, form: ReplyForm) -> Shape[list[float]]:
        return constrained.supports(len(self.statements), form.analysis)

    def typical(self) -> tuple[list[float], float]:
        return [1.0] * len(self.statements), 35 * len(self.statements)  # a line for each

    def shrunk(self) -> VerifyStatements | None:
        evidence = better_half(self.evidence, self.statements)
        return replace(self, evidence=evidence) if evidence else None


@dataclass(frozen=True, slots=True)
class ExtractRelevant(RewardRequest[str | None]):
    """What one chunk of the document says on the question; None where it says nothing."""

    kind: ClassVar[str] = "extract"
    dimension: ClassVar[Dimension] = "completeness"
    label: ClassVar[str] = "extraction"
    grows_with: ClassVar[Measure] = "document_text"
    goes_first: ClassVar[bool] = True
    query: str
    chunk: str

    def parse(self, text: str) -> str | None:
        return verdicts.parse_extraction(text)

    def shape(self, form: ReplyForm) -> Shape[str | None]:
        return constrained.passages()

    def typical(self) -> tuple[str | None, float]:
        # On average a few sentences: most chunks hold nothing on the question, and some hold a page.
        tokens = min(150, tokens_in(self.chunk))
        return text_of(tokens, like=self.chunk), tokens

    def shrunk(self) -> ExtractRelevant | None:
        chunk = without_middle(self.chunk)
        return replace(self, chunk=chunk) if len(chunk) < len(self.chunk) else None


@dataclass(frozen=True, slots=True)
class RateCompleteness(RateAnswer):
    """Does the answer cover what the document holds on the question? 0..10, judged against the extractions."""

    kind: ClassVar[str] = "completeness"
    dimension: ClassVar[Dimension] = "completeness"
    label: ClassVar[str] = "completeness"
    reply_tokens: ClassVar[float] = 150  # longer than other ratings: it names the points covered and missing
    extractions: Sequence[str]

    def shrunk(self) -> RateCompleteness | None:
        extractions = [without_middle(text) for text in self.extractions]
        return replace(self, extractions=extractions) if extractions != list(self.extractions) else None


REQUESTS: tuple[type[RewardRequest[Any]], ...] = (
    RateHelpfulness,
    RateLogicality,
    ListStatements,
    VerifyStatement,
    VerifyStatements,
    ExtractRelevant,
    RateCompleteness,
)
"""Every kind of question that a reward asks."""


def _passages(texts: Sequence[str]) -> str:
    return "\n\n".join(f"({i}) {text.strip()}" for i, text in enumerate(texts, 1)) or "(none)"
