"""The work that all answers about one document and question share: chunks, index and extractions, done once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property

from longreward.config import RewardConfig
from longreward.judge import Judge, Verdict
from longreward.judge.requests import ExtractRelevant
from longreward.prompts import Language
from longreward.schema import Evidence
from longreward.text.chunking import Chunk, Spans, chunk, word_spans
from longreward.text.language import detect
from longreward.text.retrieval import BM25Index

TokenSpans = Callable[[str], Spans]
"""Text -> character spans of its tokens. The policy's tokenizer, so that chunk sizes mean what they say."""

_LANGUAGE_SAMPLE = 4000  # characters; the head of a document tells its language


class Document:
    """A document and a question about it. Nothing is computed before it is first needed."""

    def __init__(
        self, context: str, query: str, judge: Judge, config: RewardConfig, token_spans: TokenSpans = word_spans
    ) -> None:
        self.context = context
        self.query = query
        self._judge = judge
        self._config = config
        self._token_spans = token_spans
        self._spans: asyncio.Task[Spans] | None = None
        self._cutting = 0  # chunkings under way that share `_spans`
        self._index: asyncio.Task[tuple[list[Chunk], BM25Index]] | None = None
        self._extraction: asyncio.Task[list[Verdict[str | None]]] | None = None
        self._told: asyncio.Task[list[Verdict[str | None]]] | None = None

    @cached_property
    def language(self) -> Language:
        return detect(self.context[:_LANGUAGE_SAMPLE] + "\n" + self.query)

    def start(self) -> None:
        """Begin the work in the background, so that it is done when the first answer comes."""
        if "completeness" in self._config.needed:
            self._start_extraction()
        if "faithfulness" in self._config.needed:
            self._start_index()

    async def evidence(self, statement: str) -> list[Evidence]:
        """The chunks that bear on `statement`: at most `retrieval.top_k`, in document order, possibly none."""
        chunks, index = await asyncio.shield(self._start_index())
        best = index.top(statement, self._config.retrieval.top_k)
        return [Evidence(index=i, start=chunks[i].start, end=chunks[i].end, text=chunks[i].text) for i in best]

    async def extractions(self) -> tuple[list[Verdict[str | None]], bool]:
        """One verdict per extraction chunk in document order, and whether no one was told of them before.

        The second value is for counting each call once. A failed extraction is not kept: the next answer tries again.
        """
        task = self._start_extraction()
        verdicts = await asyncio.shield(task)
        first = self._told is not task
        self._told = task
        if not all(verdict.ok for verdict in verdicts) and self._extraction is task:
            self._extraction = None
        return verdicts, first

    def cancel(self) -> None:
        for task in (self._spans, self._index, self._extraction):
            if task is not None:
                task.cancel()

    def _start_spans(self) -> asyncio.Task[Spans]:
        if self._spans is None:
            # In a thread: 64k tokens take some 0.1 s, which would stall every call in flight on this loop.
            self._spans = asyncio.create_task(asyncio.to_thread(self._token_spans, self.context))
        return self._spans

    async def _chunks(self, max_tokens: int) -> list[Chunk]:
        self._cutting += 1
        try:
            spans = await asyncio.shield(self._start_spans())
            return await asyncio.to_thread(chunk, self.context, max_tokens, lambda _: spans)
        finally:
            self._cutting -= 1
            if not self._cutting:
                self._spans = None  # megabytes for a long document, of no use once it is cut

    def _start_index(self) -> asyncio.Task[tuple[list[Chunk], BM25Index]]:
        if self._index is None:
            self._index = asyncio.create_task(self._build_index())
        return self._index

    async def _build_index(self) -> tuple[list[Chunk], BM25Index]:
        chunks = await self._chunks(self._config.chunking.evidence_tokens)
        return chunks, await asyncio.to_thread(BM25Index, [c.text for c in chunks])

    def _start_extraction(self) -> asyncio.Task[list[Verdict[str | None]]]:
        if self._extraction is None:
            self._extraction = asyncio.create_task(self._extract())
        return self._extraction

    async def _extract(self) -> list[Verdict[str | None]]:
        chunks = await self._chunks(self._config.chunking.extraction_tokens)
        return await asyncio.gather(
            *(self._judge.ask(ExtractRelevant(self.language, self.query, part.text)) for part in chunks)
        )
