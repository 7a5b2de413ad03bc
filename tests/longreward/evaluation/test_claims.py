"""How well a support tells labelled claims apart: AUC, balanced accuracy, their intervals, a threshold."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longreward.evaluation.people.claims import JudgedClaim, auc, discrimination

supports = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
labelled = st.lists(st.tuples(supports, st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(labelled)
def test_auc_is_the_share_of_comparisons_won_and_ties_count_half(rows):
    yes, no = ([support for support, label in rows if label is which] for which in (True, False))
    won = sum((a > b) + 0.5 * (a == b) for a in yes for b in no) / (len(yes) * len(no))
    assert auc(*zip(*rows, strict=True)) == pytest.approx(won)
    found = discrimination(JudgedClaim("d", label, support) for support, label in rows)
    assert found.auc.value == pytest.approx(won)
    assert found.ties == pytest.approx(sum(a == b for a in yes for b in no) / (len(yes) * len(no)))


def test_auc_of_labels_that_are_all_alike_is_refused():
    with pytest.raises(ValueError, match="both labels"):
        auc([0.1, 0.9], [True, True])


def test_a_support_of_one_half_says_supported():
    found = discrimination([JudgedClaim("a", True, 0.5), JudgedClaim("b", True, 0.4), JudgedClaim("c", False, 0.4)])
    assert found.accuracy.value == (1 / 2 + 1) / 2


def test_void_claims_are_counted_by_reason_and_nowhere_else():
    known = [JudgedClaim("a", True, 1.0), JudgedClaim("b", False, 0.0)]
    found = discrimination([*known, JudgedClaim("c", True, None, "timeout"), JudgedClaim("a", False, None, "timeout")])
    assert found.void == {"timeout": 2}
    assert (found.claims, found.contexts, found.auc.value) == (2, 2, 1.0)
    nothing = discrimination([JudgedClaim("c", True, None, "timeout")])
    assert nothing.auc == (None, None) and nothing.summary()["claims"] == 0


def claims(contexts: int, each: int, seed: int = 0, noise: float = 0.6) -> list[JudgedClaim]:
    """A document's claims are all judged alike."""
    rng, found = random.Random(seed), []
    for context in range(contexts):
        shift = rng.uniform(-noise, noise)
        for i in range(each):
            support = min(1.0, max(0.0, 0.7 * (i % 2) + shift))
            found.append(JudgedClaim(f"document {context}", bool(i % 2), support))
    return found


def test_intervals_are_of_documents_and_not_of_rows():
    once = claims(30, 2)
    ten_times = [claim for claim in once for _ in range(10)]
    few, many = discrimination(once).auc, discrimination(ten_times).auc
    assert many.value == pytest.approx(few.value)
    assert many.interval == pytest.approx(few.interval)
    apart = [claim._replace(context=f"{i}") for i, claim in enumerate(ten_times)]
    low, high = discrimination(apart).auc.interval
    assert high - low < 0.5 * (many.interval[1] - many.interval[0])


def test_an_interval_holds_the_true_value_as_often_as_it_says():
    truth = discrimination(claims(500, 4, seed=99)).auc.value
    held = 0
    for seed in range(40):
        low, high = discrimination(claims(60, 4, seed)).auc.interval
        held += low <= truth <= high
    assert held >= 34  # 38 expected


def test_one_document_has_no_interval():
    found = discrimination(claims(1, 4))
    assert found.auc.value is not None and found.auc.interval is None and found.chosen is None


def test_the_threshold_is_chosen_on_one_half_and_looked_at_on_the_other():
    skewed = [JudgedClaim(f"document {i}", label, 0.9 if label else 0.8) for i in range(40) for label in (True, False)]
    chosen = discrimination(skewed).chosen
    assert chosen is not None and 0.8 < chosen.threshold <= 0.9
    assert (chosen.claims, chosen.accuracy.value, chosen.at_even.value) == (40, 1.0, 0.5)


@settings(max_examples=20)
@given(labelled, st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows, rng):
    judged = [JudgedClaim(f"document {i % 7}", label, support) for i, (support, label) in enumerate(rows)]
    shuffled = list(judged)
    rng.shuffle(shuffled)
    assert discrimination(judged).summary() == discrimination(shuffled).summary()


def test_bands_tell_the_share_of_unsure_claims():
    values = [0.0, 0.25, 0.4, 0.5, 0.6, 0.7, 0.9, 1.0]
    found = discrimination(JudgedClaim("d", i % 2 == 0, value) for i, value in enumerate(values))
    assert found.unsure == {(0.4, 0.6): 3 / 8, (0.25, 0.75): 5 / 8}
