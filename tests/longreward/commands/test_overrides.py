"""Settings on the command line, and files that belong to another command."""

from __future__ import annotations

import json

import pytest

from longreward import cli

ROWS = "docs/examples/answers.jsonl"


def scored(out, *words):
    assert cli.main(["score", ROWS, "--judge", "offline", "--out", str(out), *words]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_the_weight_of_one_dimension_leaves_the_others_theirs(tmp_path):
    plain, heavy = scored(tmp_path / "a.jsonl"), scored(tmp_path / "b.jsonl", "weights.completeness=2")
    for before, after in zip(plain, heavy, strict=True):
        assert before["scores"].keys() == after["scores"].keys()
    assert any(
        before["scores"]["total"] != after["scores"]["total"] for before, after in zip(plain, heavy, strict=True)
    )
    assert scored(tmp_path / "c.jsonl", "weights={completeness: 2}")[0]["scores"].keys() == {"completeness", "total"}


def test_a_wrong_key_of_a_route_is_told_with_the_right_one(tmp_path, capsys):
    words = ["score", ROWS, "--judge", "offline", "--out", str(tmp_path / "x"), "judge.routes={verify: {modle: x}}"]
    assert cli.main(words) == 2
    assert "judge.routes.verify.modle'; did you mean 'model'?" in capsys.readouterr().err


def test_an_audit_does_not_go_on_with_a_file_of_scores_nor_scoring_with_an_audit(tmp_path, capsys):
    scores, audited = tmp_path / "scores.jsonl", tmp_path / "audit.jsonl"
    kept = scored(scores)
    audit = ["audit", "docs/examples/towns.jsonl", "--judge", "offline", "--limit", "1", "--out"]
    assert cli.main([*audit, str(scores)]) == 2
    assert [json.loads(line) for line in scores.read_text().splitlines()] == kept
    assert cli.main([*audit, str(audited)]) == 0
    assert cli.main(["score", ROWS, "--judge", "offline", "--out", str(audited)]) == 2
    assert capsys.readouterr().err.count("another command") == 2


@pytest.mark.parametrize("weights", ["{criteria: 1}", "{faithfulness: 1, criteria: 1}"])
def test_an_audit_refuses_criteria(tmp_path, capsys, weights):
    words = ["audit", "docs/examples/criteria.jsonl", "--judge", "offline", "--out", str(tmp_path / "x.jsonl")]
    assert cli.main([*words, f"weights={weights}"]) == 2
    assert "take criteria out of weights" in capsys.readouterr().err
