"""The judge's interface: typed requests in, verdicts out. A failure is a verdict without a value."""

from __future__ import annotations

import math
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


@dataclass(frozen=True, slots=True)
class JudgeStatus:
    """How a judge is doing. The defaults are those of a judge that always answers."""

    given_up: str | None = None
    """Why no call can succeed any more: every endpoint refuses us, or none has come back in time."""
    spent: bool = False
    """The spend cap is reached: calls fail, or wait where the judge is paused."""
    paused: bool = False
    """The spend cap is reached and calls wait for a higher one."""
    stood_still_s: float = math.inf
    """Seconds since the calls' clocks last stood still (a pause, an outage); 0 while they do, infinity if never."""


class Judge(Protocol):
    def status(self) -> JudgeStatus:
        """How it is doing now. Call it on the judge's event loop."""
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
