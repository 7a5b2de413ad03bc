"""`longreward agree` as a user runs it: labelled pairs in, agreement out, killed and started again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from longreward import cli

CONTEXT = "Mara sold copper to Otto in Lisbon. Lena bought 40 apples from Karl in Rome."
HELPFULNESS_ONLY = "weights={helpfulness: 1}"


def answer(rating: float | str, number: int = 0) -> str:
    """An answer that the scripted judge rates so."""
    return f"Mara sold {number} crates, rated {rating}."


def rated(prompt: str, _: int) -> str:
    return f"[[{re.findall(r'crates, rated (.+)[.]', prompt)[-1]}]]"


def pair(idx, preference: str, a, b) -> dict:
    """Ratings of the two answers; a text stands for itself."""
    a, b = (text if isinstance(text, str) else answer(text, idx) for text in (a, b))
    return {
        "idx": idx, "context": CONTEXT, "query": "What did Mara do?", "answer_a": a, "answer_b": b,
        "preference": preference,
    }  # fmt: skip


def published(idx, win, lose) -> dict:
    row = pair(idx, "a", win, lose)
    del row["preference"]
    return row | {"win_response": row.pop("answer_a"), "lose_response": row.pop("answer_b")}


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass
class Done:
    code: int
    stdout: str
    stderr: str
    summary: dict | None

    def row(self, name: str) -> list[str]:
        return next(line.split() for line in self.stdout.splitlines() if line.startswith(name))


@pytest.fixture
def agree(capsys, tmp_path):
    def run(*arguments) -> Done:
        file = tmp_path / "agreement.json"
        file.unlink(missing_ok=True)
        code = cli.main(["agree", *map(str, arguments), *([] if "--json" in arguments else ["--json", str(file)])])
        out, err = capsys.readouterr()
        return Done(code, out, err, json.loads(file.read_text()) if file.exists() else None)

    return run


@pytest.fixture
def judged(judge_server) -> tuple[str, ...]:
    """Arguments for a judge that rates each answer as it says itself."""
    judge_server.script = {"helpfulness": rated}
    judge = ("--judge", "openai", "--base-url", judge_server.url, "--model", "judge", "judge.max_attempts=1")
    return (*judge, HELPFULNESS_ONLY)


def test_offline_agrees_with_who_prefers_what_the_document_says(agree, tmp_path, rows):
    good, wrong, padding = (row["answer"] for row in rows)
    source = write(
        tmp_path / "pairs.jsonl",
        [published(0, good, wrong), published(1, wrong, padding), pair(2, "b", padding, good)],
    )
    done = agree(source, "--judge", "offline")
    assert done.code == 0, done.stderr
    assert "stand-in" in done.stderr
    assert done.row("total")[1:4] == ["3", "100.0%", "43.9-100.0%"]
    dimensions = ["helpfulness", "logicality", "faithfulness", "completeness"]
    assert list(done.summary["agreement"]) == [*dimensions, "total", *(f"without {name}" for name in dimensions)]
    assert {one["idx"]: one["judge"]["total"] for one in done.summary["pairs"]} == {"0": "a", "1": "a", "2": "b"}


def test_agreement_ties_and_human_ties_are_counted_apart(agree, tmp_path, judged):
    pairs = [pair(i, "a", 8, 3) for i in range(6)] + [published(6, 9, 2), pair(7, "b", 5, 4)]
    pairs += [pair(8, "a", 7, "Mara sold 9 crates, rated 7."), pair(9, "tie", 6, 5), pair(10, "tie", 6, 6.5)]
    done = agree(write(tmp_path / "pairs.jsonl", pairs), *judged)
    assert done.code == 0, done.stderr
    assert done.row("total")[1:7] == ["9", "83.3%", "50.7-96.1%", "87.5%", "11.1%", "0"]
    assert "equal scores (ties) count half" in done.stdout
    assert "human ties: 2; the two totals are 0.75 apart there" in done.stdout
    assert "11 human labels, 2 of them ties" in done.stderr
    total = done.summary["agreement"]["total"]
    assert total["agree_ties_half"]["count"] == 7.5 and total["agree_decided"]["n"] == 8
    assert total["human_ties"] == {"n": 2, "gap": 0.75}


def test_which_answer_stands_first_does_not_matter(agree, tmp_path, judged):
    pairs = [pair(0, "a", 8, 3), pair(1, "b", 8, 3), pair(2, "tie", 4, 3), pair(3, "b", 1, 9), pair(4, "a", 9, 1)]
    swapped = [
        row | {"answer_a": row["answer_b"], "answer_b": row["answer_a"], "preference": {"a": "b", "b": "a"}.get(p, p)}
        for row in pairs
        for p in [row["preference"]]
    ]
    one = agree(write(tmp_path / "pairs.jsonl", pairs), *judged)
    other = agree(write(tmp_path / "swapped.jsonl", swapped), *judged)
    assert one.summary["agreement"] == other.summary["agreement"]
    assert one.row("total") == other.row("total")


def test_void_pairs_are_counted_by_reason_and_nowhere_else(agree, tmp_path, judged):
    pairs = [pair(0, "a", 8, 3), pair(1, "a", "crates, rated ?.", 3), pair(2, "b", 8, "crates, rated 11.")]
    done = agree(write(tmp_path / "pairs.jsonl", pairs), *judged)
    assert done.code == 0, done.stderr
    for name in ("helpfulness", "total"):
        assert done.row(name)[1:3] == ["1", "100.0%"]
        assert done.row(name)[6:] == ["2", "parse_error", "2"]
    assert done.summary["agreement"]["total"]["void"] == {"n": 2, "reasons": {"parse_error": 2}}
    assert [one["judge"]["total"] for one in done.summary["pairs"]] == ["a", None, None]


def test_a_dimension_counts_also_where_the_total_is_void(agree, tmp_path, judged, judge_server):
    judge_server.script["logicality"] = lambda prompt, _: "?" if "rated 3" in prompt else "[[7]]"
    pairs = [pair(0, "a", 8, 3), pair(1, "a", 9, 4)]
    done = agree(write(tmp_path / "pairs.jsonl", pairs), *judged[:-1], "weights={helpfulness: 1, logicality: 1}")
    assert [done.row(name)[1] for name in ("helpfulness", "logicality", "total")] == ["2", "1", "1"]
    assert done.row("total")[6:] == ["1", "parse_error", "1"]


def test_broken_rows_are_named_and_the_rest_goes_on(agree, tmp_path):
    source = tmp_path / "pairs.jsonl"
    lines = [
        json.dumps(pair(0, "a", CONTEXT, "I hope this helps.")),
        "not json",
        json.dumps(pair(2, "A", 8, 3)),
        json.dumps(pair(3, "a", 8, 3) | {"query": 7}),
        json.dumps({"idx": 4, "context": "x", "query": "y", "answer": "z"}),
        json.dumps({"idx": 5, "context": "x", "query": "y", "win_response": "z"}),
        json.dumps(published(6, 8, 3) | {"preference": "b"}),
        json.dumps(pair(7, "a", "same", "same")),
        json.dumps(pair(8, "a", 8, 3) | {"idx": [8]}),
    ]
    source.write_text("\n".join(lines))
    done = agree(source, "--judge", "offline")
    assert done.code == 1
    assert done.row("total")[1] == "1" and done.summary["skipped_rows"] == 8
    for part in (
        "pairs.jsonl:2: not a JSON object",
        'pairs.jsonl:3: preference is \'A\'; write "a", "b" or "tie"',
        "pairs.jsonl:4: query must be text, found int",
        "pairs.jsonl:5: answer_a, answer_b, preference missing",
        "pairs.jsonl:6: lose_response missing",
        "pairs.jsonl:7: it has the fields of several formats",
        "pairs.jsonl:8: answer_a and answer_b are the same text",
        "pairs.jsonl:9: idx must be text or a whole number, found [8]",
        "8 rows were skipped",
    ):
        assert part in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.jsonl"], "none.jsonl cannot be read"),
        (["rows.jsonl"], "holds no readable pair, which has context, query, and win_response and lose_response"),
        (["ties.jsonl"], "in all 1 pairs preference is 'tie'"),
        (["pairs.jsonl", "--json", "pairs.jsonl"], "--json pairs.jsonl would overwrite that file"),
        (["pairs.jsonl", "--json", "rows.jsonl/x.json"], "rows.jsonl/x.json cannot be written"),
        (["pairs.jsonl", "--out", "rows.jsonl/x.jsonl"], "rows.jsonl/x.jsonl cannot be written"),
        (["pairs.jsonl", "--out", "pairs.jsonl"], "choose another --out"),
        (["pairs.jsonl", "judge.kindd=offline"], "did you mean 'kind'?"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(agree, tmp_path, monkeypatch, rows, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    write(Path("rows.jsonl"), rows)
    write(Path("pairs.jsonl"), [pair(0, "a", 8, 3)])
    write(Path("ties.jsonl"), [pair(0, "tie", 8, 3)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = agree(*arguments, "--judge", "offline")
    assert done.code == 2
    assert sentence in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("longreward: ")]) == 1
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_an_answer_of_several_pairs_is_scored_once(agree, tmp_path, judged, judge_server):
    best, *others = (answer(rating) for rating in (9, 7, 5, 3))
    pairs = [pair(i, "a", best, other) for i, other in enumerate(others)] + [pair(9, "b", best, others[0])]
    done = agree(write(tmp_path / "pairs.jsonl", pairs), *judged, "--out", tmp_path / "out.jsonl")
    assert done.code == 0, done.stderr
    assert judge_server.calls["helpfulness"] == 4 == len(read(tmp_path / "out.jsonl"))
    assert done.row("total")[1:3] == ["4", "75.0%"]
    assert "labels about two answers that were labelled before: 1;" in done.stderr


def test_scores_are_kept_and_not_paid_again_by_other_pairs_either(agree, tmp_path, judged, judge_server):
    out = tmp_path / "out.jsonl"
    first, second = [pair(0, "a", 8, 3), published(1, 9, 2)], [pair(2, "b", 4, 6)]
    done = agree(write(tmp_path / "first.jsonl", first), *judged, "--out", out)
    assert done.code == 0 and f"scores: {out}" in done.stdout and "nothing is kept" not in done.stderr
    assert [row["idx"] for row in read(out)] == ["0/a", "0/b", "1/win", "1/lose"]
    assert {row["key"] for row in read(out)} >= set(done.summary["pairs"][0]["keys"].values())
    assert read(out)[0]["detail"]["helpfulness"]["calls"][0]["text"] == "[[8]]"

    assert agree(write(tmp_path / "second.jsonl", second), *judged, "--out", out).code == 0
    assert judge_server.calls["helpfulness"] == 6
    again = agree(tmp_path / "first.jsonl", *judged, "--out", out)
    assert judge_server.calls["helpfulness"] == 6 and "4 of 4 answers are already scored" in again.stderr
    assert again.summary["agreement"] == done.summary["agreement"]
    assert len(read(out)) == 6
    other = agree(tmp_path / "first.jsonl", *judged, "--out", out, "judge.temperature=0.5")
    assert other.code == 2 and "another reward configuration" in other.stderr


def test_without_out_a_user_is_told_that_nothing_is_kept(agree, tmp_path, judged):
    source = write(tmp_path / "pairs.jsonl", [pair(0, "a", 8, 3)])
    assert "without --out nothing is kept" in agree(source, *judged).stderr
    assert "nothing is kept" not in agree(source, *judged, f"cache.path={tmp_path / 'verdicts.db'}").stderr
    assert {path.name for path in tmp_path.iterdir()} >= {"pairs.jsonl", "agreement.json", "verdicts.db"}


def test_a_spend_cap_ends_the_run_and_a_higher_one_goes_on(agree, tmp_path, judged, judge_server):
    source = write(tmp_path / "pairs.jsonl", [pair(i, "a", 8, 3) for i in range(8)])
    arguments = (source, *judged, "--concurrency", "1", "judge.max_tokens=100")
    lost = agree(*arguments, "judge.spend.max_tokens=1500")
    assert lost.code == 1 and "with --out to keep what is scored" in lost.stderr
    judge_server.calls.clear()
    stopped = agree(*arguments, "--out", tmp_path / "out.jsonl", "judge.spend.max_tokens=1500")
    assert stopped.code == 1 and "run the same command again to continue" in stopped.stderr
    assert not stopped.summary["complete"]
    total = stopped.summary["agreement"]["total"]
    assert total["void"]["reasons"] == {"spend_cap": 8 - total["n"]} and total["n"] < 8
    done = agree(*arguments, "--out", tmp_path / "out.jsonl", "judge.spend.max_tokens=600000")
    assert done.code == 0, done.stderr
    assert done.summary["agreement"]["total"]["n"] == 8 and done.summary["complete"]
    assert judge_server.calls["helpfulness"] == 16
    assert done.summary["usage"]["calls"] == 16


def test_a_killed_run_continues_without_paying_again(agree, tmp_path, judged, judge_server):
    source = write(tmp_path / "pairs.jsonl", [pair(i, "a", 8, 3) for i in range(8)])
    out = tmp_path / "out.jsonl"
    judge_server.latency = 0.2
    command = [sys.executable, "-m", "longreward", "agree", source, "--out", out, *judged, "--concurrency", "2"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (out.exists() and len(out.read_bytes().splitlines()) >= 5):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = out.read_bytes().count(b"\n")
    with out.open("ab") as file:
        file.write(b'{"idx": "cut by the ki')
    judge_server.calls.clear()
    judge_server.latency = 0
    done = agree(source, "--out", out, *judged)
    assert done.code == 0, done.stderr
    assert judge_server.calls["helpfulness"] == 16 - kept
    assert done.row("total")[1:3] == ["8", "100.0%"]
    assert [row["idx"] for row in read(out)] == [f"{i}/{side}" for i in range(8) for side in "ab"]
