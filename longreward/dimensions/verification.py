"""Verifies statements against one document (paper, section 3.3): each statement once, for all answers that make it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from longreward.concurrency.tasks import Shared, together
from longreward.config import FaithfulnessConfig
from longreward.judge import Verdict
from longreward.judge.requests import CheckStatement, JudgeRequest, VerifyStatement, VerifyStatements
from longreward.prompts import Language
from longreward.schema import Evidence, JudgeCall, Statement
from longreward.text.verbatim import normal_form, stated_sentences

T = TypeVar("T")


class Evident(Protocol):
    """The evidence for a statement; see `Found`."""

    @property
    def chunks(self) -> list[Evidence]: ...

    @property
    def calls(self) -> list[JudgeCall]: ...

    @property
    def failed(self) -> JudgeCall | None: ...


class SearchableDocument(Protocol):
    """What verification needs of a document; see `Document`."""

    context: str

    @property
    def language(self) -> Language: ...

    async def evidence(self, statement: str) -> Evident: ...

    async def ask(self, request: JudgeRequest[T]) -> Verdict[T]: ...


@dataclass(frozen=True)
class _Verified:
    statements: list[Statement]
    calls: list[JudgeCall] = field(default_factory=list)
    """The calls made for them beside those that the statements hold: the one about several statements, and those to an
    embedding model."""


@dataclass(eq=False)
class _Work:
    verified: Shared[_Verified]
    keys: list[str]
    waiting: int = 0
    """Statements of answers that wait for it."""
    counted: bool = False
    """Whether the call is counted in an answer already."""


class Verification:
    """Remembers the verdict about each statement, or the work that is going to bring it.

    It goes on when the answer that waits for it is cancelled. Two statements are the same if only their white space
    differs. Case counts: if "Polish" and "polish" were the same, an answer's score would depend on which answer came
    first.
    """

    def __init__(self, document: SearchableDocument, config: FaithfulnessConfig) -> None:
        self._document = document
        self._config = config
        self._known: dict[str, tuple[_Work, int]] = {}
        self._stated: Shared[frozenset[str]] | None = None

    async def verify(self, texts: list[str]) -> tuple[list[Statement], list[JudgeCall]]:
        """How far the document supports each statement, in their order, and the calls about several of them at once.

        A statement that several answers make is verified once. The call is counted in the answer that caused it; the
        other answers get its verdict with `source="shared"`. A failed call is not kept: the next answer tries again.
        Once a statement has failed for good, the answer is void: what else it waits for is asked no further, unless
        another answer waits for it too.
        """
        stated = await self._stated_sentences()
        # No `await` from here to the last `_begin`: another answer with the same statement must find its task.
        keys = [" ".join(text.split()) for text in texts]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        verbatim = {key: None for key in new if normal_form(key) in stated} if stated else {}
        for key in verbatim:
            self._begin([key], self._read_off(key))
        for batch in balanced([key for key in new if key not in verbatim], self._config.statements_per_call):
            self._begin(batch, self._ask(batch))
        calls: list[JudgeCall] = []
        works = [self._known[key] for key in keys]
        waiting = [
            asyncio.create_task(self._result(text, *work, calls)) for text, work in zip(texts, works, strict=True)
        ]
        for work, _ in works:
            work.waiting += 1
        try:
            failed = await _first_failure(waiting)
        finally:
            for result, (work, _) in zip(waiting, works, strict=True):
                result.cancel()
                work.waiting -= 1
        if failed is None:
            return [result.result() for result in waiting], calls
        for work, _ in works:
            if not work.waiting and not work.verified.task.done():
                self._forget(work)
                work.verified.cancel()
        return [
            result.result() if result.done() else self._given_up(text, *work, calls, failed)
            for text, work, result in zip(texts, works, waiting, strict=True)
        ], calls

    def cancel(self) -> None:
        if self._stated is not None:
            self._stated.cancel()
        for work, _ in self._known.values():
            work.verified.cancel()

    async def _stated_sentences(self) -> frozenset[str]:
        if not self._config.skip_verbatim:
            return frozenset()
        if self._stated is None:
            self._stated = Shared(asyncio.to_thread(stated_sentences, self._document.context))
        return await self._stated.result()

    def _begin(self, keys: list[str], job: Coroutine[Any, Any, _Verified]) -> None:
        work = _Work(Shared(job), keys)
        self._known |= {key: (work, position) for position, key in enumerate(keys)}
        work.verified.task.add_done_callback(lambda task: self._forget_failed(work))

    def _forget_failed(self, work: _Work) -> None:
        verified = work.verified
        if verified.failed or any(s.support is None for s in verified.task.result().statements):
            self._forget(work)

    def _forget(self, work: _Work) -> None:
        for key in work.keys:
            if key in self._known and self._known[key][0] is work:
                del self._known[key]

    async def _result(self, text: str, work: _Work, position: int, calls: list[JudgeCall]) -> Statement:
        return self._taken(text, await work.verified.result(), work, position, calls)

    def _taken(self, text: str, verified: _Verified, work: _Work, position: int, calls: list[JudgeCall]) -> Statement:
        # The answer that caused the call waits first, so it comes here first. If it was cancelled, the next one counts.
        first, work.counted = not work.counted, True
        if first:
            calls += verified.calls
        found = verified.statements[position]
        call = found.call if first or found.call.source == "document" else found.call.without_cost("shared")
        return found.model_copy(update={"text": text, "call": call})

    def _given_up(self, text: str, work: _Work, position: int, calls: list[JudgeCall], failed: Statement) -> Statement:
        """A statement that was not waited for; with its verdict, where that has just come."""
        if work.verified.task.done() and not work.verified.task.cancelled():
            return self._taken(text, work.verified.task.result(), work, position, calls)
        detail = f"not asked to the end: another statement of this answer failed ({failed.call.status})"
        call = JudgeCall(kind=VerifyStatement.kind, status=failed.call.status, detail=detail)
        return Statement(text=text, support=None, call=call)

    async def _read_off(self, text: str) -> _Verified:
        call = JudgeCall(kind=VerifyStatement.kind, source="document", detail="a sentence of the document")
        found = await self._document.evidence(text)
        if found.failed:  # what is stated word for word needs no evidence, but its call is told
            return _Verified([Statement(text=text, support=1.0, call=call)], [*found.calls, found.failed])
        return _Verified([Statement(text=text, support=1.0, evidence=found.chunks, call=call)], found.calls)

    async def _ask(self, texts: list[str]) -> _Verified:
        """Find the evidence for these statements, which are all different, and ask about them."""
        evidence = await together(self._document.evidence(text) for text in texts)
        made = [call for found in evidence for call in found.calls]
        if failed := [found.failed for found in evidence if found.failed]:
            if len(texts) == 1:
                return _Verified([Statement(text=texts[0], support=None, call=failed[0])], made)
            void = [Statement(text=text, support=None, call=failed[0].without_cost("shared")) for text in texts]
            return _Verified(void, made + failed)
        found = dict(zip(texts, evidence, strict=True))
        known, calls = await self._checked(found) if self._config.first is not None else ({}, [])
        left = {text: each for text, each in found.items() if text not in known}
        judged = await self._judged(left) if left else _Verified([])
        known |= {statement.text: statement for statement in judged.statements}
        if len(texts) > 1:  # of several statements only the first one's call would be counted
            calls += [s.call for s in known.values() if s.call.source != "shared"]
            known = {text: s.model_copy(update={"call": s.call.without_cost("shared")}) for text, s in known.items()}
        return _Verified([known[text] for text in texts], [*made, *calls, *judged.calls])

    async def _checked(self, found: dict[str, Evident]) -> tuple[dict[str, Statement], list[JudgeCall]]:
        """Those of the statements that need not be asked further: the first model is sure of them, or failed. And its
        calls about the others."""
        lowest, highest = self._config.unsure
        verdicts = await together(
            self._document.ask(CheckStatement(self._document.language, text, passages(each.chunks)))
            for text, each in found.items()
        )
        known, unsure = dict[str, Statement](), list[JudgeCall]()
        for (text, each), verdict in zip(found.items(), verdicts, strict=True):
            if verdict.value is not None and lowest <= verdict.value <= highest:
                unsure.append(verdict.call)
            else:
                deviation = verdict.call.deviations[0] if verdict.call.deviations else None
                known[text] = _statement(text, verdict.value, deviation, each, verdict.call)
        return known, unsure

    async def _judged(self, found: dict[str, Evident]) -> _Verified:
        """One call about all of these statements."""
        texts, evidence = list(found), list(found.values())
        if len(texts) == 1:
            request = VerifyStatement(self._document.language, texts[0], passages(evidence[0].chunks))
            one = await self._document.ask(request)
            deviations = one.call.deviations or [None]
            return _Verified([_statement(texts[0], one.value, deviations[0], evidence[0], one.call)])
        union = {e.index: e for each in evidence for e in each.chunks}
        shown = passages([union[index] for index in sorted(union)])
        verdict = await self._document.ask(VerifyStatements(self._document.language, texts, shown))
        support = verdict.value if verdict.ok and verdict.value is not None else [None] * len(texts)
        deviations = verdict.call.deviations or [None] * len(texts)
        call = verdict.call.without_cost("shared")
        statements = list(map(_statement, texts, support, deviations, evidence, [call] * len(texts)))
        return _Verified(statements, [verdict.call])


def _statement(text: str, support: float | None, deviation: float | None, found: Evident, call: JudgeCall) -> Statement:
    return Statement(text=text, support=support, deviation=deviation, evidence=found.chunks, call=call)


async def _first_failure(waiting: list[asyncio.Task[Statement]]) -> Statement | None:
    """Wait for all of them, or for the first statement that has no verdict."""
    for result in asyncio.as_completed(waiting):
        statement = await result
        if statement.support is None:
            return statement
    return None


def passages(evidence: list[Evidence]) -> list[str]:
    """The texts of chunks in document order. Neighbours are one passage, so that the sentence that a border cuts is
    whole again."""
    found: list[str] = []
    for before, chunk in zip([None, *evidence], evidence, strict=False):
        if before is not None and before.end == chunk.start:
            found[-1] += chunk.text
        else:
            found.append(chunk.text)
    return found


def balanced(items: list[str], most: int) -> list[list[str]]:
    """Consecutive batches of at most `most` items, as few and as equal as possible: 10 items by 3 are 3, 2, 3, 2."""
    count = math.ceil(len(items) / most)
    edges = [math.ceil(len(items) * i / count) for i in range(count + 1)] if count else []
    return [items[start:end] for start, end in pairwise(edges)]
