"""Endpoints that cut a long prompt without a word: what they report shows it, and there is no verdict."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from longreward.config import CacheConfig, JudgeConfig
from longreward.judge import make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.requests import ExtractRelevant, RateHelpfulness
from longreward.text.tokens import fewest_tokens_in

ENGLISH = "Mara sold copper to Otto in Lisbon, and it rained all day. "
CHINESE = "玛拉在里斯本把四十箱铜卖给了奥托，那天一直下雨。"


def ask(server, *requests, at_once=True, **settings):
    config = JudgeConfig(kind="openai", model="judge", base_url=server.url, retry_base_s=0.01, **settings)

    async def run():
        judge = make_judge(config)
        try:
            if at_once:
                return await asyncio.gather(*map(judge.ask, requests))
            return [await judge.ask(request) for request in requests]
        finally:
            await judge.aclose()

    return asyncio.run(run())


def extraction(text: str, repeated: int) -> ExtractRelevant:
    return ExtractRelevant("en", "What did Mara do?", text * repeated)


def reporting(count, text="Mara sold copper. [[9]]", **more):
    """Replies that report `count(prompt)` tokens of the prompt."""

    def reply(prompt, _):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": count(prompt), "completion_tokens": 10, **more}
        return web.json_response({"choices": [choice], "usage": usage})

    return reply


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_a_prompt_of_which_a_part_was_read_is_no_verdict(judge_server, text):
    judge_server.script = {"extract": reporting(lambda prompt: min(1000, len(prompt)))}
    (verdict,) = ask(judge_server, extraction(text, 300))
    assert (verdict.value, verdict.call.status) == (None, "context_length")
    assert "1,000 tokens" in verdict.call.detail
    # Asked again with half of the material, and no more: what the tokens cost is counted.
    assert verdict.call.shrunk and verdict.call.attempts == 2 and verdict.call.usage.prompt_tokens == 2000


def test_half_of_the_material_that_fits_is_a_verdict_marked_as_such(judge_server):
    judge_server.script = {"extract": reporting(lambda prompt: min(4096, len(prompt) // 4))}
    (verdict,) = ask(judge_server, extraction(ENGLISH, 400))
    assert verdict.ok and verdict.call.shrunk


def test_a_prompt_with_just_as_many_tokens_as_one_that_was_cut_is_no_verdict(judge_server):
    question = RateHelpfulness("en", "What did Mara do?", ENGLISH * 125)
    judge_server.script = dict.fromkeys(
        ("extract", "helpfulness"), reporting(lambda prompt: min(2048, len(prompt) // 4))
    )
    # By its own figures the second prompt could be whole.
    assert 0.9 * fewest_tokens_in(question.text()) < 2048 < len(question.text()) / 4
    (alone,) = ask(judge_server, question)
    assert alone.ok
    _, verdict = ask(judge_server, extraction(ENGLISH, 250), question, at_once=False)
    assert (verdict.value, verdict.call.status) == (None, "context_length")


@pytest.mark.parametrize(
    ("text", "per_token"),
    [
        (ENGLISH, 5),
        ("word " * 10, 5),
        (CHINESE, 2),
        ("Straßenbahnhaltestelle und Donaudampfschifffahrtsgesellschaft ", 12),
        ("x" * 600 + " ", 40),
        (" " * 500 + "a", 80),
        ("-" * 300 + "\n", 60),
        ("ภาษาไทยไม่มีช่องว่างระหว่างคำ", 3),
        ("नमस्ते दुनिया यह एक वाक्य है ", 4),
    ],
    ids=["prose", "words", "Chinese", "German", "long words", "spaces", "rules", "Thai", "Hindi"],
)
def test_texts_of_few_tokens_are_read_as_they_are(judge_server, text, per_token):
    judge_server.script = {"extract": reporting(lambda prompt: len(prompt) // per_token)}
    # Every word is a token, whatever the text.
    request = extraction(text, 20_000 // len(text))
    judge_server.script = {
        "extract": reporting(lambda prompt: max(len(prompt.split()), len(prompt) // per_token)),
    }
    (verdict,) = ask(judge_server, request)
    assert verdict.ok and not verdict.call.shrunk


@pytest.mark.parametrize("count", [0, 1, 100])
def test_a_report_that_is_no_count_says_nothing(judge_server, count):
    judge_server.script = {"extract": reporting(lambda _: count)}
    (verdict,) = ask(judge_server, extraction(ENGLISH, 300))
    assert verdict.ok and not verdict.call.shrunk


def test_tokens_of_a_prefix_cache_that_are_reported_apart_were_read_too(judge_server):
    cached = {"prompt_tokens_details": {"cached_tokens": 4000}}
    judge_server.script = {"extract": reporting(lambda _: 300, **cached)}
    (verdict,) = ask(judge_server, extraction(ENGLISH, 300))
    assert verdict.ok


def test_a_cut_prompts_verdict_is_not_kept(judge_server, tmp_path):
    judge_server.script = {"extract": reporting(lambda _: 1000)}
    config = JudgeConfig(kind="openai", model="judge", base_url=judge_server.url)

    async def run():
        judge = make_judge(config, VerdictCache.of(CacheConfig(path=tmp_path / "cache.sqlite")))
        verdict = await judge.ask(extraction(ENGLISH, 300))
        await judge.aclose()
        return verdict

    assert not asyncio.run(run()).ok
    judge_server.script = {}
    verdict = asyncio.run(run())
    assert verdict.ok and verdict.call.source == "judge"
