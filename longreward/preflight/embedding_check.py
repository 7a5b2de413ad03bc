"""Asks the embedding model of `retrieval.kind` embeddings and hybrid for one vector, before it is needed."""

from __future__ import annotations

from longreward.config import RewardConfig
from longreward.errors import ConfigError, Reason
from longreward.judge.engine.embedder import Embedder, call_settings
from longreward.judge.engine.spend_cap import Spend, cap_of
from longreward.preflight.asking import one_attempt
from longreward.preflight.finding import Finding
from longreward.schema import Usage
from longreward.text.tokens import text_of

_LIKE = "The harbour of the old town was rebuilt after the storm, and the ships came back in the spring of that year. "
_WHERE = "retrieval.embeddings.base_url and retrieval.embeddings.model"
_ACTIONS = {
    Reason.UNAUTHORIZED: "check the key and retrieval.embeddings.api_key_env",
    Reason.NOT_FOUND: f"check {_WHERE}: the endpoint must serve /embeddings",
    Reason.CONTEXT_LENGTH: "lower chunking.evidence_tokens, or use a model that takes longer texts",
    Reason.SPEND_CAP: "raise judge.spend: it does not even pay for this check",
    Reason.TIMEOUT: "see whether the server is stuck or busy, or raise judge.attempt_timeout_s",
}


async def check_embeddings(config: RewardConfig, within_s: float) -> tuple[list[Finding], Usage]:
    """What is found out by one chunk of full size, asked once, within so many seconds. Nothing for BM25."""
    settings = config.retrieval.embedder
    if settings is None:
        return [], Usage()
    judge = one_attempt(config.judge, within_s)
    try:
        embedder = Embedder(settings, judge, Spend(cap_of(judge)), None)
    except ConfigError as error:
        return [Finding.problem("vectors", str(error), "see retrieval.embeddings.api_key_env")], Usage()
    chunk = text_of(config.chunking.evidence_tokens, like=_LIKE)
    try:
        verdict = await embedder.embed([chunk], "document", "")
    finally:
        await embedder.aclose()
    call, url = verdict.call, call_settings(settings, judge).resolved_endpoints[0].base_url
    if verdict.value is None:
        sentence = f"{settings.model} at {url} gives no vector: {call.status} ({call.detail})"
        return [Finding.problem("vectors", sentence, _ACTIONS.get(Reason(call.status), f"check {_WHERE}"))], call.usage
    if call.shrunk:
        sentence = f"{settings.model} at {url} takes only half a chunk of {config.chunking.evidence_tokens} tokens"
        return [Finding.note("vectors", sentence, _ACTIONS[Reason.CONTEXT_LENGTH])], call.usage
    size = len(verdict.value[0]) // 4
    sentence = f"{settings.model} at {url} gives vectors of {size:,} numbers, {call.seconds:.2g} s for a whole chunk"
    return [Finding.ok("vectors", sentence)], call.usage
