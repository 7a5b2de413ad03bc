"""`longreward score` as a user runs it: files in, files out, killed and started again."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow
import pytest
from aiohttp import web
from pyarrow import parquet


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*arguments, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "longreward", "score", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.fixture
def source(tmp_path, rows) -> Path:
    return write(tmp_path / "in.jsonl", rows)


def test_offline_scores_good_answers_above_bad_ones(source, tmp_path):
    out = tmp_path / "out.jsonl"
    done = run(source, "--out", out, "--judge", "offline")
    assert done.returncode == 0, done.stderr
    good, wrong, padding = (row["scores"] for row in read(out))
    assert good["total"] > wrong["total"] > padding["total"]
    assert set(good) == {"helpfulness", "logicality", "faithfulness", "completeness", "total"}
    assert wrong["faithfulness"] < good["faithfulness"]
    assert [row["idx"] for row in read(out)] == ["0", "1", "2"]
    assert all(status == "ok" for row in read(out) for status in row["status"].values())
    assert "stand-in" in done.stderr
    assert "faithfulness" in done.stdout and str(out) in done.stdout.replace("\n", "")


def test_thoughts_are_left_out_counted_and_kept(tmp_path, rows):
    thinking = [{**row, "answer": f"<think>Perhaps Karl.</think>{row['answer']}"} for row in rows]
    plain, out = tmp_path / "plain.jsonl", tmp_path / "out.jsonl"
    run(write(tmp_path / "plain-in.jsonl", rows), "--out", plain, "--judge", "offline")
    done = run(write(tmp_path / "in.jsonl", thinking), "--out", out, "--judge", "offline")
    assert done.returncode == 0, done.stderr
    assert "thoughts left out of 3 answers, 28 characters each" in done.stdout
    assert [row["scores"] for row in read(out)] == [row["scores"] for row in read(plain)]
    assert [row["thought_chars"] for row in read(out)] == [28] * 3
    assert all(row["answer"].startswith("<think>") for row in read(out))


@pytest.mark.parametrize("form", ["list in gzip", "UTF-16", "parquet"])
def test_rows_in_another_form_are_scored_under_their_ids(tmp_path, rows, form):
    """As pandas writes them: a column of whole numbers with a gap becomes fractions and null."""
    source, out = tmp_path / "in", tmp_path / "out.jsonl"
    named = [
        row | {"idx": idx, "id": f"doc-{n}"} for n, (idx, row) in enumerate(zip((11.0, None, 12.0), rows, strict=True))
    ]
    lines = "".join(json.dumps(row) + "\n" for row in named)
    if form == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(named), source)
    else:
        source.write_bytes(lines.encode("utf-16") if form == "UTF-16" else gzip.compress(json.dumps(named).encode()))
    done = run(source, "--out", out, "--judge", "offline")
    assert done.returncode == 0, done.stderr
    assert [row["idx"] for row in read(out)] == ["11", "doc-1", "12"]


def test_rows_that_no_one_can_use_are_counted(tmp_path, rows):
    deep = {"idx": 4, "context": "c", "query": "q", "answer": "a", "more": "@"}
    odd = [rows[0] | {"idx": 5, "answer": "cut \ud83d"}, rows[0] | {"idx": 6, "context": "a\0b"}, deep]
    source, out = write(tmp_path / "in.jsonl", [*rows, *odd]), tmp_path / "out.jsonl"
    source.write_text(source.read_text().replace('"@"', "[" * 100_000 + "]" * 100_000))
    done = run(source, "--out", out, "--judge", "offline")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(read(out)) == 3 and "3 rows were skipped" in done.stderr.replace("\n", " ")


def test_a_second_run_scores_nothing_again(source, tmp_path, judge_server):
    out = tmp_path / "out.jsonl"
    arguments = (source, "--out", out, "--judge", "openai", "--base-url", judge_server.url, "--model", "judge")
    assert run(*arguments).returncode == 0
    first, calls = read(out), judge_server.calls.total()
    again = run(*arguments)
    assert again.returncode == 0 and "already scored" in again.stderr
    assert judge_server.calls.total() == calls
    assert read(out) == first


def test_a_killed_run_continues_where_it_stopped(tmp_path, rows, judge_server):
    many = [rows[0] | {"idx": i, "answer": f"Mara sold {i} crates."} for i in range(12)]
    source, out = write(tmp_path / "in.jsonl", many), tmp_path / "out.jsonl"
    judge_server.latency = 0.3
    arguments = [source, "--out", out, "--judge", "openai", "--base-url", judge_server.url, "--model", "judge"]
    command = [sys.executable, "-m", "longreward", "score", *map(str, arguments), "--concurrency", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not (out.exists() and len(out.read_bytes().splitlines()) >= 4):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with out.open("ab") as file:
        file.write(b'{"idx": "cut by the ki')
    kept = len(read_whole(out))
    judge_server.calls.clear()
    assert run(*arguments).returncode == 0
    assert [row["idx"] for row in read(out)] == [str(i) for i in range(12)]
    assert judge_server.calls["helpfulness"] == 12 - kept


def read_whole(path: Path) -> list[dict]:
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def test_void_answers_are_null_and_asked_again_next_time(tmp_path, rows, judge_server):
    source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    arguments = (source, "--out", out, "--judge", "openai", "--base-url", judge_server.url, "--model", "judge")
    judge_server.script = {"logicality": lambda prompt, _: "?" if "silver" in prompt else "[[8]]"}
    done = run(*arguments, "judge.max_attempts=1")
    assert done.returncode == 0
    void = read(out)[1]
    assert void["scores"]["logicality"] is None and void["scores"]["total"] is None
    assert void["scores"]["helpfulness"] == 8
    assert void["status"]["logicality"] == "parse_error"
    assert "parse_error 1" in done.stdout
    judge_server.script, before = {}, judge_server.calls["helpfulness"]
    assert run(*arguments, "judge.max_attempts=1").returncode == 0
    assert judge_server.calls["helpfulness"] == before + 1
    assert read(out)[1]["scores"]["total"] is not None


def test_broken_rows_are_named_and_the_rest_goes_on(tmp_path, rows):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    good = json.dumps(rows[0])
    source.write_text(f'{good}\nnot json\n{{"idx": 5, "context": "x", "query": 3, "answer": "y"}}\n[1]\n')
    done = run(source, "--out", out, "--judge", "offline")
    assert done.returncode == 1
    assert len(read(out)) == 1
    problems = done.stderr.replace("\n", "")
    for part in ("in.jsonl:2:", "in.jsonl:3: query must be text, found int", "in.jsonl:4:", "3 rows were skipped"):
        assert part in problems


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.jsonl", "--judge", "offline"], "missing.jsonl cannot be read"),
        (["in.jsonl", "--judge", "openai"], "judge.base_url and judge.model is not set"),
        (["in.jsonl", "judge.kindd=offline"], "unknown key 'judge.kindd'; did you mean 'kind'?"),
        (
            ["in.jsonl", "judge.max_attempts=0"],
            "judge.max_attempts: Input should be greater than or equal to 1 (got 0)",
        ),
        (["in.jsonl", "--config", "none.yaml"], "config file none.yaml does not exist"),
        (["in.jsonl", "weights.faithfulness=-1"], "weights must be finite"),
        (["in.jsonl", "--judge", "openai", "--base-url", "host:80", "--model", "m"], "write it as http://host:port/v1"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(source, tmp_path, arguments, sentence):
    done = run(*arguments, "--out", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_judge_that_answers_nothing_stops_the_run(tmp_path, rows):
    many = [rows[0] | {"idx": i, "answer": f"Mara sold {i} crates."} for i in range(20)]
    source, out = write(tmp_path / "in.jsonl", many), tmp_path / "out.jsonl"
    arguments = ("--judge", "openai", "--base-url", "http://127.0.0.1:9/v1", "--model", "judge")
    done = run(source, "--out", out, *arguments, "judge.retry_base_s=0")
    assert done.returncode == 2
    assert "unreachable" in done.stderr and "check judge.base_url" in done.stderr
    assert "Traceback" not in done.stderr


def test_scores_of_another_configuration_are_not_mixed_in(source, tmp_path):
    out = tmp_path / "out.jsonl"
    assert run(source, "--out", out, "--judge", "offline").returncode == 0
    before = out.read_bytes()
    other = run(source, "--out", out, "--judge", "offline", "retrieval.top_k=1")
    assert other.returncode == 2 and "another reward configuration" in other.stderr
    assert out.read_bytes() == before
    unrelated = tmp_path / "notes.txt"
    unrelated.write_text("my notes\n")
    assert run(source, "--out", unrelated, "--judge", "offline").returncode == 2
    assert unrelated.read_text() == "my notes\n"


def test_scores_of_another_input_stay_behind_those_of_this_one(source, tmp_path, rows):
    out = tmp_path / "out.jsonl"
    assert run(source, "--out", out, "--judge", "offline").returncode == 0
    before = read(out)
    other = write(tmp_path / "other.jsonl", [rows[0] | {"idx": "new"}, rows[2]])
    done = run(other, "--out", out, "--judge", "offline")
    assert done.returncode == 0 and "also holds 2 scores of another input" in done.stderr
    assert [row["idx"] for row in read(out)] == ["new", "2", "0", "1"] and read(out)[1:] == [
        before[2],
        *before[:2],
    ]


def test_no_key_is_shown(source, tmp_path, judge_server):
    out = tmp_path / "out.jsonl"
    env = os.environ | {"OPENAI_API_KEY": "sk-very-secret"}
    arguments = (source, "--out", out, "--judge", "openai", "--base-url", judge_server.url, "--model", "judge")
    done = run(*arguments, env=env)
    assert done.returncode == 0
    assert "very-secret" not in done.stdout + done.stderr + out.read_text()


@pytest.fixture
def judged(judge_server) -> tuple[str, ...]:
    """Arguments for the scripted judge; each call is 100 prompt and 10 completion tokens there."""
    judge = ("--judge", "openai", "--base-url", judge_server.url, "--model", "judge")
    return (*judge, "judge.price.prompt_per_million=1000", "judge.price.completion_per_million=2000")


def many(rows, count: int = 12) -> list[dict]:
    return [rows[0] | {"idx": i, "answer": f"Mara sold {i} crates."} for i in range(count)]


def completion_without_usage(text: str) -> dict:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


def in_summary(done: subprocess.CompletedProcess[str], name: str) -> list[str]:
    return next(line.split() for line in done.stdout.splitlines() if line.startswith(name))


def test_calls_tokens_and_cost_are_told_before_and_after(source, tmp_path, judge_server, judged):
    out = tmp_path / "out.jsonl"
    done = run(source, "--out", out, *judged)
    assert done.returncode == 0, done.stderr
    # One chunk; of each answer two ratings, its statements, one more rating; three statements shared by all answers.
    assert judge_server.calls.total() == 1 + 3 * 4 + 3
    assert in_summary(done, "faithfulness")[3:] == ["6", "660", "0.72"]
    assert in_summary(done, "completeness")[3:] == ["4", "440", "0.48"]
    assert in_summary(done, "total")[3:] == ["16", "1,760", "1.92"]
    assert "6 shared with other answers" in done.stdout
    # Each answer has two sentences; of six sentences one is said twice.
    assert "expected: about 18 calls, " in done.stderr
    assert "against the estimate: 16 calls (-11%), 1,760 tokens (-" in done.stderr
    used = [row["usage"] for row in read(out)]
    assert sum(usage["calls"] for usage in used) == 16
    assert sum(usage["cost"] for usage in used) == pytest.approx(1.92)
    free = run(source, "--out", tmp_path / "free.jsonl", *judged[:6])
    assert "cost" not in free.stdout.partition("scores:")[0] + free.stderr


def test_an_endpoint_that_reports_no_tokens_is_not_taken_for_a_cheap_one(source, tmp_path, judge_server, judged):
    body = completion_without_usage("Analysis.\n[[8]]")
    judge_server.script = {"logicality": lambda prompt, _: web.json_response(body)}
    done = run(source, "--out", tmp_path / "out.jsonl", *judged, "weights.logicality=1", "weights.helpfulness=0")
    assert done.returncode == 0
    assert in_summary(done, "logicality")[3:5] == ["3", "0"]
    only = run(source, "--out", tmp_path / "only.jsonl", *judged, "weights={logicality: 1}")
    assert "against the estimate: 3 calls (+0%); the endpoint reports no tokens" in only.stderr


def test_with_a_cache_the_second_run_asks_nothing(source, tmp_path, judge_server, judged):
    cached = (*judged, f"cache.path={tmp_path / 'verdicts.db'}")
    assert run(source, "--out", tmp_path / "first.jsonl", *cached).returncode == 0
    made = judge_server.calls.total()
    again = run(source, "--out", tmp_path / "second.jsonl", *cached)
    assert again.returncode == 0, again.stderr
    assert judge_server.calls.total() == made
    assert ", 0 judge calls" in again.stdout and "16 from the cache" in again.stdout
    first, second = read(tmp_path / "first.jsonl"), read(tmp_path / "second.jsonl")
    assert [row["scores"] for row in first] == [row["scores"] for row in second]
    assert all(row["usage"]["cost"] == row["usage"]["calls"] == 0 for row in second)


def test_a_spend_cap_ends_the_run_and_a_higher_one_goes_on(tmp_path, rows, judge_server, judged):
    source, out = write(tmp_path / "in.jsonl", many(rows)), tmp_path / "out.jsonl"
    arguments = (source, "--out", out, *judged, "--concurrency", "2", "judge.max_tokens=100")
    stopped = run(*arguments, "judge.spend.max_cost=5")
    assert stopped.returncode == 1
    assert "of judge.spend.max_cost=5 are used" in stopped.stderr
    assert "raise judge.spend.max_cost and run the same command again" in stopped.stderr
    assert stopped.stderr.count("raise") == 1 and len(stopped.stderr.strip().splitlines()) == 2
    kept = read(out)
    whole = [row for row in kept if row["scores"]["total"] is not None]
    assert 0 < len(whole) < 12 and len(kept) <= len(whole) + 2  # those in flight, and none after them
    assert f"{len(whole)} of 12 answers are scored" in stopped.stderr
    assert all("spend_cap" in row["status"].values() for row in kept if row not in whole)
    calls = judge_server.calls.total()
    assert 0.12 * calls <= 5

    # The same cap again: what the first run has used counts, also for the void answers that are not reached now.
    assert run(*arguments, "judge.spend.max_cost=5", "--concurrency", "1").returncode == 1
    assert len(read(out)) == len(kept)
    assert 0.12 * judge_server.calls.total() <= 5
    spent = run(*arguments, "judge.spend.max_cost=1")
    assert spent.returncode == 2 and "of judge.spend.max_cost=1 already" in spent.stderr
    assert len(spent.stderr.strip().splitlines()) == 2  # how many are scored already, and the sentence

    done = run(*arguments, "judge.spend.max_cost=50")
    assert done.returncode == 0, done.stderr
    assert [row["idx"] for row in read(out)] == [str(i) for i in range(12)]
    assert all(row in read(out) for row in whole)
    used = [row[name]["calls"] for row in read(out) for name in ("usage", "earlier_usage") if name in row]
    assert sum(used) == judge_server.calls.total()
    assert f"all runs: {sum(used)} calls" in done.stderr


def test_a_token_cap_counts_as_well(tmp_path, rows, judge_server, judged):
    source, out = write(tmp_path / "in.jsonl", many(rows)), tmp_path / "out.jsonl"
    stopped = run(source, "--out", out, *judged, "--concurrency", "2", "judge.spend.max_tokens=6000")
    assert stopped.returncode == 1 and "raise judge.spend.max_tokens" in stopped.stderr
    assert 110 * judge_server.calls.total() <= 6000
    again = run(source, "--out", out, *judged, "judge.spend.max_tokens=200")
    assert again.returncode == 2 and "of judge.spend.max_tokens=200 already" in again.stderr


def test_answers_to_one_document_are_scored_together(tmp_path, rows, judge_server, judged):
    """Else a document that comes again after hundreds of others would be read by the judge again."""
    apart = [
        row | {"context": f"{d}. {row['context']}", "idx": f"{a}-{d}"} for a, row in enumerate(rows) for d in "abc"
    ]
    out = tmp_path / "out.jsonl"
    assert run(write(tmp_path / "in.jsonl", apart), "--out", out, *judged, "--concurrency", "1").returncode == 0
    asked = [prompt.partition("<passage>\n")[2][0] for kind, prompt in judge_server.prompts if kind == "extract"]
    assert asked == ["a", "b", "c"]
    rated = [i for i, (kind, _) in enumerate(judge_server.prompts) if kind == "helpfulness"]
    read_at = [i for i, (kind, _) in enumerate(judge_server.prompts) if kind == "extract"]
    assert sum(i < read_at[1] for i in rated) >= 3  # all answers to the first document before the second is read
    assert [row["idx"] for row in read(out)] == [row["idx"] for row in apart]
