"""Shares of agreement between scores and human preferences, and their intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreward.evaluation.people.agreement import Judged, Proportion, agreement

SWAPPED = {"a": "b", "b": "a", "tie": "tie"}
scores = st.none() | st.sampled_from([0.0, 5.0, 6.5, 7.0, 10.0])
judged = st.builds(Judged, st.sampled_from(["a", "b", "tie"]), scores, scores, st.sampled_from(["timeout", "filtered"]))


def test_judge_ties_count_half_and_are_told_apart():
    found = agreement([Judged("a", 8, 6), Judged("b", 3, 7), Judged("a", 5, 9), Judged("b", 7, 7)])
    assert (found.agree, found.disagree, found.judge_ties) == (2, 1, 1)
    assert found.share.value == 2.5 / 4
    assert found.decided.value == pytest.approx(2 / 3)
    assert found.ties.value == 1 / 4


def test_a_judge_that_never_decides_is_a_coin_and_not_right():
    found = agreement([Judged("a", 8, 8)] * 50)
    assert found.share.value == 0.5
    assert found.decided.value is None and found.decided.interval is None


def test_a_void_score_is_no_tie_and_no_score():
    found = agreement([Judged("a", None, None, "timeout"), Judged("b", 0, None, "filtered"), Judged("b", 0, 1)])
    assert found.share.n == 1 and found.share.value == 1 and found.judge_ties == 0
    assert found.void == {"timeout": 1, "filtered": 1}


def test_pairs_that_the_human_calls_a_tie_are_left_out_and_tell_of_the_gap():
    found = agreement([Judged("tie", 8, 6), Judged("tie", 6, 7), Judged("a", 9, 4), Judged("tie", None, 4, "timeout")])
    assert found.share.n == 1 and found.human_ties == 2
    assert found.gap_of_human_ties == 1.5 and found.gap == 5


def test_means_of_the_same_ratings_are_a_tie_in_whatever_order_they_were_added():
    one, other = (7 + 8 + 20 / 3 + 8) / 4, (20 / 3 + 8 + 8 + 7) / 4 + 1e-15
    assert agreement([Judged("a", one, other)]).judge_ties == 1


@given(st.lists(judged))
def test_which_answer_is_called_a_does_not_matter(pairs):
    swapped = [Judged(SWAPPED[p.human], p.b, p.a, p.reason) for p in pairs]
    assert agreement(swapped) == agreement(pairs)


@given(st.lists(judged))
def test_every_pair_counts_once(pairs):
    found = agreement(pairs)
    assert found.share.n + found.human_ties + found.void.total() == len(pairs)


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # the example of Newcombe, Statistics in Medicine 17 (1998), 857-872, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons(count, n, low, high):
    assert Proportion(count, n).interval == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000), st.floats(0, 1))
def test_the_interval_holds_the_share_and_stays_within_0_and_1(n, part):
    share = Proportion(round(2 * n * part) / 2, n)
    low, high = share.interval
    assert 0 <= low <= share.value + 1e-12 and share.value - 1e-12 <= high <= 1


def test_of_no_pairs_there_is_nothing_to_tell():
    assert agreement([]).summary()["agree_ties_half"] == {"count": 0, "n": 0, "share": None, "interval": None}
