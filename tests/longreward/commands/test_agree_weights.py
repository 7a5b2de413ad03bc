"""`longreward agree` by other weights: what each dimension adds, and the file of a full run read again. Both ask
nothing."""

from __future__ import annotations

import json

import pytest

from longreward import cli

CONTEXT = "Mara sold copper to Otto in Lisbon. Lena bought 40 apples from Karl in Rome."
GOOD, WRONG, PADDING = "Mara sold copper to Otto in Lisbon.", "Mara sold silver to Karl.", "I hope this helps you."
FULL = ["helpfulness", "logicality", "faithfulness", "completeness"]
WITHOUT = [f"without {name}" for name in FULL]


def row(idx: int, win: str, lose: str) -> dict:
    return {"idx": idx, "context": CONTEXT, "query": "What did Mara sell?", "win_response": win, "lose_response": lose}


@pytest.fixture
def agree(tmp_path, judge_server, capsys):
    """Runs the command; gives its exit code, the screen, and the JSON."""
    rows = [row(0, GOOD, WRONG), row(1, WRONG, PADDING), row(2, PADDING, GOOD)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    judge_server.script["helpfulness"] = lambda prompt, _: "[[9]]" if GOOD in prompt.split("[Answer]")[-1] else "[[4]]"
    judge_server.script["logicality"] = lambda prompt, _: "[[6]]" if PADDING in prompt else "[[8]]"
    config = tmp_path / "judge.yaml"
    config.write_text(f"judge: {{kind: openai, model: judge, base_url: '{judge_server.url}', max_attempts: 1}}\n")

    def run(*words: str, out: str = "judged.jsonl"):
        judge_server.calls.clear()
        file = tmp_path / "agreement.json"
        file.unlink(missing_ok=True)
        given = [str(tmp_path / "pairs.jsonl"), "--config", str(config), "--json", str(file)]
        code = cli.main(["agree", *given, *(["--out", str(tmp_path / out)] if out else []), *words])
        screen = "".join(capsys.readouterr())
        return code, screen, json.loads(file.read_text()) if file.exists() else None

    return run


def test_what_a_dimension_adds_stands_beside_the_total(agree):
    code, screen, found = agree()
    assert code == 0 and list(found["agreement"]) == [*FULL, "total", *WITHOUT]
    for name in FULL:
        code, _, other = agree(f"weights.{name}=0", out=f"without-{name}.jsonl")
        assert code == 0 and other["agreement"]["total"] == found["agreement"][f"without {name}"]
        shares = [found["agreement"][each]["agree_ties_half"]["share"] for each in ("total", f"without {name}")]
        assert found["total_less"][f"without {name}"]["share"] == pytest.approx(shares[0] - shares[1], abs=1e-4)
    assert "what a dimension adds to the total, in points: helpfulness " in screen
    assert "without faithfulness" in screen


def test_two_dimensions_have_rows_enough(agree):
    _, screen, found = agree("weights={helpfulness: 1, logicality: 1}")
    assert list(found["agreement"]) == ["helpfulness", "logicality", "total"] and "adds to the total" not in screen


@pytest.mark.parametrize(
    "words",
    [
        ["weights.faithfulness=0"],
        ["weights={helpfulness: 3, logicality: 1}"],
        ["gates={helpfulness: 5}"],
        ["copying.loss=0"],
        ["copying.answered=null", "copying.row=4"],
    ],
    ids=str,
)
def test_the_file_of_a_full_run_answers_for_other_weights(agree, tmp_path, judge_server, words):
    agree()
    before = (tmp_path / "judged.jsonl").read_bytes()
    code, screen, found = agree(*words)
    assert code == 0 and not judge_server.calls and "nothing is asked" in screen
    assert (tmp_path / "judged.jsonl").read_bytes() == before
    _, _, fresh = agree(*words, out="fresh.jsonl")
    assert sum(judge_server.calls.values()) > 0
    assert [found[name] for name in ("agreement", "pairs", "config")] == [
        fresh[name] for name in ("agreement", "pairs", "config")
    ]


def test_so_does_a_file_that_was_itself_scored_with_other_weights(agree, judge_server):
    agree("weights.completeness=2", "gates={logicality: 1}")
    code, _, _ = agree()
    assert code == 0 and not judge_server.calls
    assert agree("weights.completeness=2", "gates={logicality: 1}")[0] == 0 and not judge_server.calls


def test_comparisons_are_not_paid_again_either(agree, judge_server):
    agree("--baseline", "pairwise")
    assert judge_server.calls["evaluate_pair"] > 0
    code, _, found = agree("--baseline", "pairwise", "weights.faithfulness=0")
    assert code == 0 and not judge_server.calls and found["agreement"]["pairwise"]["n"] == 3


def test_a_score_that_is_void_stays_void_and_is_told(agree, judge_server):
    judge_server.script["logicality"] = lambda prompt, _: "?" if PADDING in prompt else "[[8]]"
    agree()
    code, screen, found = agree("weights.faithfulness=0")
    assert code == 0 and not judge_server.calls
    assert "stay void: logicality 1;" in screen
    assert found["agreement"]["total"]["void"]["reasons"] == {"parse_error": 2}
    code, screen, found = agree("weights.logicality=0")
    assert code == 0 and found["agreement"]["total"]["n"] == 3 and "stay void" not in screen


@pytest.mark.parametrize(
    ("first", "words", "sentence"),
    [
        (["weights.faithfulness=0"], [], "scored with other weights, without faithfulness; choose another --out"),
        ([], ["weights.faithfulness=0", "judge.temperature=0.5"], "another reward configuration"),
        ([], ["weights.faithfulness=0", "retrieval.top_k=3"], "another reward configuration"),
    ],
)
def test_a_file_that_does_not_hold_the_scores_is_refused(agree, judge_server, first, words, sentence):
    agree(*first)
    code, screen, _ = agree(*words)
    assert code == 2 and sentence in screen and not judge_server.calls


def test_a_file_that_lacks_answers_is_refused(agree, tmp_path, judge_server):
    agree()
    path = tmp_path / "judged.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    code, screen, _ = agree("weights.faithfulness=0")
    assert code == 2 and "lacks 1 of 3 answers" in screen and not judge_server.calls
