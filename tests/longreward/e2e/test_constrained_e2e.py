"""Constrained verdicts by a real small model behind a real server: it follows no format, and every reply is read."""

from __future__ import annotations

import asyncio

import pytest
from constrained import COMPACT, kinds, score, settings
from real.models import smollm2, vllm_server

from longreward import Sample
from longreward.schema import OK


@pytest.mark.e2e
def test_a_judge_that_follows_no_format_is_read(tmp_path):
    text = "Mara sold copper to Otto in Lisbon. It rained all day."
    sample = Sample(context=text, query="What did Mara sell?", answer="Mara sold copper.")
    words = ["--dtype", "float32", "--structured-outputs-config", COMPACT]
    with vllm_server(smollm2(tmp_path), "smollm2", *words) as url:
        config = settings(url, "constrained")
        found = asyncio.run(kinds(config))
        assert len(found) == 6 and set(found.values()) == {OK}, found
        rewarded, calls = asyncio.run(score(config, [sample]))
    assert rewarded == 1 and set(calls) == {OK}, calls
