"""The published example's files as they are: responses without contexts, scored, paired and compared, by no hand."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import published_example
import pytest

from longreward import cli
from longreward.schema import ScoredAnswer
from longreward.store import read

DOCUMENTS = {
    11: ("Mara sold copper to Otto in Lisbon. The mill burned down in 1921.", "What did Mara sell, and to whom?"),
    12: ("The clinic opened in 1962 with forty beds. A ward came in 1981.", "How did the clinic develop?"),
}
ANSWERS = {
    11: [
        "Mara sold copper to Otto.",
        "Mara sold copper to Otto in Lisbon.",
        "She sold silver to Karl.",
        "I hope this helps.",
        "Otto sold copper to Mara.",
    ],
    12: ["It opened in 1962 with forty beds, and a ward came in 1981.", "It closed in 1990."],
}


PUBLISHED = Path(__file__).parents[3] / published_example.DATA


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def example(tmp_path) -> Path:
    """sft.jsonl and sampled_responses.jsonl with the fields and ids of the published ones."""
    sft = [{"idx": i, "query": q, "answer": ANSWERS[i][0], "context": c} for i, (c, q) in DOCUMENTS.items()]
    write(tmp_path / "sft.jsonl", sft)
    found = [
        {"idx": f"{'llama-' * (number % 2)}{i}-{number}", "query": DOCUMENTS[i][1], "answer": answer}
        for i, answers in ANSWERS.items()
        for number, answer in enumerate(answers)
    ]
    write(tmp_path / "sampled_responses.jsonl", found)
    return tmp_path


def score(folder: Path, *words: str) -> int:
    paths = [str(folder / "sampled_responses.jsonl"), "--out", str(folder / "scored_responses.jsonl")]
    return cli.main(["score", *paths, "--contexts", str(folder / "sft.jsonl"), "--judge", "offline", *words])


def scored(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "scored_responses.jsonl").read_text().splitlines()]


def published_pairs(folder: Path) -> list[dict]:
    """What the published pair script makes of the scored responses: it reads these fields, and the whole number before
    the last dash of idx."""
    contexts = {row["idx"]: row["context"] for row in map(json.loads, (folder / "sft.jsonl").read_text().splitlines())}
    groups = defaultdict(list)
    for row in scored(folder):
        groups[int(row["idx"].split("-")[-2])].append(row)
    pairs = []
    for idx, group in groups.items():
        if len(group) >= 5:
            group.sort(key=lambda row: row["scores"]["total"], reverse=True)
            pairs.append(
                {
                    "idx": idx,
                    "context": contexts[idx],
                    "query": group[0]["query"],
                    "win_response": group[0]["answer"],
                    "lose_response": group[-1]["answer"],
                }
            )
    return pairs


def test_responses_are_joined_scored_paired_by_the_published_way_and_compared(example, capsys):
    assert score(example) == 0
    assert [row["idx"] for row in scored(example)][:3] == ["11-0", "llama-11-1", "11-2"]
    assert all(0 <= row["scores"]["total"] <= 10 for row in scored(example))
    (pair,) = published_pairs(example)
    assert (pair["idx"], pair["win_response"]) == (11, ANSWERS[11][1])
    assert score(example) == 0 and "7 of 7 answers are already scored" in capsys.readouterr().err
    pairs, agreement = write(example / "pairs.jsonl", [pair]), example / "agreement.json"
    assert cli.main(["agree", str(pairs), "--judge", "offline", "--json", str(agreement)]) == 0
    assert json.loads(agreement.read_text())["agreement"]["total"]["agree_ties_half"]["share"] == 1


def test_joined_and_own_contexts_score_alike(example):
    assert score(example) == 0
    whole = [
        json.loads(line) | {"context": DOCUMENTS[int(json.loads(line)["idx"].split("-")[-2])][0]}
        for line in (example / "sampled_responses.jsonl").read_text().splitlines()
    ]
    source, out = write(example / "whole.jsonl", whole), example / "whole.scored.jsonl"
    assert cli.main(["score", str(source), "--out", str(out), "--judge", "offline"]) == 0
    alike = [(row["idx"], row["key"], row["scores"]) for row in map(json.loads, out.read_text().splitlines())]
    assert alike == [(row["idx"], row["key"], row["scores"]) for row in scored(example)]


def test_what_reads_a_file_of_scores_finds_its_documents(example, capsys):
    assert score(example) == 0
    capsys.readouterr()
    rows = ["--input", str(example / "sampled_responses.jsonl"), "--contexts", str(example / "sft.jsonl")]
    path, was = str(example / "scored_responses.jsonl"), example / "was.yaml"
    was.write_text("judge: {kind: offline}\n")
    again = [path, "--out", str(example / "again.jsonl"), "--was", str(was), "faithfulness.without_statements=1", *rows]
    assert cli.main(["rejudge", *again]) == 0
    assert "asked again: faithfulness" in capsys.readouterr().out
    records = [row for _, _, row in read(example / "again.jsonl", None, ScoredAnswer)]
    assert [row.id for row in records] == [row["idx"] for row in scored(example)]
    assert cli.main(["report", path, "--out", str(example / "page.html"), *rows]) == 0
    assert cli.main(["report", path, "--out", str(example / "page.html"), *rows[2:]]) == 2
    assert "give the rows that were scored as --input" in capsys.readouterr().err
    asked = [str(example / "sampled_responses.jsonl"), "--contexts", str(example / "sft.jsonl"), "--judge", "offline"]
    assert cli.main(["estimate", *asked]) == 0 and "7 answers about 2 documents" in capsys.readouterr().out


def test_responses_without_a_document_are_named(example, capsys):
    more = {"idx": "13-0", "query": "Who?", "answer": "Otto."}, {"idx": "13", "query": "Who?", "answer": "Otto."}
    with (example / "sampled_responses.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in more)
    assert score(example) == 1
    err = capsys.readouterr().err
    assert "sampled_responses.jsonl:8: no context for document '13' in" in err
    assert "sampled_responses.jsonl:9: idx '13' is not document-sample, as 11-7" in err
    assert len(scored(example)) == 7


@pytest.mark.parametrize("command", ["score", "estimate", "audit"])
def test_responses_that_ask_something_else_than_their_row_are_counted(example, command, capsys):
    told = "2 of 7 responses ask something else than the row with their idx"
    source = example / "sampled_responses.jsonl"
    words = [command, str(source), "--contexts", str(example / "sft.jsonl"), "--judge", "offline"]

    def out(name: str) -> list[str]:
        return [] if command == "estimate" else ["--out", str(example / name)]

    assert cli.main([*words, *out("one")]) == 0 and "something else" not in capsys.readouterr().err
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    write(source, [row | {"query": "Who else?"} if number in (0, 2) else row for number, row in enumerate(rows)])
    assert cli.main([*words, *out("other")]) == 0
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("contexts", "sentence"),
    [
        ([], "(responses without a context need --contexts SFT.jsonl); first problem"),
        (["--contexts", "none.jsonl"], "none.jsonl cannot be read"),
        (["--contexts", "other.jsonl"], "no context for document '11' in other.jsonl"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(example, monkeypatch, capsys, contexts, sentence):
    monkeypatch.chdir(example)
    write(example / "other.jsonl", [{"idx": 99, "context": "x", "query": "y"}])
    out = ["--out", "out.jsonl", "--judge", "offline"]
    assert cli.main(["score", "sampled_responses.jsonl", *out, *contexts]) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("longreward: ")]
    assert len(err) == 1 and sentence in err[0]
    assert not (example / "out.jsonl").exists()


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published example is not there")
def test_the_published_files_themselves_take_no_work_by_hand(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["published_example.py", "--data", str(PUBLISHED)])
    assert published_example.main() == 0
    table = capsys.readouterr().out
    assert "10 of 10 answers" in table and "1 of 1 questions" in table and table.count("1 of 1 pairs") == 2
