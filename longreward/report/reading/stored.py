"""The fields of a scored answer that a report shows. Their types have bounds, so that nothing else reaches the page: a
record that does not fit is passed over, and the report says so."""

from __future__ import annotations

from typing import Annotated

import msgspec

from longreward import store
from longreward.schema import OK

_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Money = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]


class StoredUsage(msgspec.Struct, gc=False, frozen=True):
    prompt_tokens: _Count = 0
    cached_tokens: _Count = 0
    completion_tokens: _Count = 0
    cost: _Money = 0.0


class StoredCall(msgspec.Struct, gc=False, frozen=True):
    """See schema.JudgeCall."""

    kind: str = ""
    status: str = OK
    source: str = "judge"
    text: str = ""
    detail: str = ""
    attempts: _Count = 0
    seconds: _Money = 0.0
    shrunk: bool = False
    usage: StoredUsage = StoredUsage()


class StoredEvidence(msgspec.Struct, gc=False, frozen=True):
    """Where evidence begins and ends in the document, in characters, and its text."""

    start: _Count
    end: _Count
    text: str


class StoredStatement(msgspec.Struct, gc=False):
    """See schema.Statement. `support` is 1, 0.5 or 0; None where void."""

    text: str
    support: _Number | None = None
    deviation: _Number | None = None
    evidence: list[StoredEvidence] = []
    call: StoredCall = StoredCall()


class StoredPoint(msgspec.Struct, gc=False, frozen=True):
    """See schema.Point. `covered` is 1, 0.5 or 0; None where void."""

    text: str
    covered: _Number | None = None
    deviation: _Number | None = None
    quote: str = ""
    in_answer: bool | None = None


class StoredDimension(msgspec.Struct, gc=False):
    score: _Number | None = None
    deviation: _Number | None = None
    status: str = OK
    detail: str = ""
    calls: list[StoredCall] = []
    statements: list[StoredStatement] = []
    points: list[StoredPoint] = []


class StoredAnswer(store.Fields, kw_only=True):
    """See schema.ScoredAnswer."""

    id: str = ""
    split: str = ""
    rollout: str = ""
    key: str = ""
    time: _Money = 0.0
    seconds: _Money = 0.0
    tokens: _Count | None = None
    truncated: bool | None = None
    query: str = ""
    answer: str = ""
    total: _Number | None
    dimensions: dict[str, StoredDimension]

    @property
    def status(self) -> str:
        """`ok`, or the first reason why the total is void."""
        if self.total is not None:
            return OK
        reasons = (d.status for d in self.dimensions.values() if d.score is None)
        return next((reason for reason in reasons if reason != OK), "unknown")
