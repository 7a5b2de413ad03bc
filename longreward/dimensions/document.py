"""The work that all answers about one document and question share. Chunks, index, extractions, key points and verified
statements are each made once."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from longreward.concurrency.pacing import Priority, in_slices, pacer
from longreward.concurrency.tasks import Counted, Shared, task_group, together
from longreward.config import RewardConfig
from longreward.dimensions.key_points import KeyPoints
from longreward.dimensions.ranking import Ranking
from longreward.dimensions.verification import Verification
from longreward.errors import Reason
from longreward.judge import Judge, Verdict
from longreward.judge.requests import ExtractRelevant, JudgeRequest
from longreward.prompts import Language
from longreward.schema import Evidence, JudgeCall
from longreward.text.chunking import TokenSpans, chunks_between, cut_points, word_cut_points, word_spans
from longreward.text.copying import Copying
from longreward.text.language import detect, samples
from longreward.text.retrieval import BM25Index, VectorIndex, fused
from longreward.text.scripts import script_of
from longreward.text.sentences import says_nothing

T = TypeVar("T")

_SHOWN = 600  # characters of a document that show its language


def document_key(context: str, query: str) -> str:
    """The name of a document and a question about it: a hash, the same in every process and at every time."""
    return hashlib.sha256(f"{len(query)} {query}{context}".encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """The evidence for a statement."""

    chunks: list[Evidence]
    """In document order."""
    calls: list[JudgeCall]
    """The calls to the embedding model that were made for it. Those about the document are in the first one's."""
    failed: JudgeCall | None = None
    """The call for whose failure there is no evidence."""


