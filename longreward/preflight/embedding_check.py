"""Asks the embedding model of `retrieval.kind` embeddings and hybrid for one vector, before it is needed."""

from __future__ import annotations

from longreward.config import RewardConfig
from longreward.errors import ConfigError, Reason
from longreward.judge.engine.embedder import Embedder
from longreward.judge.engine.spend_cap import Spend, cap_of
from longreward.judge.protocol.address import DEFAULT_KEY, from_environment
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
    judge = config.judge
    once = {"max_attempts": 1, "max_outage_s": None}
    times = {name: min(within_s, getattr(judge, name)) for name in ("attempt_timeout_s", "call_timeout_s")}
    try:
        embedder = Embedder(settings, judge.model_copy(update=once | times), Spend(cap_of(judge)), None)
    except ConfigError as error:
        return [Finding.problem("vectors", str(error), "see retrieval.embeddings.api_key_env")], Usage()
    chunk = text_of(config.chunking.evidence_tokens, like=_LIKE)
    try:
        verdict = await embedder.embed([chunk], "document", "")
    finally:
        await embedder.aclose()
    call, url = verdict.call, settings.base_url or judge.resolved_endpoints[0].base_url
    if verdict.value is None:
        key = from_environment(settings.api_key_env or judge.api_key_env or DEFAULT_KEY)
        told = call.detail.replace(key, "***") if key else call.detail  # some servers repeat the key that they refuse
        sentence = f"{settings.model} at {url} gives no vector: {call.status} ({told})"
        return [Finding.problem("vectors", sentence, _ACTIONS.get(Reason(call.status), f"check {_WHERE}"))], call.usage
    if call.shrunk:
        sentence = f"{settings.model} at {url} takes only half a chunk of {config.chunking.evidence_tokens} tokens"
        return [Finding.note("vectors", sentence, _ACTIONS[Reason.CONTEXT_LENGTH])], call.usage
    size = len(verdict.value[0]) // 4
    sentence = f"{settings.model} at {url} gives vectors of {size:,} numbers, {call.seconds:.2g} s for a whole chunk"
    return [Finding.ok("vectors", sentence)], call.usage
