"""Held-out scores: void answers are left out, the gain is paired."""

from __future__ import annotations

import pytest

from rl.evaluate import Scores, collect, gain
from rl.prompts import Label


def response(identity: str, total: float, void: float = 0.0) -> dict:
    logs = {"longreward/total": total, "longreward/helpfulness": total, "longreward/void": void}
    return {"label": Label(identity, "heldout", (0, 1), (2, 3)).to_json(), "extra_logs": logs}


def test_void_answers_are_counted_and_left_out():
    scores = collect([response("a", 4), response("a", 8), response("a", 0, void=1), response("b", 5, void=1)])
    assert scores.prompts == {"a": {"total": 6, "helpfulness": 6}}
    assert (scores.answers, scores.void) == (4, 2)
    summary = scores.summary()
    assert (summary["n"], summary["total"], summary["faithfulness"]) == (1, 6, None)


def test_the_gain_is_paired_by_prompt():
    before = Scores({"a": {"total": 1.0}, "b": {"total": 9.0}, "only": {"total": 0.0}})
    after = Scores({"a": {"total": 2.0}, "b": {"total": 10.0}})
    result = gain(before, after)
    # Unpaired, the spread between documents would swallow it.
    assert result == {"n": 2, "total": 1.0, "interval": [1.0, 1.0]}


def test_the_interval_is_the_normal_one():
    before = Scores({str(i): {"total": 0.0} for i in range(4)})
    after = Scores({str(i): {"total": float(i)} for i in range(4)})
    result = gain(before, after)
    half = 1.96 * (5 / 3) ** 0.5 / 2
    assert result["interval"] == pytest.approx([1.5 - half, 1.5 + half], abs=1e-3)


def test_too_few_prompts_give_no_interval():
    assert gain(Scores(), Scores())["interval"] is None
