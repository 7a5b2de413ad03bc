"""Vectors of texts, from any /v1/embeddings: asked in batches by the judge's rules, and kept in its cache."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from longreward.concurrency.tasks import together
from longreward.config import (
    NO_KEY,
    PAPER_FORM,
    EmbeddingsConfig,
    JudgeConfig,
    ModelConfig,
    PriceConfig,
    ReplyForm,
    RewardConfig,
)
from longreward.errors import JudgeError, Reason
from longreward.judge.base import Role, Verdict
from longreward.judge.cache import VerdictCache, cache_key
from longreward.judge.constrained import Shape
from longreward.judge.engine.call import Call
from longreward.judge.engine.caller import WITHOUT_REPLY, Caller
from longreward.judge.engine.spend_cap import Spend
from longreward.judge.protocol.address import DEFAULT_KEY
from longreward.judge.protocol.client import EMBEDDINGS, Api
from longreward.judge.requests import JudgeRequest
from longreward.prompts import OURS, Prompts
from longreward.schema import JudgeCall, Usage
from longreward.text.shorten import without_middle


@dataclass(frozen=True, slots=True)
class Embed(JudgeRequest[list[str]]):
    """Texts to be embedded in one request. The value: a vector for each, in base64."""

    kind: ClassVar[str] = "embed"
    texts: Sequence[str]

    def text(self, prompts: Prompts = OURS, form: ReplyForm = PAPER_FORM) -> str:
        return "\n".join(self.texts)

    def shape(self, form: ReplyForm) -> Shape[list[str]]:
        raise TypeError("vectors are no verdict: nothing can be constrained")

    def parse(self, text: str) -> list[str]:
        vectors = text.split()
        if len(vectors) != len(self.texts):
            detail = f"the reply has {len(vectors)} embeddings for {len(self.texts)} texts"
            raise JudgeError(Reason.BAD_RESPONSE, detail=detail)
        return vectors

    def shrunk(self) -> Self | None:
        """Of several texts one may be too long, and the others are not cut for it."""
        shorter = [without_middle(text) for text in self.texts]
        return replace(self, texts=shorter) if len(self.texts) == 1 and shorter != list(self.texts) else None


class _EmbeddingCaller(Caller):
    def api_of(self, config: ModelConfig) -> Api:
        return EMBEDDINGS

    def material(self, request: JudgeRequest[Any], prompt: str) -> dict[str, Any]:
        assert isinstance(request, Embed)
        return {"input": list(request.texts)}


class Embedder:
    """Asks the embedding model. It has its own queues and limits, and the judge's spend."""

    def __init__(
        self, settings: EmbeddingsConfig, judge: JudgeConfig, spend: Spend, cache: VerdictCache | None
    ) -> None:
        """The cache stays the caller's to close. ConfigError as for `OpenAIJudge.of`."""
        self._settings, self._cache = settings, cache
        self._caller = _EmbeddingCaller(call_settings(settings, judge), spend)
        self.endpoints = self._caller.endpoints

    async def embed(self, texts: Sequence[str], role: Role, document: str) -> Verdict[list[bytes]]:
        """A vector of float32 for each text, all of one length; None where any of them could not be had.

        The call is the sum of all requests: it is from the cache where none was needed.
        """
        settings = self._settings
        prefix = settings.query_prefix if role == "query" else settings.document_prefix
        given = [prefix + text for text in texts]
        found = await self._kept(dict.fromkeys(given))
        missing = [text for text in dict.fromkeys(given) if text not in found]
        size = settings.batch_size
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        results = await together(self._ask(batch, document) for batch in batches)
        calls = [call for _, made in results for call in made]
        for vectors, _ in results:
            found |= vectors
        call = _sum(calls)
        if call.status != "ok":
            call.detail = f"embeddings by {settings.model}: {call.detail}"
            if call.status == Reason.CONTEXT_LENGTH:
                call.detail += "; lower chunking.evidence_tokens, or use a model that takes longer texts"
            return Verdict(None, call)
        if len({len(vector) for vector in found.values()}) > 1:
            call.status, call.detail = str(Reason.BAD_RESPONSE), another_model(settings.model)
            return Verdict(None, call)
        return Verdict([found[text] for text in given], call)

    def stats(self) -> dict[str, float]:
        """Requests sent (`embeddings/requests`), and failed ones by reason (`embeddings/failed/...`)."""
        return {f"embeddings/{name}": float(count) for name, count in self._caller.counts.items()}

    async def aclose(self) -> None:
        await self._caller.aclose()

    def _key(self, text: str) -> bytes:
        return cache_key(self._settings.model or "", [{"input": text}], {})

    async def _kept(self, texts: Iterable[str]) -> dict[str, bytes]:
        """The vectors that the cache has."""
        if self._cache is None:
            return {}
        texts = list(texts)
        values = await together(self._cache.get(self._key(text)) for text in texts)
        found = {text: _decoded(value.get("vector")) for text, value in zip(texts, values, strict=True) if value}
        return {text: vector for text, vector in found.items() if vector}

    async def _ask(self, texts: list[str], document: str) -> tuple[dict[str, bytes], list[JudgeCall]]:
        """The vectors of these texts as far as they were had, and the calls made for them.

        A batch that is refused as too long is halved, until the long text is alone; of that, half is embedded.
        """
        request = Embed("en", texts)
        verdict = await Call(self._caller, request, request.text(), document).verdict()
        verdict.call.text = ""  # no vectors in rows and logs
        if verdict.value is None:
            if verdict.call.status != Reason.CONTEXT_LENGTH or len(texts) == 1:
                return {}, [verdict.call]
            half = len(texts) // 2
            parts = await together(self._ask(part, document) for part in (texts[:half], texts[half:]))
            # The request in vain is paid for as well, if at all, and decides nothing.
            refused = verdict.call.model_copy(update={"status": "ok", "detail": ""})
            return parts[0][0] | parts[1][0], [refused, *parts[0][1], *parts[1][1]]
        if self._cache is not None and not verdict.call.shrunk:
            for text, vector in zip(texts, verdict.value, strict=True):
                self._cache.put(self._key(text), {"kind": Embed.kind, "vector": vector})
        vectors = [base64.b64decode(vector) for vector in verdict.value]
        return dict(zip(texts, vectors, strict=True)), [verdict.call]


