"""Several judges as one: some kinds of question go to other models (`judge.routes`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

from longreward.judge.base import Judge, JudgeStatus, Role, SlowCall, Verdict
from longreward.judge.requests import JudgeRequest

T = TypeVar("T")

_SHARED = ("judge/tokens", "judge/cost", "judge/run_cost", "judge/p50_s", "judge/p95_s")
"""Counts of the one spend, and latencies, of which the slowest tells most. All others add up."""


class RoutedJudge(Judge):
    """Asks each kind of question of its own judge."""

    def __init__(self, judge: Judge, routes: Mapping[str, Judge], others: Sequence[Judge]) -> None:
        """`routes`: kind of question -> its judge; `judge` gets all others, and the embeddings. `others`: the judges of
        the routes in the order in which they were made: the first may own what the others share."""
        self._judge, self._routes, self._all = judge, dict(routes), [judge, *others]

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        return await self._routes.get(request.kind, self._judge).ask(request, document=document)

    async def embed(self, texts: Sequence[str], role: Role, *, document: str = "") -> Verdict[list[bytes]]:
        return await self._judge.embed(texts, role, document=document)

    def afresh(self) -> RoutedJudge:
        afresh = {id(each): each.afresh() for each in self._all}
        routes = {kind: afresh[id(each)] for kind, each in self._routes.items()}
        judge, *others = (afresh[id(each)] for each in self._all)
        return RoutedJudge(judge, routes, others)

    async def load(self) -> None:
        for each in self._all:
            await each.load()

    def status(self) -> JudgeStatus:
        """The judge that is down says why."""
        found = [each.status() for each in self._all]
        worst = next((one for one in found if one.given_up), found[0])
        return JudgeStatus(
            given_up=worst.given_up,
            reason=worst.reason,
            spent=any(one.spent for one in found),
            paused=any(one.paused for one in found),
            adapted=tuple(dict.fromkeys(sentence for one in found for sentence in one.adapted)),
            stood_still_s=min(one.stood_still_s for one in found),
        )

    def stats(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for each in self._all:
            for name, value in each.stats().items():
                total[name] = max(total.get(name, 0.0), value) if name in _SHARED else total.get(name, 0.0) + value
        return total

    def slowest_calls(self) -> list[SlowCall]:
        return [call for each in self._all for call in each.slowest_calls()]

    async def aclose(self) -> None:
        async with AsyncExitStack() as last_first:
            for each in self._all:
                last_first.push_async_callback(each.aclose)
