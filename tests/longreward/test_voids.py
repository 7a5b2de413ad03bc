"""A void reward gets what moves none of its siblings."""

from __future__ import annotations

import asyncio

import pytest

from longreward.voids import SCALE_MIDDLE, Siblings


def settle_all(siblings: Siblings, totals: list[float | None], prompt: str = "p", wait_s: float = 5) -> list[float]:
    """All at once, void ones first: those have to wait."""

    async def run() -> list[float]:
        order = sorted(range(len(totals)), key=lambda i: totals[i] is not None)
        scores = [None if total is None else {"total": total} for total in totals]
        found = await asyncio.gather(*(siblings.settle(prompt, scores[i], wait_s) for i in order))
        return [dict(zip(order, found, strict=True))[i]["total"] for i in range(len(totals))]

    return asyncio.run(run())


def test_a_void_one_waits_for_its_siblings_and_gets_their_mean():
    assert settle_all(Siblings(4), [7.0, 8.0, None, 6.0]) == [7.0, 8.0, 7.0, 6.0]


def test_all_void_siblings_get_the_same():
    siblings = Siblings(3)
    assert settle_all(siblings, [None, None, None]) == [SCALE_MIDDLE] * 3
    settle_all(siblings, [2.0, 4.0, 9.0], "other")
    assert settle_all(siblings, [None, None, None]) == [5.0] * 3


def test_without_a_group_size_all_void_siblings_get_the_same_though_others_are_scored_between():
    siblings = Siblings()
    first = settle_all(siblings, [None])
    settle_all(siblings, [9.0], "other")
    assert settle_all(siblings, [None]) == first


def test_a_void_one_waits_no_longer_than_it_may():
    assert settle_all(Siblings(8), [7.0, None, 8.0], wait_s=0.01) == [7.0, 7.5, 8.0]


def test_a_group_that_comes_again_is_another_group():
    siblings = Siblings(2)
    assert settle_all(siblings, [2.0, 3.0]) == [2.0, 3.0]
    assert settle_all(siblings, [8.0, None]) == [8.0, 8.0]


def test_without_a_group_size_it_gets_the_mean_of_those_that_are_there():
    siblings = Siblings()
    assert settle_all(siblings, [7.0, 9.0]) == [7.0, 9.0]
    assert settle_all(siblings, [None]) == [8.0]
    assert settle_all(siblings, [None], "another prompt") == pytest.approx([8.0])