def another_model(model: str | None) -> str:
    return (
        f"embeddings by {model}: vectors of different lengths; another model has answered by this name since the cache "
        "was filled: give cache.path another file"
    )


def call_settings(settings: EmbeddingsConfig, judge: JudgeConfig) -> JudgeConfig:
    """The judge's deadlines, attempts and limits, for calls to the embedding model."""
    own: dict[str, Any] = {
        "model": settings.model,
        "price": PriceConfig(prompt_per_million=settings.price_per_million),
        **WITHOUT_REPLY,
    }
    if settings.base_url:
        keys = {"api_key_env": settings.api_key_env, "api_key_header": settings.api_key_header}
        own |= {"base_url": settings.base_url, "endpoints": [], **keys}
    return judge.model_copy(update=own)


def key_variables(config: RewardConfig) -> set[str]:
    """The environment variables that hold the keys for the judge and for the embedding model."""
    settings = config.retrieval.embedder
    judge = config.judge
    asked = [judge, *map(judge.route, judge.routes), *([call_settings(settings, judge)] if settings else [])]
    names = {endpoint.api_key_env or DEFAULT_KEY for one in asked for endpoint in one.resolved_endpoints}
    return names - {NO_KEY}


def _sum(calls: Sequence[JudgeCall]) -> JudgeCall:
    """One call for all of them, failed where any is."""
    failed = next((call for call in calls if call.status != "ok"), None)
    return JudgeCall(
        kind=Embed.kind,
        status=failed.status if failed else "ok",
        detail=failed.detail if failed else "",
        source="judge" if calls else "cache",
        shrunk=any(call.shrunk for call in calls),
        attempts=sum(call.attempts for call in calls),
        seconds=max((call.seconds for call in calls), default=0.0),
        usage=sum((call.usage for call in calls), Usage()),
    )


def _decoded(kept: Any) -> bytes:
    """A vector from the cache; empty where that holds none."""
    try:
        vector = base64.b64decode(kept, validate=True)
        return vector if len(vector) % 4 == 0 else b""
    except (TypeError, ValueError, binascii.Error):
        return b""
