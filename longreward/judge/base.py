"""The judge's interface: typed requests in, verdicts out. A failure is a verdict without a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from longreward.judge.requests import JudgeRequest
from longreward.schema import OK, JudgeCall

if TYPE_CHECKING:
    from longreward.judge.engine.endpoints import Endpoints

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict(Generic[T]):
    """What came of one request. `value` is None exactly when `call.status` is not "ok" or the parsed value is None."""

    value: T | None
    call: JudgeCall

    @property
    def ok(self) -> bool:
        return self.call.status == OK


class Judge(Protocol):
    @property
    def endpoints(self) -> Endpoints | None:
        """Where requests go, for whoever divides limits among processes; None for a judge without a network."""
        ...

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        """Answer one request. Never raises for what the judge does; only bugs and cancellation come out.

        `document` names the document it is about: requests on one document go to the same endpoint, whose prefix cache
        then serves them.
        """
        ...

    def stats(self) -> dict[str, float]:
        """Counts and gauges so far, for logs: plain numbers by name, possibly none."""
        ...

    async def aclose(self) -> None:
        """Give back connections. The judge is not used afterwards."""
        ...
