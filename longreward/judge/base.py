"""The judge's interface: typed requests in, verdicts out. A failure is a verdict without a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from longreward.judge.requests import JudgeRequest
from longreward.schema import OK, JudgeCall

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
    async def ask(self, request: JudgeRequest[T]) -> Verdict[T]:
        """Answer one request. Never raises for what the judge does; only bugs and cancellation come out."""
        ...

    async def aclose(self) -> None:
        """Give back connections. The judge is not used afterwards."""
        ...
