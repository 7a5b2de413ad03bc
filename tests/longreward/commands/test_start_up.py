"""What is wrong before anything is asked is one sentence at the start, with exit code 2; and no failure is silent."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from longreward.cli import main

ENDPOINT = ["--judge", "openai", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"]
_VECTORS = ("model=e", "base_url=http://127.0.0.1:9/b", "api_key_env=VECTOR_KEY")
UNFIT = {
    "a line break": "sk-ab\ncd-secret",
    "a return": "sk-ab\rcd-secret",
    "an umlaut": "sk-äb-cd-secret",
    "a delete": "sk\x7fcd-secret",
}
PLACES = {
    "OPENAI_API_KEY": [],
    "A_KEY": ["judge.api_key_env=A_KEY"],
    "SECOND_KEY": [
        "judge.base_url=null",
        'judge.endpoints=[{base_url: "http://127.0.0.1:9/a", api_key_env: SECOND_KEY}]',
    ],
    "VECTOR_KEY": ["retrieval.kind=hybrid", *(f"retrieval.embeddings.{setting}" for setting in _VECTORS)],
    "OPENAI_ORG_ID": [],
}


@pytest.fixture
def source(tmp_path, rows):
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def assert_one_sentence(error: str, variable: str, value: str) -> None:
    last = error.strip().splitlines()[-1]
    assert last.startswith(f"longreward: {variable} holds ") and "no HTTP header may hold" in last, error
    assert "Traceback" not in error and value not in error and "secret" not in error, error


@pytest.mark.parametrize("kind", UNFIT)
@pytest.mark.parametrize("variable", PLACES)
@pytest.mark.parametrize("command", ["score", "doctor"])
def test_a_key_that_no_header_may_hold(command, variable, kind, source, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv(variable, UNFIT[kind])
    words = [source, "--out", str(tmp_path / "out.jsonl")] if command == "score" else []
    assert main([command, *words, *ENDPOINT, *PLACES[variable]]) == 2
    assert_one_sentence(capfd.readouterr().err, variable, UNFIT[kind])


@pytest.mark.parametrize("variable", ["A_KEY", "VECTOR_KEY"])
def test_the_server_does_not_start_with_such_a_key(variable, monkeypatch):
    monkeypatch.setenv(variable, UNFIT["a line break"])
    words = [sys.executable, "-m", "longreward", "serve", "--port", "0", *ENDPOINT, *PLACES[variable]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "serving" not in done.stdout
    assert_one_sentence(done.stderr, variable, UNFIT["a line break"])


def test_a_server_that_cannot_find_out_whether_the_judge_answers_ends_and_says_why():
    """A bug, in place of all that nobody has thought of."""
    script = """
        import sys
        from longreward.cli import main
        from longreward.reward import LongReward

        async def probe(reward):
            raise RuntimeError("nobody has thought of this")

        LongReward.probe = probe
        sys.exit(main(["serve", "--port", "0"]))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "nobody has thought of this" in done.stderr
