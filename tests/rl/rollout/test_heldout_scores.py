"""Held-out scores: void answers are left out, the gain is paired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from longreward.files import jsonlines
from longreward.schema import DimensionScore, Reward, Sample, ScoredAnswer
from longreward.store import Store
from rl.data.prompts import Label
from rl.rollout.heldout_scores import HeldoutScores, StoredHeldout, collect, gain, markdown


def held(prompts: dict[str, dict[str, float]], *counts: int) -> HeldoutScores:
    """With one question, "q", about each document."""
    return HeldoutScores({(identity, "q"): scores for identity, scores in prompts.items()}, *counts)


def response(identity: str, total: float, void: float = 0.0, query: str = "q") -> dict[str, Any]:
    logs = {"longreward/total": total, "longreward/helpfulness": total, "longreward/void": void}
    logs |= {"longreward/total_spread": 0.0, "longreward/helpfulness_spread": 0.0, "longreward/no_spread": 0.0}
    prompt, label = Label.of_text(identity, "heldout", "c", query)
    return {"prompt": prompt, "label": label.to_json(), "extra_logs": logs}


def test_void_answers_are_counted_and_left_out():
    scores = collect([response("a", 4), response("a", 8), response("a", 0, void=1), response("b", 5, void=1)])
    assert scores.prompts == {("a", "q"): {"total": 6, "helpfulness": 6}}
    assert (scores.answers, scores.void) == (4, 2)
    summary = scores.summary()
    assert (summary["n"], summary["total"], summary["faithfulness"]) == (1, 6, None)


def test_the_gain_is_paired_by_prompt():
    before = held({"a": {"total": 1.0}, "b": {"total": 9.0}, "only": {"total": 0.0}})
    after = held({"a": {"total": 2.0}, "b": {"total": 10.0}})
    result = gain(before, after)
    # Unpaired, the spread between documents would swallow it.
    assert result == {"n": 2, "total": 1.0, "interval": [1.0, 1.0]}


def test_the_interval_is_the_normal_one():
    before = held({str(i): {"total": 0.0} for i in range(4)})
    after = held({str(i): {"total": float(i)} for i in range(4)})
    result = gain(before, after)
    half = 1.96 * (5 / 3) ** 0.5 / 2
    assert result["interval"] == pytest.approx([1.5 - half, 1.5 + half], abs=1e-3)


def test_too_few_prompts_give_no_interval():
    assert gain(HeldoutScores(), HeldoutScores())["interval"] is None


def test_the_table_of_one_policy():
    scores = held({"a": {"total": 4.0, "helpfulness": 5.0}, "b": {"total": 5.0, "helpfulness": 7.25}}, 5, 1)
    assert markdown(["mine"], [scores]).splitlines() == [
        "| held-out reward, 0-10 | mine |",
        "| --- | ---: |",
        "| total | 4.50 |",
        "| helpfulness | 6.12 |",
        "",
        "mine: 5 answers, 1 void. In brackets: 95% interval over prompts.",
    ]


def test_the_table_of_two_policies_has_the_change_of_each_dimension():
    before = held({i: {"total": 4.0, "helpfulness": 5.0} for i in "ab"}, 2)
    after = held({"a": {"total": 5.0, "helpfulness": 5.0}, "b": {"total": 7.0, "helpfulness": 5.0}}, 2)
    assert markdown(["old", "new"], [before, after]).splitlines()[:4] == [
        "| held-out reward, 0-10 | old | new | change |",
        "| --- | ---: | ---: | ---: |",
        "| total | 4.00 | 6.00 | +2.00 (+0.04 to +3.96) |",
        "| helpfulness | 5.00 | 5.00 | +0.00 (+0.00 to +0.00) |",
    ]


def test_the_table_has_no_change_where_no_two_documents_were_scored_by_both():
    before, after = held({"a": {"total": 4.0}}, 1), held({"b": {"total": 5.0}}, 1)
    assert markdown(["old", "new"], [before, after]).splitlines()[2] == "| total | 4.00 | 5.00 | - |"


def test_scores_are_read_as_they_were_written(tmp_path):
    assert HeldoutScores.read(tmp_path / "scores.json") is None
    scores = held({"ü": {"total": 4.0}}, 3, 2)
    scores.write(tmp_path / "scores.json")
    assert HeldoutScores.read(tmp_path / "scores.json") == scores


def test_two_questions_about_a_document_are_two_prompts():
    scores = collect([response("a", 4, query="who"), response("a", 8, query="why"), response("a", 6, query="why")])
    assert {prompt: each["total"] for prompt, each in scores.prompts.items()} == {("a", "who"): 4, ("a", "why"): 7}
    after = collect([response("a", 5, query="why"), response("a", 7, query="who")])
    assert gain(scores, after) == {"n": 2, "total": 0.5, "interval": [-4.4, 5.4]}


def test_scores_written_before_questions_were_kept_are_compared_by_document(tmp_path):
    file = tmp_path / "heldout_before.json"
    file.write_text(json.dumps({"prompts": {"a": {"total": 4.0}, "b": {"total": 5.0}}, "answers": 3, "void": 0}))
    before = HeldoutScores.read(file)
    assert before is not None and before.summary()["n"] == 2 and before.answers == 3
    after = collect([response("a", 4, query="who"), response("a", 8, query="why"), response("b", 7)])
    assert gain(before, after) == {"n": 2, "total": 2.0, "interval": [2.0, 2.0]}


def stored(folder: Path, rows: list[tuple[str, str]], answers: dict[tuple[str, str], tuple[str, float]]) -> Any:
    """Prepared prompts (id, question) with one answer each, and the store's answers with their totals."""
    prompts = [Label.of_text(identity, "heldout", "c", query) for identity, query in rows]
    found = StoredHeldout.of(folder, "x", 0, 1)
    found.prompts.parent.mkdir()
    jsonlines.rewrite(found.prompts, [{"input": prompt, "label": label.to_json()} for prompt, label in prompts])
    with Store(folder / "store" / "answers-0.jsonl") as store:
        for (identity, query), (answer, total) in answers.items():
            reward = Reward(id=identity, total=total, dimensions={"helpfulness": DimensionScore(score=total)})
            sample = Sample(id=identity, context="c", query=query, answer=answer)
            about = {"rollout": f"{identity}/0", "tokens": 0, "truncated": False, "split": "heldout"}
            store.append(ScoredAnswer.of(sample, reward, **about))
    return found


def test_an_empty_answer_counts_and_is_not_sampled_again(tmp_path):
    found = stored(tmp_path, [("a", "q"), ("b", "")], {("a", "q"): ("", 0.0), ("b", ""): ("x", 5.0)})
    scores, _ = found.scored()
    assert (scores.void, scores.means()["total"], found.to_sample()) == (0, 2.5, 0)


def test_stored_answers_to_two_questions_about_a_document_are_apart_and_a_row_twice_counts_once(tmp_path):
    rows = [("a", "who"), ("a", "why"), ("a", "who"), ("b", "who"), ("b", "who")]
    found = stored(tmp_path, rows, {("a", "who"): ("x", 4.0), ("a", "why"): ("y", 8.0)})
    scores, _ = found.scored()
    assert {prompt: each["total"] for prompt, each in scores.prompts.items()} == {("a", "who"): 4, ("a", "why"): 8}
    assert (scores.answers, scores.void, found.to_sample()) == (3, 1, 1)
