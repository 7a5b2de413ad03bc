"""What is a whole reply, what is half of one, and where its text stands: endpoints of many makers on a real socket."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from longreward.config import CacheConfig, JudgeConfig
from longreward.errors import JudgeError
from longreward.judge import make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.protocol.replies import read
from longreward.judge.requests import ExtractRelevant, RateHelpfulness

EXTRACT = ExtractRelevant("en", "What did Mara do?", "Mara sold copper to Otto in Lisbon.")
RATE = RateHelpfulness("en", "What is the capital of France?", "Paris.")


def completion(content: object, finish: object = "stop", *, choice=None, message=None, usage=None) -> dict:
    message = {"role": "assistant", "content": content} | (message or {})
    choice = {"index": 0, "message": message, "finish_reason": finish} | (choice or {})
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10} | (usage or {})}


def ask(server, request, *bodies, cache=None, **settings):
    """The verdict where the endpoint sends these bodies in turn, the last one again and again; and the requests."""
    server.script = {request.kind: lambda _, n: web.json_response(bodies[min(n, len(bodies)) - 1])}
    settings = {"retry_base_s": 0.001, "max_attempts": 4, **settings}
    config = JudgeConfig(kind="openai", model="judge", base_url=server.url, **settings)

    async def run():
        judge = make_judge(config, VerdictCache.of(CacheConfig(path=cache)))
        try:
            return await judge.ask(request)
        finally:
            await judge.aclose()

    return asyncio.run(run()), server.bodies


WHOLE = [None, "", "stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "COMPLETE", "FINISH_REASON_STOP"]


@pytest.mark.parametrize("finish", WHOLE, ids=str)
def test_a_reply_that_the_judge_ended_itself_is_whole(judge_server, finish):
    verdict, _ = ask(judge_server, EXTRACT, completion("Mara sold copper.", finish))
    assert (verdict.value, verdict.call.attempts) == ("Mara sold copper.", 1)


def test_a_reply_without_a_finish_reason_is_whole(judge_server):
    body = completion("Mara sold copper.")
    del body["choices"][0]["finish_reason"]
    assert ask(judge_server, EXTRACT, body)[0].value == "Mara sold copper."


HALF = {
    "length": "truncated",
    "max_tokens": "truncated",
    "MAX_TOKENS": "truncated",
    "max_output_tokens": "truncated",
    "model_length": "context_length",
    "model_context_window_exceeded": "context_length",
    "content_filter": "filtered",
    "content_filter: PROHIBITED_CONTENT": "filtered",
    "SAFETY": "filtered",
    "RECITATION": "filtered",
    "sensitive": "filtered",
    "refusal": "filtered",
    "guardrail_intervened": "filtered",
    "abort": "server_error",
    "error": "server_error",
    "insufficient_system_resource": "server_error",
    "network_error": "server_error",
    "tool_calls": "bad_response",
    "pause_turn": "bad_response",
    "OTHER": "bad_response",
    "something new": "bad_response",
}


@pytest.mark.parametrize(("finish", "status"), HALF.items(), ids=HALF)
def test_half_a_reply_is_never_a_value_and_never_kept(judge_server, tmp_path, finish, status):
    cache = tmp_path / "verdicts.db"
    verdict, _ = ask(judge_server, EXTRACT, completion("Mara sold", finish), cache=cache)
    assert (verdict.value, verdict.call.status) == (None, status)
    assert finish.partition(":")[0].lower() in verdict.call.detail or finish == "length"
    assert ask(judge_server, EXTRACT, completion("Mara sold copper."), cache=cache)[0].value == "Mara sold copper."


@pytest.mark.parametrize("finish", [7, True, ["stop"], {"type": "abort", "message": "x"}, {}], ids=str)
def test_a_finish_reason_of_another_shape_is_no_whole_reply(judge_server, finish):
    assert not ask(judge_server, EXTRACT, completion("Mara sold", finish))[0].ok


def test_what_the_provider_behind_a_gateway_says_counts(judge_server):
    cut = completion("Mara sold", "stop", choice={"native_finish_reason": "MAX_TOKENS"})
    assert ask(judge_server, EXTRACT, cut)[0].call.status == "truncated"
    whole = completion("Mara sold copper.", "stop", choice={"native_finish_reason": "completed"})
    assert ask(judge_server, EXTRACT, whole)[0].ok


def test_a_reply_that_the_server_broke_off_is_asked_again(judge_server):
    verdict, bodies = ask(judge_server, EXTRACT, completion("Mara", "abort"), completion("Mara sold copper."))
    assert (verdict.value, verdict.call.attempts, len(bodies)) == ("Mara sold copper.", 2, 2)


@pytest.mark.parametrize("finish", ["stop", None])
def test_a_reply_of_just_the_longest_length_was_cut_whatever_its_server_says(judge_server, finish):
    verdict, bodies = ask(judge_server, EXTRACT, completion("Mara sold", finish), max_tokens=10)
    assert (verdict.value, verdict.call.attempts) == ("Mara sold", 2)  # at 20 tokens it has ended by itself
    assert [body["max_tokens"] for body in bodies] == [10, 20]
    assert ask(judge_server, EXTRACT, completion("Mara sold", finish), max_tokens=11)[0].call.attempts == 1


BROKEN_CHOICE = {
    "502": ({"code": 502, "message": "upstream idle"}, "server_error"),
    "429": ({"code": 429, "message": "slow down"}, "rate_limited"),
    "without a code": ({"message": "the provider died"}, "server_error"),
    "words alone": ("connection lost", "server_error"),
    "content filter": ({"code": "content_filter", "message": "no"}, "filtered"),
}


@pytest.mark.parametrize(("error", "status"), BROKEN_CHOICE.values(), ids=BROKEN_CHOICE)
def test_an_error_in_a_choice_is_an_error(judge_server, error, status):
    verdict, _ = ask(judge_server, EXTRACT, completion("Mara sold", "stop", choice={"error": error}), max_attempts=2)
    assert (verdict.value, verdict.call.status) == (None, status)
    assert verdict.call.usage.prompt_tokens >= 100


IN_PARTS = {
    "text part": [{"type": "text", "text": "Good.\n[[8]]"}],
    "two parts": [{"type": "text", "text": "Good.\n"}, {"type": "text", "text": "[[8]]"}],
    "Mistral's thoughts": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "maybe [[3]]"}]},
        {"type": "text", "text": "[[8]]"},
    ],
    "Anthropic's thoughts": [
        {"type": "thinking", "thinking": "maybe [[3]]", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "[[8]]"},
    ],
    "thoughts last": [{"type": "text", "text": "[[8]]"}, {"type": "reasoning", "text": "or [[3]]"}],
    "Gemini's parts": [{"thought": True, "text": "maybe [[3]]"}, {"text": "[[8]]"}],
    "Gemini's content": {"role": "model", "parts": [{"text": "[[8]]"}]},
    "output_text": [{"type": "output_text", "text": "[[8]]", "annotations": []}],
    "strings": ["Good.\n", "[[8]]"],
    "a kind that nobody knows": [{"type": "text", "text": "[[8]]"}, {"type": "novelty", "text": "[[2]]"}],
}


@pytest.mark.parametrize("content", IN_PARTS.values(), ids=IN_PARTS)
def test_content_in_parts_is_read_without_its_thoughts(judge_server, content):
    verdict, _ = ask(judge_server, RATE, completion(content))
    assert verdict.value == 8 and "[[3]]" not in verdict.call.text


ONLY_REASONING = {
    "reasoning_content": {"message": {"reasoning_content": "Good. [[8]]"}},
    "reasoning": {"message": {"reasoning": "Good. [[8]]"}},
    "reasoning_details": {"message": {"reasoning_details": [{"type": "reasoning.text", "text": "Good. [[8]]"}]}},
    "thinking": {"content": [{"type": "thinking", "thinking": "Good. [[8]]"}]},
    "reasoning_tokens": {"content": "", "usage": {"completion_tokens_details": {"reasoning_tokens": 10}}},
}


@pytest.mark.parametrize(("field", "shape"), ONLY_REASONING.items(), ids=ONLY_REASONING)
def test_a_reply_that_is_only_reasoning_is_named_so(judge_server, field, shape):
    verdict, bodies = ask(
        judge_server, RATE, completion(shape.get("content"), **{k: v for k, v in shape.items() if k != "content"})
    )
    assert (verdict.value, verdict.call.status, len(bodies)) == (None, "only_reasoning", 2)
    assert f"only reasoning (`{field}`)" in verdict.call.detail


def test_reasoning_beside_a_verdict_is_no_part_of_it(judge_server):
    verdict, _ = ask(judge_server, RATE, completion("[[8]]", message={"reasoning_content": "or [[2]]"}))
    assert (verdict.value, verdict.call.text) == (8, "[[8]]")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, {"refusal": "I cannot rate this."}),
        ([{"type": "refusal", "refusal": "I cannot rate this."}], {}),
        ("Half a reply [[8]]", {"refusal": "I cannot rate this."}),
    ],
    ids=["field", "part", "beside content"],
)
def test_a_judge_that_refuses_is_quoted(judge_server, content, message):
    verdict, bodies = ask(judge_server, RATE, completion(content, message=message))
    assert (verdict.value, verdict.call.status, len(bodies)) == (None, "filtered", 1)
    assert "refuses: I cannot rate this." in verdict.call.detail


def test_empty_fields_beside_a_reply_mean_nothing(judge_server):
    body = completion("[[8]]", message={"refusal": "", "reasoning": None}, choice={"error": None}) | {"error": None}
    assert ask(judge_server, RATE, body)[0].value == 8


_KEYS = (
    "choices message content finish_reason error code type text parts usage detail status metadata raw refusal "
    "reasoning thinking param object msg"
).split()
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["[[8]]", "stop"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=5),
    max_leaves=25,
)


@given(status=st.sampled_from([200, 200, 400, 403, 413, 422, 429, 500]), body=_JSON)
def test_whatever_comes_is_a_reply_with_text_or_a_named_error(status, body):
    try:
        reply = read(status, {}, json.dumps(body).encode())
    except JudgeError as error:
        assert error.detail and len(error.detail) < 600
    else:
        assert status == 200 and all(text.strip() for text in reply.texts)


@pytest.mark.parametrize("key", ["content", "parts", "error", "thinking"])
def test_a_body_of_great_depth_is_an_error_with_a_name(key):
    inner = f'{{"{key}":[' * 300 + "1" + "]}" * 300
    with pytest.raises(JudgeError):
        read(200, {}, f'{{"choices":[{{"message":{{"content":[{inner}]}}}}]}}'.encode())
