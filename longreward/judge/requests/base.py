"""What every question to a judge has: a prompt, its material, the form of the reply and its value."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Generic, Literal, Self, TypeVar

from longreward.config import PAPER_FORM, ReplyForm, RewardConfig
from longreward.judge import votes
from longreward.judge.constrained import Shape
from longreward.judge.distribution import Token, odds_of
from longreward.judge.said import Reading, Said
from longreward.prompts import OURS, Language, Prompts
from longreward.schema import Dimension

T = TypeVar("T")

_BARE = 8  # tokens of a verdict without an analysis

Measure = Literal["answers", "answer_text", "document_text"]
"""What the number of calls grows with: the number of answers, their length, or the documents' length."""


@dataclass(frozen=True, slots=True)
class JudgeRequest(ABC, Generic[T]):
    """A question to the judge. Subclasses name their prompt, fill its fields and read the reply."""

    kind: ClassVar[str]
    """Its name. Rows, logs and the header `X-LongReward-Request` show it."""
    goes_first: ClassVar[bool] = False
    """Whether other questions wait for the reply. Such a question is sent before the others."""
    language: Language

    def fields(self) -> dict[str, str]:
        """Placeholder of the prompt -> its material: the request's own fields, several passages as one text."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "language"}
        return {name: value if isinstance(value, str) else as_passages(value) for name, value in own.items()}

    @abstractmethod
    def parse(self, text: str) -> T:
        """Read the judge's reply; VerdictError where it holds no valid verdict."""

    @abstractmethod
    def shape(self, form: ReplyForm) -> Shape[T]:
        """What the reply's verdict looks like where it is constrained."""

    def form(self, wanted: ReplyForm) -> ReplyForm:
        """What of a judge's form goes for this question. Its value may have no mean, and it may ask for no analysis."""
        return ReplyForm("written" if wanted.verdict == "written" else "constrained")

    @property
    def prompt(self) -> str:
        """The name of its prompt."""
        return self.kind

    def text(self, prompts: Prompts = OURS, form: ReplyForm = PAPER_FORM) -> str:
        """The whole user message."""
        form = self.form(form)
        written = prompts.render(self.prompt, self.language, **self.fields())
        if form == PAPER_FORM:
            return written
        shape = self.shape(form)
        wanted = json.dumps(shape.schema) if form == ReplyForm("constrained") else shape.shown
        digit = form.verdict == "distribution" and shape.is_digit
        return "\n\n".join([written, *prompts.closings(self.language, form, wanted, digit)])

    def said(self, texts: Sequence[str], tokens: Sequence[Token], form: ReplyForm, prompts: Prompts = OURS) -> Said:
        """What of a reply counts: its texts, and where the judge's distribution is wanted, what its tokens tell.
        `prompts` are those that it was asked with."""
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

    @classmethod
    def asked(cls, config: RewardConfig) -> bool:
        """Whether a reward that needs its dimension asks it."""
        return True

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


def as_lines(texts: Sequence[str]) -> str:
    """Several texts as one, numbered, a line each: one with a line break could look like two."""
    return "\n".join(f"{number}. {' '.join(text.split())}" for number, text in enumerate(texts, 1))


def as_passages(texts: Sequence[str]) -> str:
    """Several passages as one text, numbered."""
    return "\n\n".join(f"({i}) {text.strip()}" for i, text in enumerate(texts, 1)) or "(none)"
