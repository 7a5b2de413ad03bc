"""The number of facts and FactScore: what counts, what does not, and how two policies compare."""

from __future__ import annotations

import pytest

from longreward.evaluation.facts import answer_facts, changes, markdown


def test_facts_are_the_statements_of_an_answer_and_factscore_the_share_fully_supported() -> None:
    found = answer_facts({"a": [[1, 1, 0.5, 0], [1, 1]], "b": [[0.5, 1]]}).to_json()
    # Of a prompt it is the mean of its answers that counts: (4 + 2) / 2 and 2; (50 + 100) / 2 and 50.
    assert (found["facts"]["mean"], found["facts"]["n"]) == (2.5, 2)
    assert (found["factscore"]["mean"], found["factscore"]["n"]) == (62.5, 2)
    low, high = found["factscore"]["interval"]
    assert 0 <= low < 62.5 < high <= 100
    assert (found["answers"], found["without_statements"], found["void"]) == (3, 0, 0)


def test_an_answer_that_states_nothing_has_no_facts_and_no_factscore() -> None:
    found = answer_facts({"a": [[1, 0], []], "b": [[]]})
    assert found.facts == {"a": 1.0, "b": 0.0}
    assert found.factscore == {"a": 50.0}
    assert found.without_statements == 2


def test_a_void_answer_is_counted_and_in_neither_mean() -> None:
    found = answer_facts({"a": [[1], None], "b": [None]})
    assert (found.facts, found.factscore, found.void, found.answers) == ({"a": 1.0}, {"a": 100.0}, 2, 3)
    assert answer_facts({"a": [None]}).to_json()["facts"] == {"mean": None, "interval": None, "n": 0}


@pytest.mark.parametrize(("support", "score"), [(1, 100), (0.8, 100), (0.7, 0), (0.5, 0), (0, 0)])
def test_a_support_between_the_labels_counts_as_the_nearer_one(support: float, score: float) -> None:
    assert answer_facts({"a": [[support]]}).factscore == {"a": score}


def test_policies_are_compared_over_the_prompts_that_both_have() -> None:
    before, after = answer_facts({"a": [[1, 0]], "b": [[1]]}), answer_facts({"a": [[1, 1, 1]], "c": [[0]]})
    moved = changes(before, after)
    assert (moved["facts"].mean, moved["factscore"].mean, moved["facts"].n) == (1.0, 50.0, 1)
    page = markdown({"old": before, "new": after})
    assert page.splitlines()[0] == "| facts | old | new | change |"
    assert "| FactScore, 0 to 100 | 75.0 (" in page and "+50.0, n=1 |" in page
    assert "about one a sentence; the paper's are atomic facts" in page


def test_one_policy_has_no_change() -> None:
    assert markdown({"mine": answer_facts({"a": [[1]]})}).splitlines()[:3] == [
        "| facts | mine |",
        "| --- | ---: |",
        "| statements an answer | 1.0, n=1 |",
    ]
