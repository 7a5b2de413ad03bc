"""Evidence by a real embedding model, and the key of a real server: vLLM, as `judge.kind: vllm` starts it."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from real.models import minilm

from longreward import LongReward, Sample
from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.judge.own_server.local import served
from longreward.model_config import EndpointConfig

pytestmark = pytest.mark.e2e

TOPICS = (
    "The orchestra rehearses the symphony with violins and cellos. ",
    "The surgeon operates on the heart of the patient in the hospital. ",
    "The farmer ploughs the field and sows wheat in spring. ",
    "The submarine dives deep below the waves of the ocean. ",
)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[EndpointConfig]:
    # vLLM keeps nothing of texts that such a model has read.
    args = {"runner": "pooling", "dtype": "float32", "enable-prefix-caching": False}
    judge = {"kind": "vllm", "model": str(minilm()), "args": args}
    with patch.dict(os.environ), served(validate(RewardConfig, {"judge": judge})) as asked:
        yield asked.judge.resolved_endpoints[0]


def status(url: str, key: str = "") -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    posted = not url.endswith(("/health", "/models"))
    body = json.dumps({"model": str(minilm()), "input": "x", "prompt": "x"}).encode() if posted else None
    try:
        return urllib.request.urlopen(urllib.request.Request(url, body, headers)).status
    except urllib.error.HTTPError as refused:
        return refused.code


def test_every_path_but_health_wants_the_key(endpoint):
    root, key = endpoint.base_url.removesuffix("/v1"), os.environ[endpoint.api_key_env]
    assert status(f"{root}/health") == 200
    for path in ("/invocations", "/tokenize", "/v1/embeddings", "/v1/models"):
        assert (status(root + path), status(root + path, "wrong"), status(root + path, key)) == (401, 401, 200), path


def test_minilm_finds_a_paraphrase_that_shares_no_word(judge_server, endpoint):
    judge_server.script["statements"] = "<statement>Doctors perform medical procedures.</statement>"
    document = "".join(topic * 20 for topic in TOPICS)

    async def found(retrieval):
        judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge"}
        settings = {"judge": judge, "weights": {"faithfulness": 1}, "retrieval": retrieval | {"top_k": 1}}
        reward = LongReward.from_config(settings)
        try:
            scored = await reward.score(Sample(context=document, query="Who?", answer="Doctors do."))
            (statement,) = scored.dimensions["faithfulness"].statements
            return statement.evidence[0].text
        finally:
            await reward.aclose()

    embeddings = {"model": str(minilm()), "base_url": endpoint.base_url, "api_key_env": endpoint.api_key_env}
    assert "surgeon" in asyncio.run(found({"kind": "embeddings", "embeddings": embeddings}))
    assert "surgeon" not in asyncio.run(found({"kind": "bm25"}))
