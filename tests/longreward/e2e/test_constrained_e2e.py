"""Constrained verdicts by a real small model behind a real server: it follows no format, and every reply is read. The
server is behind a key, as launch/judge_server.sh starts it."""

from __future__ import annotations

import asyncio
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from constrained import COMPACT, kinds, score, settings
from real.models import smollm2, vllm_server

from longreward import Sample
from longreward.schema import OK

OWN_SERVER = Path(__file__).parents[3] / "longreward" / "judge" / "own_server"
KEY = "sk-of-the-judge"


def status(url: str, key: str = "") -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    body = None if url.endswith(("/health", "/models")) else b'{"model": "smollm2", "prompt": "x", "max_tokens": 1}'
    try:
        return urllib.request.urlopen(urllib.request.Request(url, body, headers)).status
    except urllib.error.HTTPError as refused:
        return refused.code


@pytest.mark.e2e
def test_a_judge_that_follows_no_format_is_read(tmp_path, monkeypatch):
    text = "Mara sold copper to Otto in Lisbon. It rained all day."
    sample = Sample(context=text, query="What did Mara sell?", answer="Mara sold copper.")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    python_path = f"{OWN_SERVER}:{os.environ.get('PYTHONPATH', '')}"
    words = ["--dtype", "float32", "--structured-outputs-config", COMPACT, "--middleware", "judge_key.KeyOnEveryPath"]
    with vllm_server(smollm2(tmp_path), "smollm2", *words, PYTHONPATH=python_path, VLLM_API_KEY=KEY) as url:
        root = url.removesuffix("/v1")
        assert status(f"{root}/health") == 200
        for path in ("/invocations", "/tokenize", "/v1/completions", "/v1/models"):
            assert (status(root + path), status(root + path, "wrong"), status(root + path, KEY)) == (401, 401, 200), (
                path
            )
        config = settings(url, "constrained")
        found = asyncio.run(kinds(config))
        assert len(found) == 6 and set(found.values()) == {OK}, found
        rewarded, calls = asyncio.run(score(config, [sample]))
    assert rewarded == 1 and set(calls) == {OK}, calls
