"""Evidence by embeddings, against a scripted /v1/embeddings on a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from longreward import ConfigError, LongReward, Sample
from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.errors import JudgeError
from longreward.fingerprint import fingerprint
from longreward.judge import judge_of
from longreward.judge.protocol.embeddings import read
from longreward.preflight import judge_checks
from longreward.preflight.embedding_check import check_embeddings
from longreward.preflight.finding import Severity

TOPICS = ("lion", "boat", "iron", "rain", "song")
DOCUMENT = " ".join(f"{topic} " * 128 for topic in TOPICS)
SAMPLE = Sample(id="1", context=DOCUMENT, query="What is told?", answer="Vessels are told of.")


@dataclass
class EmbeddingServer:
    """A text's vector: how often it names each topic. A `vessel` is a boat, and there is always a little of all."""

    url: str = ""
    batches: list[list[str]] = field(default_factory=list)
    reply: Callable[[list[str], int], Any] | None = None
    """The texts of a request and its number -> a response, or None for a good one."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert set(body) == {"model", "input"}
        self.batches.append(body["input"])
        given = self.reply(body["input"], len(self.batches)) if self.reply else None
        return given if given is not None else web.json_response(good(body["input"]))


def good(texts: list[str]) -> dict[str, Any]:
    return {"data": data(texts), "usage": {"prompt_tokens": 10 * len(texts), "total_tokens": 10 * len(texts)}}


def data(texts: list[str]) -> list[dict[str, Any]]:
    return [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(texts)]


def vector(text: str) -> list[float]:
    text = text.lower().replace("vessels", "boat")
    return [text.count(topic) + 0.01 for topic in TOPICS]


@pytest.fixture
def embedding_server() -> Iterator[EmbeddingServer]:
    server, ready, loop = EmbeddingServer(), threading.Event(), asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/embeddings", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    yield server
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


@pytest.fixture
def settings(judge_server, embedding_server):
    judge_server.script["statements"] = "<statement>Vessels are told of.</statement>"
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "retry_base_s": 0}
    embeddings = {"model": "minilm", "base_url": embedding_server.url, "batch_size": 2}
    retrieval = {"kind": "embeddings", "top_k": 1, "embeddings": embeddings}
    return {"judge": judge, "retrieval": retrieval, "weights": {"faithfulness": 1}}


def score(settings, *samples):
    async def run():
        reward = LongReward.from_config(settings)
        try:
            return [await reward.score(sample) for sample in samples or [SAMPLE]], reward.stats()
        finally:
            await reward.aclose()

    return asyncio.run(run())


def evidence(reward):
    return [e.text.split()[0] for s in reward.dimensions["faithfulness"].statements for e in s.evidence]


def test_a_statement_without_a_common_word_finds_its_chunk(settings, embedding_server):
    (reward,), stats = score(settings)
    assert evidence(reward) == ["boat"]
    assert reward.total == 10
    assert sorted(map(len, embedding_server.batches)) == [1, 1, 2, 2]
    calls = [call for call in reward.calls if call.kind == "embed"]
    assert [(call.usage.calls, call.usage.prompt_tokens) for call in calls] == [(3, 50), (1, 10)]
    assert not any(call.text for call in calls)
    assert stats["embeddings/requests"] == 4
    assert stats["judge/tokens"] == reward.usage.tokens

    settings["retrieval"]["kind"] = "bm25"
    (reward,), _ = score(settings)
    assert evidence(reward) == ["lion"]  # shares no word, so the beginning


def test_a_judge_that_is_asked_afresh_embeds_as_before(settings, judge_server):
    config = validate(RewardConfig, settings, "settings")

    async def run():
        judge = judge_of(config)
        again = LongReward(config, judge.afresh())
        reward = LongReward(config, judge)
        try:
            return [await each.score(SAMPLE) for each in (reward, again)]
        finally:
            await again.aclose()
            await reward.aclose()

    assert [evidence(reward) for reward in asyncio.run(run())] == [["boat"], ["boat"]]
    assert judge_server.calls["verify"] == 2


def test_answers_share_the_vectors_of_their_document(settings, embedding_server, judge_server):
    judge_server.script["statements"] = lambda prompt, number: f"<statement>{('Rain', 'Iron')[number - 1]}.</statement>"
    rewards, _ = score(settings, SAMPLE, SAMPLE.model_copy(update={"answer": "Another."}))
    assert [evidence(reward) for reward in rewards] == [["rain"], ["iron"]]
    assert [sum(c.usage.calls for c in r.calls if c.kind == "embed") for r in rewards] == [4, 1]


def test_both_ways_are_fused(settings, judge_server):
    judge_server.script["statements"] = "<statement>A song of vessels, vessels.</statement>"
    settings["retrieval"] |= {"kind": "hybrid", "top_k": 2}
    (reward,), _ = score(settings)
    assert evidence(reward) == ["boat", "song"]  # in document order


def test_a_second_run_takes_the_vectors_from_the_cache(settings, embedding_server, tmp_path):
    settings["cache"] = {"path": tmp_path / "cache.db"}
    (first,), _ = score(settings)
    asked = len(embedding_server.batches)
    (second,), _ = score(settings)
    assert len(embedding_server.batches) == asked
    assert evidence(second) == evidence(first)
    assert second.usage.calls == 0
    settings["retrieval"]["embeddings"]["document_prefix"] = "passage: "
    score(settings)
    assert [text[:9] for batch in embedding_server.batches[asked:] for text in batch] == ["passage: "] * 5


@pytest.mark.parametrize(
    "fault",
    [
        lambda: web.Response(status=500, text="down"),
        lambda: web.json_response({"error": {"message": "slow down"}}, status=429),
        lambda: web.json_response({"data": data(["only one"])}),
    ],
)
def test_a_passing_fault_is_asked_again(settings, embedding_server, fault):
    embedding_server.reply = lambda texts, number: (
        fault() if len(texts) == 2 and embedding_server.batches.count(texts) == 1 else None
    )
    (reward,), _ = score(settings)
    assert evidence(reward) == ["boat"]


def test_what_fails_for_good_is_void_with_its_reason(settings, embedding_server, judge_server):
    embedding_server.reply = lambda texts, number: web.json_response(
        {"error": {"message": "no such model"}}, status=404
    )
    (reward,), _ = score(settings)
    faithfulness = reward.dimensions["faithfulness"]
    assert (reward.total, faithfulness.score, faithfulness.status) == (None, None, "not_found")
    assert "embeddings by minilm" in faithfulness.detail
    assert judge_server.calls["verify"] == 0


def test_vectors_that_failed_are_asked_for_again_by_the_next_answer(settings, embedding_server):
    settings["judge"] |= {"max_attempts": 1}
    down = web.json_response

    async def run() -> list[float | None]:
        reward = LongReward.from_config(settings)
        try:
            embedding_server.reply = lambda texts, number: down({"error": {"message": "down"}}, status=500)
            totals = [(await reward.score(SAMPLE)).total]
            embedding_server.reply = None
            return [*totals, (await reward.score(SAMPLE)).total]
        finally:
            await reward.aclose()

    assert asyncio.run(run()) == [None, 10]


def test_a_text_longer_than_the_model_takes_is_embedded_by_half_of_it(settings, embedding_server, judge_server):
    refusal = {"error": {"message": "This model's maximum context length is 256 tokens.", "code": 400}}
    longest = 640

    def reply(texts: list[str], number: int) -> Any:
        return web.json_response(refusal, status=400) if max(map(len, texts)) > longest else None

    embedding_server.reply = reply
    sample = SAMPLE.model_copy(update={"context": DOCUMENT.replace("iron", "iron" * 2)})
    (reward,), _ = score(settings, sample)
    assert evidence(reward) == ["boat"]
    assert any(call.shrunk for call in reward.calls if call.kind == "embed")
    longest = 100
    (reward,), _ = score(settings, sample)
    faithfulness = reward.dimensions["faithfulness"]
    assert faithfulness.status == "context_length"
    assert "lower chunking.evidence_tokens" in faithfulness.detail


def test_embeddings_count_towards_the_spend_cap(settings):
    settings["judge"] |= {"price": {"prompt_per_million": 1}, "spend": {"max_cost": 1000}}
    settings["retrieval"]["embeddings"]["price_per_million"] = 1e5
    (reward,), stats = score(settings)
    assert sum(c.usage.cost for c in reward.calls if c.kind == "embed") == pytest.approx(6)
    assert stats["judge/cost"] == pytest.approx(reward.usage.cost)
    settings["judge"]["spend"] = {"max_cost": 1}
    (reward,), _ = score(settings)
    assert reward.dimensions["faithfulness"].status == "spend_cap"


def test_vectors_of_another_length_are_named(settings, embedding_server):
    embedding_server.reply = lambda texts, number: (
        web.json_response({"data": [{"index": 0, "embedding": [1.0, 2.0]}]}) if "Vessels" in texts[0] else None
    )
    (reward,), _ = score(settings)
    faithfulness = reward.dimensions["faithfulness"]
    assert (faithfulness.status, faithfulness.score) == ("bad_response", None)
    assert "2 numbers, those of the document 5" in faithfulness.detail


def test_vectors_are_taken_by_their_index():
    body = {"data": [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]}
    straight = {"data": [{"embedding": [1, 0]}, {"embedding": [0, 1]}]}
    assert read(200, {}, json.dumps(body).encode()).texts == read(200, {}, json.dumps(straight).encode()).texts


@pytest.mark.parametrize(
    "reply",
    [
        {"data": [{"embedding": [0.0, 0.0]}]},
        {"data": [{"embedding": [1.0, None]}]},
        {"data": [{"embedding": [1.0, float("nan")]}]},
        {"data": [{"embedding": [1e300, 1.0]}]},
        {"data": [{"embedding": [[1.0], [2.0]]}]},
        {"data": [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}]},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": "AACAPw=="}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}]},
        {"data": [{"index": True, "embedding": [1.0]}]},
        {"data": []},
        {"data": [[1.0]]},
        {"choices": []},
        [],
        1,
    ],
)
def test_what_is_no_vector_is_a_bad_response(reply):
    with pytest.raises(JudgeError, match="bad_response"):
        read(200, {}, json.dumps(reply).encode())


def test_the_settings_say_what_is_missing(settings):
    del settings["retrieval"]["embeddings"]["model"]
    with pytest.raises(ConfigError, match=r"embeddings\.model is not set"):
        LongReward.from_config(settings)
    offline = {"retrieval": {"kind": "hybrid", "embeddings": {"model": "minilm"}}}
    with pytest.raises(ConfigError, match=r"judge\.kind is offline"):
        LongReward.from_config(offline)


def test_what_can_change_a_score_is_in_the_fingerprint(settings):
    def of(**embeddings: Any) -> str:
        retrieval = settings["retrieval"] | {"embeddings": settings["retrieval"]["embeddings"] | embeddings}
        return fingerprint(validate(RewardConfig, settings | {"retrieval": retrieval}, "config"))

    assert of() == of(base_url="http://elsewhere/v1", price_per_million=3, batch_size=9)
    assert len({of(), of(model="e5"), of(query_prefix="query: "), of(document_prefix="passage: ")}) == 4


def test_the_doctor_asks_for_a_vector(settings, embedding_server):
    config = validate(RewardConfig, settings, "config")
    (finding,), usage = asyncio.run(check_embeddings(config, 60))
    assert (finding.severity, usage.prompt_tokens) == (Severity.OK, 10)
    assert "vectors of 5 numbers" in finding.sentence
    refusal = {"error": {"message": "The model `minilm` does not exist."}}
    embedding_server.reply = lambda texts, number: web.json_response(refusal, status=404)
    found = asyncio.run(judge_checks.unusable(config, 60))
    assert ["/embeddings" in one.action for one in found if one.about == "vectors"] == [True]
