"""Held-out scores: void answers are left out, the gain is paired."""

from __future__ import annotations

import pytest

from rl.data.prompts import Label
from rl.rollout.heldout_scores import HeldoutScores, collect, gain, markdown


def response(identity: str, total: float, void: float = 0.0) -> dict:
    logs = {"longreward/total": total, "longreward/helpfulness": total, "longreward/void": void}
    logs |= {"longreward/total_spread": 0.0, "longreward/helpfulness_spread": 0.0, "longreward/no_spread": 0.0}
    return {"label": Label(identity, "heldout", (0, 1), (2, 3)).to_json(), "extra_logs": logs}


def test_void_answers_are_counted_and_left_out():
    scores = collect([response("a", 4), response("a", 8), response("a", 0, void=1), response("b", 5, void=1)])
    assert scores.prompts == {"a": {"total": 6, "helpfulness": 6}}
    assert (scores.answers, scores.void) == (4, 2)
    summary = scores.summary()
    assert (summary["n"], summary["total"], summary["faithfulness"]) == (1, 6, None)


def test_the_gain_is_paired_by_prompt():
    before = HeldoutScores({"a": {"total": 1.0}, "b": {"total": 9.0}, "only": {"total": 0.0}})
    after = HeldoutScores({"a": {"total": 2.0}, "b": {"total": 10.0}})
    result = gain(before, after)
    # Unpaired, the spread between documents would swallow it.
    assert result == {"n": 2, "total": 1.0, "interval": [1.0, 1.0]}


def test_the_interval_is_the_normal_one():
    before = HeldoutScores({str(i): {"total": 0.0} for i in range(4)})
    after = HeldoutScores({str(i): {"total": float(i)} for i in range(4)})
    result = gain(before, after)
    half = 1.96 * (5 / 3) ** 0.5 / 2
    assert result["interval"] == pytest.approx([1.5 - half, 1.5 + half], abs=1e-3)


def test_too_few_prompts_give_no_interval():
    assert gain(HeldoutScores(), HeldoutScores())["interval"] is None


def test_the_table_of_one_policy():
    scores = HeldoutScores({"a": {"total": 4.0, "helpfulness": 5.0}, "b": {"total": 5.0, "helpfulness": 7.25}}, 5, 1)
    assert markdown(["mine"], [scores]).splitlines() == [
        "| held-out reward, 0-10 | mine |",
        "| --- | ---: |",
        "| total | 4.50 |",
        "| helpfulness | 6.12 |",
        "",
        "mine: 5 answers, 1 void. In brackets: 95% interval over documents.",
    ]


def test_the_table_of_two_policies_has_the_change_of_each_dimension():
    before = HeldoutScores({i: {"total": 4.0, "helpfulness": 5.0} for i in "ab"}, 2)
    after = HeldoutScores({"a": {"total": 5.0, "helpfulness": 5.0}, "b": {"total": 7.0, "helpfulness": 5.0}}, 2)
    assert markdown(["old", "new"], [before, after]).splitlines()[:4] == [
        "| held-out reward, 0-10 | old | new | change |",
        "| --- | ---: | ---: | ---: |",
        "| total | 4.00 | 6.00 | +2.00 (+0.04 to +3.96) |",
        "| helpfulness | 5.00 | 5.00 | +0.00 (+0.00 to +0.00) |",
    ]


def test_the_table_has_no_change_where_no_two_documents_were_scored_by_both():
    before, after = HeldoutScores({"a": {"total": 4.0}}, 1), HeldoutScores({"b": {"total": 5.0}}, 1)
    assert markdown(["old", "new"], [before, after]).splitlines()[2] == "| total | 4.00 | 5.00 | - |"


def test_scores_are_read_as_they_were_written(tmp_path):
    assert HeldoutScores.read(tmp_path / "scores.json") is None
    scores = HeldoutScores({"ü": {"total": 4.0}}, 3, 2)
    scores.write(tmp_path / "scores.json")
    assert HeldoutScores.read(tmp_path / "scores.json") == scores
