"""The interface of a judge: a typed request goes in, a verdict comes out. A failure is a verdict without a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from longreward.errors import ConfigError, Reason
from longreward.judge.requests import JudgeRequest
from longreward.schema import OK, JudgeCall

T = TypeVar("T")

Role = Literal["query", "document"]
"""What a text to be embedded is: something looked for, or a part of a document."""


@dataclass(frozen=True, slots=True)
class Verdict(Generic[T]):
    """The result of one request. `value` is None if the call failed, or if None is what the judge says (extraction)."""

    value: T | None
    call: JudgeCall

    @property
    def ok(self) -> bool:
        return self.call.status == OK


@dataclass(frozen=True, slots=True)
class JudgeStatus:
    """How a judge is doing. The defaults are those of a judge that always answers."""

    given_up: str | None = None
    """Why no call can succeed any more: every endpoint refuses us, or none has come back in time."""
    reason: Reason | None = None
    """The reason of `given_up`, without what an endpoint said."""
    spent: bool = False
    """The spend cap is reached: calls fail, or wait where the judge is paused."""
    paused: bool = False
    """The spend cap is reached and calls wait for a higher one."""
    adapted: tuple[str, ...] = ()
    """What is sent otherwise than configured, because an endpoint refused it: one sentence for each endpoint."""
    stood_still_s: float = math.inf
    """Seconds since the calls' clocks last stood still (a pause, an outage); 0 while they do, infinity if never."""


@dataclass(frozen=True, slots=True)
class SlowCall:
    """The slowest call of its kind at an endpoint."""

    kind: str
    endpoint: str
    seconds: float


class Judge(Protocol):
    """A subclass that only answers has no more to say than `ask`."""

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        """Answer one request. A judge's failure is in the verdict; only a bug or a cancellation raises.

        `document` is the name of the document that the request is about. Requests about the same document go to the
        same endpoint, because its prefix cache holds that document.
        """
        ...

    async def embed(self, texts: Sequence[str], role: Role, *, document: str = "") -> Verdict[list[bytes]]:
        """A vector of float32 for each text, for `retrieval.kind` embeddings and hybrid. A failure is in the verdict.

        ConfigError for a judge without an embedding model.
        """
        raise ConfigError("this judge has no embeddings; set retrieval.kind=bm25, or judge.kind=openai")

    def afresh(self) -> Judge:
        """A judge with the same endpoints, limits, spend and embedding model that remembers no verdicts. Close it
        before this one."""
        return self

    async def load(self) -> None:
        """Begin now with what the first question would wait for."""
        return None

    def slowest_calls(self) -> list[SlowCall]:
        """Of each kind at each endpoint the slowest since this was asked last."""
        return []

    def status(self) -> JudgeStatus:
        """How it is doing now. Call it on the judge's event loop."""
        return JudgeStatus()

    def stats(self) -> dict[str, float]:
        """Counts and gauges so far, for logs: name -> number. It may be empty."""
        return {}

    async def aclose(self) -> None:
        """Close the connections. The judge must not be used afterwards."""
        return None
