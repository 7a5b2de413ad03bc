"""Evidence by a real embedding model behind a real server."""

from __future__ import annotations

import asyncio

import pytest
from real.models import minilm, vllm_server

from longreward import LongReward, Sample

TOPICS = (
    "The orchestra rehearses the symphony with violins and cellos. ",
    "The surgeon operates on the heart of the patient in the hospital. ",
    "The farmer ploughs the field and sows wheat in spring. ",
    "The submarine dives deep below the waves of the ocean. ",
)


@pytest.mark.e2e
def test_minilm_finds_a_paraphrase_that_shares_no_word(judge_server):
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

    with vllm_server(minilm(), "minilm", "--runner", "pooling", "--dtype", "float32") as url:
        embeddings = {"kind": "embeddings", "embeddings": {"model": "minilm", "base_url": url}}
        assert "surgeon" in asyncio.run(found(embeddings))
    assert "surgeon" not in asyncio.run(found({"kind": "bm25"}))
