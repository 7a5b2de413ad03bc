"""`longreward rejudge`: other settings for answers that are scored already."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from longreward import cli
from longreward.schema import ScoredAnswer
from longreward.store import read

DOCUMENTS = [
    "Mara sold copper in Oslo. Otto bought the copper in 1921. The mill burned down.",
    "The clinic opened in 1962 with forty beds. A ward for children came in 1981.",
]
ANSWERS = [
    ("Mara sold copper in Oslo.", "What did Mara do?", 0),
    ("Mara stole silver. Otto bought the copper in 1921.", "What did Mara do?", 0),
    ("Mara sold copper in Oslo. Otto bought it. The mill burned down.", "What did Mara do?", 0),
    ("It opened in 1962 with forty beds.", "How did the clinic develop?", 1),
    ("It closed in 1990.", "How did the clinic develop?", 1),
    ("", "How did the clinic develop?", 1),
]


@pytest.fixture
def files(tmp_path):
    rows = [{"idx": i, "context": DOCUMENTS[d], "query": q, "answer": a} for i, (a, q, d) in enumerate(ANSWERS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "was.yaml").write_text("judge: {kind: offline}\n")
    return tmp_path


def records(path) -> dict[str, ScoredAnswer]:
    return {record.id: record for _, _, record in read(path, None, ScoredAnswer)}


def totals(path) -> dict[str, float | None]:
    return {name: record.total for name, record in records(path).items()}


def scored(folder, name="scores.jsonl", *words):
    out = folder / name
    config = ["--config", str(folder / "was.yaml")]
    assert cli.main(["score", str(folder / "in.jsonl"), "--out", str(out), *config, *words]) == 0
    return out


def rejudge(folder, source, *words, out="again.jsonl", was=True):
    given = ["--was", str(folder / "was.yaml")] if was else []
    return cli.main(["rejudge", str(source), "--out", str(folder / out), *given, *words])


def test_places_among_siblings_are_not_found_again(files, capsys):
    source = scored(files)
    assert rejudge(files, source, "helpfulness.way=ranking", "--input", str(files / "in.jsonl")) == 2
    assert "longreward rejudge does not know all answers to a prompt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["weights.completeness=3", "weights.logicality=0.5"],
        ["weights={helpfulness: 1, faithfulness: 2}"],
        ["gates={faithfulness: 6}"],
        ["copying.loss=0"],
        ["copying.answered=null"],
    ],
    ids=str,
)
def test_other_rules_give_what_scoring_anew_gives_and_ask_nothing(files, words, capsys):
    old = scored(files)
    capsys.readouterr()
    source = ["--input", str(files / "in.jsonl")] if "copying" in words[0] else []
    assert rejudge(files, old, *words, *source) == 0
    assert "nothing is asked: 0 judge calls" in capsys.readouterr().out
    fresh, again = records(scored(files, "fresh.jsonl", *words)), records(files / "again.jsonl")
    assert again.keys() == fresh.keys()
    for name, record in again.items():
        assert record.total == pytest.approx(fresh[name].total) and record.kept == pytest.approx(fresh[name].kept)
        assert (record.config, record.key) == (fresh[name].config, fresh[name].key)
        assert record.scores == pytest.approx(fresh[name].scores) and record.usage.calls == 0


def test_the_scores_are_a_file_that_scoring_goes_on_with_and_a_report_reads(files, capsys):
    old = scored(files)
    assert rejudge(files, old, "weights.completeness=3") == 0
    scored(files, "again.jsonl", "weights.completeness=3")
    assert "6 of 6 answers are already scored" in capsys.readouterr().err
    page = str(files / "page.html")
    assert cli.main(["report", str(old), str(files / "again.jsonl"), "--out", page]) == 0


def with_judge(folder, server, **sections):
    judge = {"kind": "openai", "model": "judge", "base_url": server.url, "retry_base_s": 0.01}
    (folder / "was.yaml").write_text(yaml.safe_dump({"judge": judge, **sections}))


def asked(server) -> set[str]:
    found = set(+server.calls)
    server.calls = Counter()
    return found


def test_only_what_changed_is_asked(files, judge_server):
    with_judge(files, judge_server)
    old = scored(files)
    asked(judge_server)
    before = records(old)
    words = ["faithfulness.statements_per_call=3", "--input", str(files / "in.jsonl")]
    judge_server.script["verify_many"] = "\n".join(f"{i}. Wrong. [[No support]]" for i in (1, 2, 3))
    assert rejudge(files, old, *words) == 0
    assert asked(judge_server) == {"statements", "verify_many"}
    for name, record in records(files / "again.jsonl").items():
        assert record.dimensions["helpfulness"].score == before[name].dimensions["helpfulness"].score
        if record.answer:
            assert record.dimensions["faithfulness"].score == 0
            assert record.total == pytest.approx(
                sum(d.score for n, d in before[name].dimensions.items() if n != "faithfulness") / 4 * record.kept
            )
    calls = [
        call for record in records(files / "again.jsonl").values() for call in record.dimensions["helpfulness"].calls
    ]
    assert calls and all(call.source == "cache" and call.usage.tokens == 0 for call in calls)
    assert rejudge(files, old, *words) == 0 and not asked(judge_server)  # it goes on where it stopped


def test_another_judge_is_asked_everything(files, judge_server):
    with_judge(files, judge_server)
    old = scored(files)
    asked(judge_server)
    judge_server.script["helpfulness"] = "[[2]]"
    assert rejudge(files, old, "judge.model=other", "--input", str(files / "in.jsonl")) == 0
    assert asked(judge_server) == {"helpfulness", "logicality", "completeness", "extract", "statements", "verify"}
    helpful = {name: record.dimensions["helpfulness"].score for name, record in records(files / "again.jsonl").items()}
    assert helpful == {name: 2 if ANSWERS[int(name)][0] else 0 for name in helpful}


def test_what_was_void_stays_void_unless_it_is_asked_again(files, judge_server, capsys):
    with_judge(files, judge_server)
    judge_server.script["logicality"] = "I would rather not say."
    cli.main(["score", str(files / "in.jsonl"), "--out", str(files / "s.jsonl"), "--config", str(files / "was.yaml")])
    asked(judge_server)
    judge_server.script = {}
    all_of_them = "weights={helpfulness: 1, logicality: 1, faithfulness: 1, completeness: 3}"
    assert rejudge(files, files / "s.jsonl", all_of_them) == 0 and not asked(judge_server)
    assert [total for name, total in totals(files / "again.jsonl").items() if ANSWERS[int(name)][0]] == [None] * 5
    capsys.readouterr()
    without = "weights={helpfulness: 1, faithfulness: 1, completeness: 1}"
    assert rejudge(files, files / "s.jsonl", without, out="without.jsonl") == 0
    assert None not in totals(files / "without.jsonl").values()


def run_of(files, make_run, **reward):
    """A run directory with the answers of a scored file."""
    run = make_run(reward={"name": "longreward", "judge": {"kind": "offline"}, "max_void_rate": 0.1, **reward})
    for number, document in enumerate(DOCUMENTS):
        run.prompt(f"p{number}", document, ANSWERS[3 * number][1])
    for record in records(scored(files)).values():
        row = record.model_dump(mode="json") | {"id": f"p{ANSWERS[int(record.id)][2]}", "key": "", "config": ""}
        row |= {"split": "train", "rollout": record.id}
        run.line("store/answers-0-a.jsonl", json.dumps(row))
    return run


def test_a_run_knows_its_settings_and_its_documents(files, make_run, capsys):
    run = run_of(files, make_run)
    assert rejudge(files, run.path, "copying.answered=null", was=False) == 0
    fresh = records(scored(files, "fresh.jsonl", "copying.answered=null"))
    again = [record for _, _, record in read(files / "again.jsonl", None, ScoredAnswer)]
    assert {r.rollout: r.total for r in again} == pytest.approx({name: r.total for name, r in fresh.items()})
    assert {r.split for r in again} == {"train"}
    told = capsys.readouterr().out
    assert "6 answers; nothing is asked" in told and "total" in told


def test_of_an_answer_that_was_scored_again_the_last_score_counts(files, make_run):
    run = run_of(files, make_run)
    line = json.loads((run.path / "store" / "answers-0-a.jsonl").read_text().splitlines()[0])
    line |= {"time": line["time"] + 9}
    line["dimensions"]["helpfulness"]["score"] = 1.0
    run.line("store/answers-1-b.jsonl", json.dumps(line))
    assert rejudge(files, run.path, "weights={helpfulness: 1}", was=False) == 0
    found = {
        r.rollout: r.dimensions["helpfulness"].score for _, _, r in read(files / "again.jsonl", None, ScoredAnswer)
    }
    assert len(found) == 6 and found["0"] == 1.0


def test_it_says_what_moved_and_whether_siblings_keep_their_order(files, make_run, capsys):
    run = run_of(files, make_run)
    rejudge(files, run.path, "weights={faithfulness: 1}", was=False)
    told = capsys.readouterr().out
    assert "Kendall's tau" in told and "moved most: p" in told and "longreward report" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing changes"),
        (["copying.answered=null"], "give the rows that were scored as --input"),
        (["judge.kind=openai", "judge.model=m", "judge.base_url=http://127.0.0.1:9/v1"], "--input"),
        (["weights.speed=1"], "speed"),
    ],
    ids=str,
)
def test_bad_input_is_one_sentence_and_leaves_nothing(files, words, told, capsys):
    old = scored(files)
    capsys.readouterr()
    assert rejudge(files, old, *words) == 2
    assert told in capsys.readouterr().err and not (files / "again.jsonl").exists()


@pytest.mark.parametrize("name", ["scores.jsonl", "in.jsonl", "was.yaml", "other.jsonl", "."])
def test_what_is_there_is_not_replaced(files, name, capsys):
    old, out = scored(files), files / name
    scored(files, "other.jsonl", "weights.completeness=2")
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    capsys.readouterr()
    assert rejudge(files, old, "weights.completeness=3", out=name) == 2
    assert str(out) in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_a_file_that_does_not_say_what_it_was_scored_with_needs_to_be_told(files, make_run, capsys):
    old = scored(files)
    assert rejudge(files, old, "weights.completeness=3", was=False) == 2
    assert "--was YAML" in capsys.readouterr().err
    run = make_run(reward={"name": "composite"})
    run.answer("p0", "Tin.", 5.0)
    assert rejudge(files, run.path, "weights.completeness=3", was=False) == 2
    assert "is composite" in capsys.readouterr().err


def test_a_line_that_is_no_record_is_named_and_passed_over(files, capsys):
    old = scored(files)
    with old.open("a") as file:
        file.write('{"half": \n')
    assert rejudge(files, old, "weights.completeness=3") == 1
    assert "skipped" in capsys.readouterr().err and len(totals(files / "again.jsonl")) == 6
