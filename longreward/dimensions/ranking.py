"""Helpfulness as a place among siblings: the judge is shown all answers to a prompt at once, in both orders.

Each order is one call, and the two calls are made once for all siblings: the question is made of the answers alone, in
an order of its own, so it is the same for all of them.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Protocol, TypeVar

from longreward.concurrency.tasks import Counted, together
from longreward.judge import Verdict
from longreward.judge.requests import JudgeRequest, RankAnswers
from longreward.schema import OK, DimensionScore
from longreward.text.language import detect
from longreward.text.sentences import says_nothing

T = TypeVar("T")

_KEPT = 8  # groups: of one prompt hardly more than one is scored at a time
_ALONE = 5.0  # the mean of every group

Orders = list[Verdict[list[int]]]
"""The places of the answers as they are shown, and with the last one shown first."""


class AskedDocument(Protocol):
    """What a ranking needs of a document; see `Document`."""

    query: str

    async def ask(self, request: JudgeRequest[T]) -> Verdict[T]: ...


class Ranking:
    """Remembers the places of the latest groups of answers to one prompt, or the work that is going to bring them.

    It goes on when the answer that waits for it is cancelled. A failed one is not kept: the next answer asks again.
    """

    def __init__(self, document: AskedDocument) -> None:
        self._document = document
        self._works: OrderedDict[tuple[str, ...], Counted[Orders]] = OrderedDict()

    async def score(self, answer: str, siblings: Sequence[str]) -> DimensionScore:
        """10 x the share of the other answers that it beats, a tie counted half, as the mean over both orders. So a
        group's mean is 5.

        `siblings` are all answers to the prompt, this one included. Those that say nothing do not count; equal ones are
        shown once and tie. 5 where no two differ. Void where a call failed.
        """
        said = [text.strip() for text in siblings if not says_nothing(text)]
        shown = tuple(sorted(set(said), key=_name))
        if len(shown) < 2:
            return DimensionScore(score=_ALONE, detail="there is no other answer to compare it with")
        orders, first = await self._orders(shown)
        calls = [order.call if first else order.call.without_cost("shared") for order in orders]
        failed = next((call for call in calls if call.status != OK), None)
        if failed is not None:
            return DimensionScore.void(failed, calls)
        beaten = 0.0
        for texts, order in zip((shown, shown[::-1]), orders, strict=True):
            place = dict(zip(texts, order.value or (), strict=True))
            own = place[answer.strip()]
            beaten += sum((place[other] > own) + (place[other] == own) / 2 for other in said) - 0.5  # not itself
        beaten /= len(orders)
        others = len(said) - 1
        return DimensionScore(score=10 * beaten / others, detail=f"it beats {beaten:g} of {others}", calls=calls)

    def cancel(self) -> None:
        for work in self._works.values():
            work.cancel()

    async def _orders(self, shown: tuple[str, ...]) -> tuple[Orders, bool]:
        """The places in both orders, and whether this caller is the first to get them, who counts the calls."""
        work = self._works.get(shown)
        if work is None:
            work = self._works[shown] = Counted(partial(self._ask, shown), lambda orders: all(o.ok for o in orders))
            if len(self._works) > _KEPT:  # an answer under way holds its work itself
                self._works.popitem(last=False)
        return await work.result()

    async def _ask(self, shown: tuple[str, ...]) -> Orders:
        language = detect("\n".join((self._document.query, *shown)))
        orders = (shown, shown[::-1])
        return await together(
            self._document.ask(RankAnswers(language, self._document.query, texts)) for texts in orders
        )


def _name(text: str) -> bytes:
    """What the answers are shown in the order of: chance, but the same for all siblings."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
