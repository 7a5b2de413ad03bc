"""The points that a complete answer has: made once of a document's extractions, for all answers to the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from longreward.concurrency.tasks import Counted
from longreward.judge import Verdict
from longreward.judge.requests import JudgeRequest, ListPoints
from longreward.prompts import Language
from longreward.schema import JudgeCall

T = TypeVar("T")

NOTHING: dict[Language, str] = {"en": "The document says nothing on the question.", "zh": "文档没有谈到这个问题。"}
"""The only point where the document holds none: an answer that says so is complete, as the rating's prompt says of it
too."""


class ExtractingDocument(Protocol):
    """What the points are made of; see `Document`."""

    query: str

    @property
    def language(self) -> Language: ...

    async def extractions(self) -> tuple[list[Verdict[str | None]], bool]: ...

    async def ask(self, request: JudgeRequest[T]) -> Verdict[T]: ...


@dataclass(frozen=True, slots=True)
class Relevant:
    """What a document holds on the question."""

    texts: list[str]
    """Passages or points."""
    calls: list[JudgeCall]
    """The calls made for it."""
    failed: JudgeCall | None = None
    """The call for whose failure there are no texts."""


async def passages(document: ExtractingDocument) -> Relevant:
    """What was extracted. `calls` is empty for all but the first caller."""
    extracted, first = await document.extractions()
    calls = [verdict.call for verdict in extracted] if first else []
    failed = next((verdict.call for verdict in extracted if not verdict.ok), None)
    found = [verdict.value for verdict in extracted if verdict.value is not None]
    return Relevant([] if failed else found, calls, failed)


class KeyPoints:
    """The points of one document and question."""

    def __init__(self, document: ExtractingDocument) -> None:
        self._document = document
        self._work = Counted(self._listed, lambda found: found.failed is None)

    def start(self) -> None:
        """Begin the work in the background."""
        self._work.start()

    async def found(self) -> Relevant:
        """The points; never empty unless a call failed.

        The first caller counts the calls. What failed is not kept: the next answer asks for it again.
        """
        found, first = await self._work.result()
        return found if first else Relevant(found.texts, [], found.failed)

    def cancel(self) -> None:
        self._work.cancel()

    async def _listed(self) -> Relevant:
        extracted, language = await passages(self._document), self._document.language
        if extracted.failed:
            return extracted
        if not extracted.texts:
            return Relevant([NOTHING[language]], extracted.calls)
        verdict = await self._document.ask(ListPoints(language, self._document.query, extracted.texts))
        calls = [*extracted.calls, verdict.call]
        if verdict.value is None:
            return Relevant([], calls, verdict.call)
        return Relevant(verdict.value or [NOTHING[language]], calls)