class Document:
    """A document and a question about it. Everything is computed when it is first needed."""

    def __init__(
        self,
        context: str,
        query: str,
        judge: Judge,
        config: RewardConfig,
        token_spans: TokenSpans,
        preparing: asyncio.Lock,
    ) -> None:
        """Documents with the same `preparing` are prepared one after the other, so that the first are ready early."""
        self.context, self.query = context, query
        self._judge, self.config, self._token_spans, self._preparing = judge, config, token_spans, preparing
        self._chunks: Shared[tuple[list[Evidence], list[Evidence]]] | None = None
        self._index: Shared[tuple[list[Evidence], BM25Index]] | None = None
        self._vectors: Shared[Verdict[VectorIndex]] | None = None
        self._vectors_told: Shared[Verdict[VectorIndex]] | None = None
        self._extraction = Counted(self._extract, lambda verdicts: all(verdict.ok for verdict in verdicts))
        self._extracted: dict[int, Verdict[str | None]] = {}
        self.verification = Verification(self, config.faithfulness)
        self.key_points = KeyPoints(self)
        self.ranking = Ranking(self)

    @cached_property
    def key(self) -> str:
        return document_key(self.context, self.query)

    @cached_property
    def language(self) -> Language:
        parts = [part for part in samples(self.context) if not says_nothing(part)] or [self.query]
        languages = [detect(part) for part in parts]
        return max(languages, key=languages.count)

    @cached_property
    def language_shown(self) -> str:
        """A piece of the document in the script that most of it is in."""
        script = script_of("".join(samples(self.context)))
        head, *others = samples(self.context, _SHOWN)
        pieces = [*others, head]  # the head is often a title, the tail a list of sources
        return next((piece for piece in pieces if script_of(piece) == script), pieces[0])[:_SHOWN]

    @cached_property
    def copying(self) -> Copying:
        return Copying(self.context, self.config.copying.row)

    def start(self) -> None:
        """Begin the work in the background, so that it is done before the first answer needs it."""
        if "completeness" in self.config.needed:
            self._extraction.start()
            if self.config.completeness.way == "key_points":
                self.key_points.start()
        if "faithfulness" in self.config.needed:
            self._start_index()
            if self.config.retrieval.embedder:
                self._start_vectors()

    async def ask(self, request: JudgeRequest[T]) -> Verdict[T]:
        """Ask the judge. The document's name goes along, so that its questions meet the same prefix cache."""
        return await self._judge.ask(request, document=self.key)

    async def evidence(self, statement: str) -> Found:
        """The chunks that have to do with `statement`: at most `retrieval.top_k`, in document order.

        By words (`bm25`): where the statement shares no word with the document, those that have to do with the
        question, or else the beginning: a judge that knows both languages can still tell. Empty only for a document
        without text.
        """
        chunks, index = await self._start_index().result()
        await pacer().turn(Priority.ARRIVAL)  # an answer may make thousands of statements at once
        kind, most = self.config.retrieval.kind, self.config.retrieval.top_k
        if kind == "bm25" or not chunks:
            found = index.top(statement, most) or index.top(self.query, most) or range(min(most, len(chunks)))
            return Found([chunks[i] for i in found], [])
        near, calls = await self._nearest(statement)
        if isinstance(near, JudgeCall):
            return Found([], calls, near)
        ranked = near if kind == "embeddings" else fused([index.ranked(statement), near])
        return Found([chunks[i] for i in sorted(ranked[:most])], calls)

    async def knows(self, statement: str) -> bool:
        """Whether the statement shares a word with the document."""
        _, index = await self._start_index().result()
        return index.knows(statement)

    async def extractions(self) -> tuple[list[Verdict[str | None]], bool]:
        """One verdict for each extraction chunk, in document order, and whether this caller is the first to get them.

        The first caller counts the calls. A failed extraction is not kept: the next answer asks for it again.
        """
        return await self._extraction.result()

    def cancel(self) -> None:
        self.verification.cancel()
        self._extraction.cancel()
        self.key_points.cancel()
        self.ranking.cancel()
        for work in (self._chunks, self._index, self._vectors):
            if work is not None:
                work.cancel()

    def _start_chunks(self) -> Shared[tuple[list[Evidence], list[Evidence]]]:
        if self._chunks is None:
            self._chunks = Shared(self._cut())
        return self._chunks

    async def _cut(self) -> tuple[list[Evidence], list[Evidence]]:
        """The chunks for evidence and those for extraction. The cut points, megabytes for a long document, serve both
        and are not kept."""
        async with self._preparing:
            if self._token_spans is word_spans:
                await pacer().turn(Priority.BACKGROUND)
                points = word_cut_points(self.context)
            else:
                # A tokenizer takes 0.1 s for 64k tokens and releases the interpreter lock, so a thread does help here.
                points = await asyncio.to_thread(lambda: cut_points(self.context, self._token_spans(self.context)))
        sizes = self.config.chunking
        evidence, extraction = (
            chunks_between(self.context, points, most) for most in (sizes.evidence_tokens, sizes.extraction_tokens)
        )
        return evidence, extraction

    def _start_index(self) -> Shared[tuple[list[Evidence], BM25Index]]:
        if self._index is None:
            self._index = Shared(self._build_index())
        return self._index

    async def _build_index(self) -> tuple[list[Evidence], BM25Index]:
        chunks, _ = await self._start_chunks().result()
        async with self._preparing:
            return chunks, await in_slices(BM25Index.in_steps([c.text for c in chunks]))

    async def _nearest(self, statement: str) -> tuple[list[int] | JudgeCall, list[JudgeCall]]:
        """All chunks, the nearest in meaning first, or the call that failed; and the other calls that were made.

        Failed vectors of the document are not kept: the next statement asks for them again.
        """
        work = self._start_vectors()
        async with task_group() as group:
            asking = group.create_task(self._judge.embed([statement], "query", document=self.key))
            about = await work.result()
        wanted = asking.result()
        if not about.ok and self._vectors is work:
            self._vectors = None
        first, self._vectors_told = self._vectors_told is not work, work
        about_call = about.call if first else about.call.without_cost("shared")
        calls = [about_call, wanted.call] if first else [wanted.call]
        if about.value is None or wanted.value is None:
            failed = wanted.call if about.ok else about_call
            return failed, [call for call in calls if call is not failed]
        vector = wanted.value[0]
        if len(vector) != about.value.size:
            detail = f"the embedding has {len(vector) // 4} numbers, those of the document {about.value.size // 4}"
            detail += "; the model has changed: give cache.path another file"
            failed = wanted.call.model_copy(update={"status": str(Reason.BAD_RESPONSE), "detail": detail})
            return failed, [call for call in calls if call is not wanted.call]
        return about.value.ranked(vector), calls

    def _start_vectors(self) -> Shared[Verdict[VectorIndex]]:
        if self._vectors is None or self._vectors.task.cancelled():
            self._vectors = Shared(self._embed_chunks())
        return self._vectors

    async def _embed_chunks(self) -> Verdict[VectorIndex]:
        chunks, _ = await self._start_chunks().result()
        embedded = await self._judge.embed([chunk.text for chunk in chunks], "document", document=self.key)
        return Verdict(None if embedded.value is None else VectorIndex(embedded.value), embedded.call)

    def _language_of(self, chunk: Evidence) -> Language:
        return self.language if says_nothing(chunk.text) else detect(chunk.text)

    async def _extract(self) -> list[Verdict[str | None]]:
        _, chunks = await self._start_chunks().result()
        return await together(map(self._extract_from, chunks))

    async def _extract_from(self, chunk: Evidence) -> Verdict[str | None]:
        kept = self._extracted.get(chunk.index)
        if kept is not None:
            return kept
        verdict = await self.ask(ExtractRelevant(self._language_of(chunk), self.query, chunk.text))
        if verdict.ok:
            # If another chunk fails, the next answer asks again; this one is then known already.
            self._extracted[chunk.index] = Verdict(verdict.value, verdict.call.without_cost("shared"))
        return verdict
