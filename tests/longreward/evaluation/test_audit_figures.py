"""The figures of an audit, from scores that are given."""

from __future__ import annotations

import pytest

from longreward.evaluation.audit import Audit, Moves, fall_difference
from longreward.evaluation.faults import of_dimensions, of_orders
from longreward.evaluation.flaws import AGAIN
from longreward.evaluation.orders import Comparison, orders

FACTS = ["faithfulness"]


def moves(*pairs: tuple[float | None, float | None], prompts: int = 100) -> Moves:
    found = Moves()
    for number, (before, after) in enumerate(pairs):
        found.add(number, number % prompts, before, after)
    return found


def test_shares_means_and_voids():
    found = moves((8, 6), (8, 8), (5, 7), (9, 3), (None, 3), (4, None), (0.3, 0.1 + 0.2))
    assert (found.falls.count, found.rises.count, found.ties.count, found.falls.n) == (2, 1, 2, 5)
    assert found.moved.value == 0.6 and found.void == 2
    assert found.change is not None and found.change[0] == pytest.approx(-1.2)
    assert found.net is not None and found.net[0] == pytest.approx(0.2)
    assert found.size == pytest.approx(2.0)


def test_answers_to_one_prompt_are_one_value_of_an_interval():
    many, few = moves(*[(8, 6), (8, 8)] * 8), moves(*[(8, 6), (8, 8)] * 8, prompts=4)
    assert many.change is not None and few.change is not None
    assert many.change[0] == few.change[0] == -1 and (many.change[3], few.change[3]) == (16, 4)


def test_noise_is_what_one_score_deviates_by():
    assert moves((5, 7), (5, 3), (5, 7), (5, 3)).deviation == pytest.approx(2**0.5)
    assert moves((5, 5)).deviation == 0 and moves().deviation is None


def test_two_judges_are_compared_on_the_answers_that_both_have_scored():
    one, other = moves((8, 6), (8, 6), (8, 8), (8, None)), moves((8, 6), (8, 8), (8, 8), (8, 1))
    found = fall_difference(one, other)
    assert found is not None and found[0] == pytest.approx(-1 / 3) and found[3] == 3
    assert fall_difference(one, moves()) is None


def audited(flawed: list[float], harmless: list[float] | None = None, before: float = 8.0) -> str:
    """What is at fault where scores change so."""
    audit = Audit(FACTS)
    for name, changes in (("number changed", flawed), ("white space", harmless or [0.0]), (AGAIN, [0.0])):
        for number, change in enumerate(changes):
            audit.add(name, number, number, {"faithfulness": before}, {"faithfulness": before + change})
    (finding,) = of_dimensions(audit)
    return finding.fault if finding.is_sure else "unsure"


@pytest.mark.parametrize(
    ("flawed", "harmless", "before", "fault"),
    [
        ([-2.0] * 20, [0.0] * 20, 8.0, ""),
        ([0.0] * 19 + [-1.0], [0.0] * 20, 9.5, "lenient"),
        ([0.0] * 20, [0.0] * 20, 1.0, "harsh"),
        ([0.0] * 20, [0.0] * 20, 5.0, "blind"),
        ([-3.0, 3.0] * 10, [-3.0, 3.0] * 10, 5.0, "random"),
        ([-3.0, 3.0] * 10, [0.0] * 20, 5.0, "blind"),
        ([-2.0] * 8 + [0.0] * 12, [0.0] * 20, 6.0, "weak"),
        ([-2.0] * 18 + [0.0] * 2, [-2.0, 2.0] * 10, 6.0, "noisy"),
        ([-2.0] * 4, [0.0] * 4, 9.0, "unsure"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_wrong_with_a_dimension(flawed, harmless, before, fault):
    found = audited(flawed, harmless, before)
    assert found.startswith(fault) and bool(found) == bool(fault)


def test_a_fall_that_is_often_seen_and_small_is_told_apart():
    audit = Audit(FACTS)
    for number in range(10):
        audit.add("unit changed", number, number, {"faithfulness": 8.0}, {"faithfulness": 7.9})
    assert "hardly moves for unit changed (100%, -0.10)" in of_dimensions(audit)[0].sentence


def compared(*pairs: tuple[str | None, str | None]):
    return orders(
        Comparison.model_validate(
            {"key": str(n), "idx": "", "config": "", "original_first": one, "flawed_first": other}
        )
        for n, (one, other) in enumerate(pairs)
    )


def test_orders_are_counted():
    found = compared(("A", "B"), ("B", "A"), ("tie", "tie"), ("A", "A"), ("B", "B"), ("A", "tie"), (None, "A"))
    assert (found.same, found.original, found.flawed) == (3, 1, 1)
    assert (found.first, found.second, found.half, found.void, found.n) == (1, 1, 1, 1, 6)


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        ([("A", "B")] * 20, ""),
        ([("A", "B")] * 12 + [("A", "A")] * 8, "prefers the first"),
        ([("A", "B")] * 12 + [("B", "B")] * 8, "prefers the second"),
        ([("A", "B")] * 8 + [("B", "B"), ("A", "A")] * 6, "order decides"),
        ([("tie", "tie")] * 20, "tells no answers apart"),
    ],
    ids=["sound", "first", "second", "noise", "ties"],
)
def test_a_place_that_is_preferred_is_a_fault(pairs, fault):
    found = of_orders(compared(*pairs))
    assert found.fault.startswith(fault) and bool(found.fault) == bool(fault)
    assert not of_orders(compared(*pairs[:4])).is_sure
