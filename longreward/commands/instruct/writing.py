"""What a model writes from documents, questions and answers, kept on disk as it comes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from longreward.errors import InputError, JudgeError, Reason
from longreward.files import jsonlines
from longreward.judge import Judge
from longreward.judge.requests.writing import KINDS, QuestionKind, WriteAnswer, WriteQuestions, WritingRequest
from longreward.prompts import Language
from longreward.schema import OK, Usage
from longreward.schema.sample import Record
from longreward.text.language import detect, letters, samples

_HOPELESS_AFTER = 8  # calls, all failed: the writer is what is wrong, not the documents


@dataclass(frozen=True)
class Document:
    id: str
    text: str

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    @property
    def language(self) -> Language:
        return detect("\n".join(samples(self.text)))

    def kinds(self, count: int) -> list[QuestionKind]:
        """So many kinds of questions. Each document begins with another one, so that all are about as frequent."""
        first = int(self.key, 16)
        return [list(KINDS)[(first + number) % len(KINDS)] for number in range(count)]


@dataclass(frozen=True)
class Question:
    id: str
    """Of its row in the supervised data."""
    kind: QuestionKind
    text: str


class Written(Record):
    """A line of the work file: what the writer was asked, and what it said."""

    step: Literal["questions", "answer"]
    idx: str
    """The document's."""
    document: str
    """A hash of the document."""
    config: str
    """A hash of all settings that can change what is written."""
    query: str = ""
    """What is answered; empty where questions are written."""
    texts: list[str] = Field(default_factory=list)
    """The questions, one for each kind, or the answer; empty where there is nothing to ask or no answer."""
    status: str = OK
    """`ok`, or the reason why nothing was written: it is asked again at the next start."""
    detail: str = ""
    shrunk: bool = False
    """The writer was shown the document without its middle, as its context is too short."""
    usage: Usage = Field(default_factory=Usage)
    """Of all attempts, those of earlier runs included."""


@dataclass
class Texts:
    """All that was written, in this run and before."""

    config: str
    """As in `Written`."""
    questions: int
    """For each document."""
    known: dict[tuple[str, str], Written]
    """By the hash of the document and the question."""

    @classmethod
    def read(cls, path: Path, config: str, questions: int) -> Texts:
        """What earlier runs have written; the last line about the same counts. A line cut by a kill is passed over.
        InputError where the file holds something else."""
        texts = cls(config, questions, {})
        for number, row in jsonlines.read(path, []) if path.exists() else ():
            try:
                one = Written.model_validate(row)
            except ValidationError:
                raise InputError(
                    f"{path}:{number} was not written by longreward instruct; choose another --out"
                ) from None
            if one.config != config:
                raise InputError(
                    f"{path}:{number} was written by another model, with other settings or prompts, or for another "
                    "number of --questions; choose another --out, or remove that file to have all written again"
                )
            texts.known[one.document, one.query] = one
        return texts

    @property
    def used(self) -> Usage:
        return sum((written.usage for written in self.known.values()), Usage())

    def of(self, document: Document, query: str = "") -> Written | None:
        """The questions about a document, or the answer to one. Its status may say that there is none."""
        return self.known.get((document.key, query))

    def has(self, document: Document, query: str = "") -> bool:
        """Whether that is written, so that it need not be asked."""
        written = self.of(document, query)
        return written is not None and written.status == OK

    def questions_about(self, document: Document) -> list[Question]:
        """Those that are written, each once."""
        found: dict[str, Question] = {}
        written = self.of(document)
        texts = zip(document.kinds(self.questions), written.texts if written else (), strict=False)
        for number, (kind, text) in enumerate(texts, 1):
            name = document.id if self.questions == 1 else f"{document.id}-{number}"
            found.setdefault(letters(text), Question(name, kind, text))
        return list(found.values())


@dataclass
class Writer:
    """Has questions and answers written, unless they are."""

    judge: Judge
    texts: Texts
    file: jsonlines.Appender[Written]
    used: Usage = field(default_factory=Usage)
    """By this run."""
    calls: int = 0
    failed: int = 0

    async def write(self, document: Document, query: str = "") -> Written:
        """Questions about the document, or the answer to `query`. JudgeError where the writer has failed at all that it
        was asked so far."""
        before = self.texts.of(document, query)
        if before is not None and before.status == OK:
            return before
        verdict = await self.judge.ask(self._request(document, query), document=document.key)
        call, value = verdict.call, verdict.value
        written = Written(
            step="answer" if query else "questions",
            idx=document.id,
            document=document.key,
            config=self.texts.config,
            query=query,
            texts=value if isinstance(value, list) else [value] if value else [],
            status=call.status,
            detail=call.detail,
            shrunk=call.shrunk,
            usage=call.usage + (before.usage if before else Usage()),
        )
        self.texts.known[document.key, query] = written
        self.used += call.usage
        if verdict.ok or call.usage.calls:
            self.file.append(written)
        if written.status != Reason.SPEND_CAP:
            self._check_any_written(written)
        return written

    def _request(self, document: Document, query: str) -> WritingRequest[Any]:
        if query:
            return WriteAnswer(document.language, document.text, query)
        return WriteQuestions(document.language, document.text, document.kinds(self.texts.questions))

    def _check_any_written(self, written: Written) -> None:
        self.calls += 1
        self.failed += written.status != OK
        if self.failed == self.calls == _HOPELESS_AFTER:  # the one that ends all others, which need not say it too
            detail = f"the writer has failed at its first {self.failed} calls, {written.step}: {written.detail}"
            action = "check judge.routes.write, or the judge itself if that is not set: endpoint, model and key"
            if written.status == Reason.PARSE_ERROR:
                action = (
                    "let another model write (judge.routes.write.model), or set judge.routes.write.verdict: constrained"
                )
            raise JudgeError(Reason(written.status), detail=f"{detail}; {action}")


def appender(path: Path) -> jsonlines.Appender[Written]:
    """The work file, to be written. InputError where it cannot be."""
    try:
        return jsonlines.Appender[Written](path, lambda row: row.model_dump(mode="json", exclude_defaults=True))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; choose another --out") from None
