"""Files whose rows have criteria: scored, continued, estimated, judged again and looked at."""

from __future__ import annotations

import json

import pytest
import yaml

from longreward import cli
from longreward.schema import ScoredAnswer
from longreward.store import read

DOCUMENT = "Mara sold copper in Oslo. Otto bought the copper in 1921. The mill burned down."
ROW = {"context": DOCUMENT, "query": "What did Mara do?", "answer": "Mara sold 40 crates to Otto in Oslo."}
FIRST = [{"text": "Says that she sold something in Oslo.", "weight": 2}, "Names the year 1921."]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path, judge_server):
    write(tmp_path / "in.jsonl", [ROW | {"idx": 1, "criteria": FIRST}, ROW | {"idx": 2, "criteria": ["Is short."]}])
    judge = {"kind": "openai", "model": "judge", "base_url": judge_server.url, "retry_base_s": 0.01}
    (tmp_path / "was.yaml").write_text(yaml.safe_dump({"judge": judge, "weights": {"criteria": 1}}))
    return tmp_path


def run(command, folder, *words, source="in.jsonl"):
    given = {"score": ["--out", str(folder / "out.jsonl")]}.get(command, [])
    return cli.main([command, str(folder / source), *given, "--config", str(folder / "was.yaml"), *words])


def records(path) -> dict[str, ScoredAnswer]:
    return {record.id: record for _, _, record in read(path, None, ScoredAnswer)}


def test_each_row_is_judged_by_its_own_criteria(files, judge_server, capsys):
    judge_server.script["criteria"] = lambda prompt, _: (
        "1. [[Met]]\n2. [[Unmet]]" if "1921" in prompt.rpartition("<criteria>")[2] else "1. [[Partly met]]"
    )
    assert run("score", files) == 0
    found = records(files / "out.jsonl")
    assert {name: record.total for name, record in found.items()} == pytest.approx({"1": 20 / 3, "2": 5})
    assert [(one.text, one.met) for one in found["1"].dimensions["criteria"].criteria] == [
        ("Says that she sold something in Oslo.", 1),
        ("Names the year 1921.", 0),
    ]
    assert "criteria" in capsys.readouterr().out


def test_a_changed_criterion_is_scored_again_and_nothing_else(files, judge_server, capsys):
    assert run("score", files) == 0
    assert judge_server.calls.total() == 2
    assert run("score", files) == 0 and judge_server.calls.total() == 2
    write(files / "in.jsonl", [ROW | {"idx": 1, "criteria": FIRST}, ROW | {"idx": 2, "criteria": ["Is polite."]}])
    assert run("score", files) == 0 and judge_server.calls.total() == 3
    assert "1 of 2 answers are already scored" in capsys.readouterr().err


def test_without_a_weight_the_column_changes_nothing(files, judge_server):
    plain = write(files / "plain.jsonl", [ROW | {"idx": 1}])
    write(files / "odd.jsonl", [ROW | {"idx": 1, "criteria": "whatever"}])
    helpful = ["weights={helpfulness: 1}"]
    assert run("score", files, *helpful, source=plain.name) == 0
    ((_, _, before),) = read(files / "out.jsonl", None, ScoredAnswer)
    assert run("score", files, *helpful, source="odd.jsonl") == 0
    ((_, _, after),) = read(files / "out.jsonl", None, ScoredAnswer)
    assert before.key == after.key and judge_server.calls.total() == 1


def test_rows_without_usable_criteria_are_named_before_anything_is_paid(files, judge_server, capsys):
    bad = [ROW | {"idx": 1}, ROW | {"idx": 2, "criteria": ["Fine.", {"text": "", "weight": 1}]}]
    write(files / "bad.jsonl", bad)
    assert run("score", files, source="bad.jsonl") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "holds no readable row with context, query, answer and criteria" in told
    assert "bad.jsonl:1: there are no criteria; add the field criteria" in told
    assert not judge_server.calls
    write(files / "bad.jsonl", [*bad, ROW | {"idx": 3, "criteria": FIRST}])
    assert run("score", files, source="bad.jsonl") == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "bad.jsonl:2: criteria: criterion 2: text is '': it is empty; write what the answer should do" in told
    assert judge_server.calls.total() == 1


def test_an_estimate_is_of_the_criteria_that_are_there(files, capsys):
    answered = ROW | {"criteria": [f"Fact {i}." for i in range(30)]}
    prompt = {"context": DOCUMENT, "query": "Who is Otto?", "criteria": FIRST}
    write(files / "in.jsonl", [answered, prompt])
    assert run("estimate", files) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if "criteria" in line] == ["3"]


def test_another_judge_is_asked_about_the_same_criteria(files, judge_server):
    assert run("score", files) == 0
    judge_server.script["criteria"] = lambda prompt, _: "1. [[Unmet]]\n2. [[Met]]" if "1921" in prompt else "1. [[Met]]"
    words = ["--was", str(files / "was.yaml"), "--input", str(files / "in.jsonl"), "judge.model=other"]
    again = ["rejudge", str(files / "out.jsonl"), "--out", str(files / "again.jsonl"), *words]
    assert cli.main(again) == 0
    assert {name: r.total for name, r in records(files / "again.jsonl").items()} == pytest.approx(
        {"1": 10 / 3, "2": 10}
    )


def test_criteria_are_added_to_what_was_scored_without_them(files, judge_server):
    assert run("score", files, "weights={helpfulness: 1}") == 0
    judge_server.calls.clear()
    (files / "old.yaml").write_text((files / "was.yaml").read_text().replace("criteria: 1", "helpfulness: 1"))
    words = ["--was", str(files / "old.yaml"), "--input", str(files / "in.jsonl")]
    again = ["rejudge", str(files / "out.jsonl"), "--out", str(files / "again.jsonl"), *words]
    assert cli.main([*again, "weights={helpfulness: 1, criteria: 1}"]) == 0
    assert dict(judge_server.calls) == {"criteria": 2}
    assert {r.total for r in records(files / "again.jsonl").values()} == {(8 + 10) / 2}


def test_a_run_has_the_criteria_in_its_prompts(files, make_run, judge_server):
    assert run("score", files) == 0
    made = make_run(reward=yaml.safe_load((files / "was.yaml").read_text()))
    made.prompt("p", DOCUMENT, ROW["query"])
    (prompts,) = (made.path / "data").iterdir()
    row = json.loads(prompts.read_text())
    label = json.loads(row["label"]) | {"criteria": [{"text": "Is polite.", "weight": 1}]}
    write(prompts, [row | {"label": json.dumps(label)}])
    record = next(iter(records(files / "out.jsonl").values())).model_dump(mode="json")
    made.line("store/answers-0-a.jsonl", json.dumps(record | {"id": "p", "split": "train", "rollout": "0"}))
    judge_server.prompts.clear()
    assert cli.main(["rejudge", str(made.path), "--out", str(files / "again.jsonl"), "judge.model=other"]) == 0
    ((_, prompt),) = judge_server.prompts
    assert "1. Is polite.\n</criteria>" in prompt


def test_agreement_with_people_is_of_criteria_too(files, judge_server, capsys):
    judge_server.script["criteria"] = lambda prompt, _: "1. [[Met]]" if "40 crates" in prompt else "1. [[Unmet]]"
    pair = {**ROW, "answer_a": ROW["answer"], "answer_b": "She left.", "preference": "a", "criteria": ["Names crates."]}
    write(files / "pairs.jsonl", [pair | {"idx": 1}])
    assert cli.main(["agree", str(files / "pairs.jsonl"), "--config", str(files / "was.yaml")]) == 0
    assert "criteria" in capsys.readouterr().out
