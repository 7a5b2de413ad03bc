"""The judge behind OpenAI-compatible endpoints: each question is asked once, and good verdicts are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from longreward.concurrency.pacing import Priority, pacer
from longreward.concurrency.tasks import Shared
from longreward.errors import VerdictError
from longreward.judge.base import Judge, JudgeStatus, Role, SlowCall, Verdict
from longreward.judge.cache import VerdictCache, cache_key
from longreward.judge.engine.call import Call
from longreward.judge.engine.caller import Caller, messages
from longreward.judge.engine.embedder import Embedder
from longreward.judge.engine.spend_cap import Spend
from longreward.judge.requests import JudgeRequest
from longreward.judge.said import Said
from longreward.model_config import ModelConfig
from longreward.prompts import OURS, Prompts
from longreward.schema import JudgeCall

T = TypeVar("T")


class OpenAIJudge(Judge):
    """Implements `Judge`. Use one instance on one event loop and `aclose` it there.

    Identical requests that are under way at the same time are one call.
    """

    def __init__(
        self,
        caller: Caller,
        cache: VerdictCache | None = None,
        embedder: Embedder | None = None,
        *,
        owns_caller: bool = True,
        owns_cache: bool = True,
    ) -> None:
        """What it owns, it closes. The counts of a cache are its owner's."""
        self._caller, self._cache, self._embedder = caller, cache, embedder
        self._owns_caller, self._owns_cache = owns_caller, owns_cache
        self._flights: dict[bytes, _Flight] = {}
        self._shared = 0

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        spend: Spend,
        cache: VerdictCache | None = None,
        prompts: Prompts = OURS,
        embedder: Embedder | None = None,
    ) -> OpenAIJudge:
        """`cache` is the judge's to close, and so is `embedder`; `spend` counts the cost.

        ConfigError when `api_key_env` names a variable that is not set, when the process may not open enough sockets
        for all endpoints, or when there is a cap on spending and none on the length of a reply.
        """
        return cls(Caller(config, spend, prompts), cache, embedder)

    def beside(self, config: ModelConfig, spend: Spend, prompts: Prompts, *, shares: bool) -> OpenAIJudge:
        """A judge for some of the questions, with this one's cache and, where it `shares` the model and the endpoints,
        its limits. Close it before this one."""
        caller = Caller(config, spend, prompts, self._caller if shares else None)
        return OpenAIJudge(caller, self._cache, owns_cache=False)

    def afresh(self) -> OpenAIJudge:
        return OpenAIJudge(self._caller, embedder=self._embedder, owns_caller=False)

    async def load(self) -> None:
        if self._cache is not None:
            await self._cache.load()

    def status(self) -> JudgeStatus:
        own = self._caller.endpoints.status()
        if self._embedder is None:
            return own
        other = self._embedder.endpoints.status()
        return replace(
            own,
            given_up=own.given_up or (other.given_up and f"embeddings: {other.given_up}"),
            reason=own.reason or other.reason,
            stood_still_s=min(own.stood_still_s, other.stood_still_s),
        )

    async def embed(self, texts: Sequence[str], role: Role, *, document: str = "") -> Verdict[list[bytes]]:
        if self._embedder is None:
            return await super().embed(texts, role, document=document)
        await pacer().turn(Priority.ARRIVAL)
        return await self._embedder.embed(texts, role, document)

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        await pacer().turn(Priority.ARRIVAL)
        config = self._caller.config
        prompt = request.text(self._caller.prompts, config.form)
        parameters = {name: getattr(config, name) for name in ("temperature", "max_tokens", "extra_body")}
        if config.reasoning_tokens:  # no key without them: verdicts from before there was this setting stay good
            parameters["reasoning_tokens"] = config.reasoning_tokens
        parameters |= request.form(config.form).parameters
        key = cache_key(config.model or "", messages(prompt), parameters)
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._flights[key] = _Flight(Shared(self._fly(key, request, prompt, document)))
        flight.passengers += 1
        try:
            verdict: Verdict[T] = await flight.verdict.result()
        finally:
            flight.passengers -= 1
            if not flight.passengers:
                # Nobody is left to read the reply, or it is there.
                self._flights.pop(key, None)
                flight.verdict.cancel()
        if not joined:
            return verdict
        self._shared += 1
        return Verdict(verdict.value, verdict.call.without_cost("shared"))

    def stats(self) -> dict[str, float]:
        """See `Caller.stats`; with `judge/shared`, verdicts that answered more than one question, the
        embedding model's, and the cache's."""
        shared = {"judge/shared": float(self._shared)} if self._shared else {}
        embeddings = self._embedder.stats() if self._embedder else {}
        return (
            self._caller.stats()
            | shared
            | embeddings
            | (self._cache.stats() if self._cache and self._owns_cache else {})
        )

    def slowest_calls(self) -> list[SlowCall]:
        slowest = self._caller.slowest
        found = [SlowCall(kind, endpoint, seconds) for (kind, endpoint), seconds in slowest.items()]
        slowest.clear()
        return found

    async def aclose(self) -> None:
        tasks = [flight.verdict.task for flight in self._flights.values()]
        self._flights.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._owns_caller:
            await self._caller.aclose()
            if self._embedder is not None:
                await self._embedder.aclose()
        if self._cache is not None and self._owns_cache:
            await self._cache.aclose()

    async def _fly(self, key: bytes, request: JudgeRequest[T], prompt: str, document: str) -> Verdict[T]:
        """The verdict from the cache, or else from the judge."""
        if self._cache is not None:
            kept = await self._cache.get(key)
            said = Said.of(kept) if kept is not None else None
            if kept is not None and said is not None:
                try:
                    reading = request.read(said, self._caller.config.form)
                except VerdictError:
                    pass  # the parser has become stricter since: ask again
                else:
                    return Verdict(
                        reading.value,
                        JudgeCall(
                            kind=request.kind,
                            text=said.shown,
                            source="cache",
                            shrunk=bool(kept.get("shrunk")),
                            deviations=reading.deviations,
                        ),
                    )
        call = Call(self._caller, request, prompt, document)
        verdict = await call.verdict()
        if call.said is not None and self._cache is not None:
            self._cache.put(key, {"kind": request.kind, "shrunk": verdict.call.shrunk} | call.said.kept())
        return verdict


@dataclass(slots=True)
class _Flight:
    """A request under way and the number of those who wait for its verdict."""

    verdict: Shared[Verdict[Any]]
    passengers: int = 0
