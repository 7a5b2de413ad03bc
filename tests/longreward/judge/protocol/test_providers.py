"""Twelve providers, each with its own ways of refusing, cutting and thinking: every call ends as it should."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from longreward.config import JudgeConfig
from longreward.judge import make_judge
from longreward.judge.requests import ExtractRelevant, RateHelpfulness

Answer = tuple[int, Any]


def error(http: int, message: str, /, **more: Any) -> Answer:
    return http, {"error": {"message": message, **more}}


def said(content: Any, finish: Any = "stop", **message: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | message, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}


@dataclass
class Provider:
    """What it answers to a prompt that is too long, that it will not have, whose reply it cuts, and at a bad moment."""

    too_long: Answer
    filtered: Answer
    cut: Answer
    busy: Answer
    cut_is: str = "truncated"
    good: Answer = field(default_factory=lambda: said("Fine. [[8]]"))
    refused: dict[str, str] = field(default_factory=dict)
    """Fields of a request that it does not take, and what it says of them."""


PROVIDERS = {
    "openai, reasoning": Provider(
        error(400, "This model's maximum context length is 8192 tokens.", code="context_length_exceeded"),
        error(400, "Your request was rejected", code="content_policy_violation"),
        said("", "length"),
        error(429, "Rate limit reached for o-x", code="rate_limit_exceeded"),
        refused={
            "max_tokens": "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
            "temperature": "Unsupported value: 'temperature' does not support 0.01 with this model.",
        },
    ),
    "azure": Provider(
        error(400, "Please reduce the length of the messages.", code="context_length_exceeded"),
        error(400, "filtered", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
        said("Half", "content_filter"),
        error(503, "The service is temporarily unable to process your request."),
        cut_is="filtered",
        refused={"temperature": "Unsupported parameter: 'temperature' is not supported with this model."},
    ),
    "gemini": Provider(
        (400, [error(400, "The input token count (40000) exceeds the maximum number of tokens allowed.", code=400)[1]]),
        said(None, "content_filter: PROHIBITED_CONTENT"),
        said([{"text": "[[2]]", "thought": True}, {"text": "Half"}], "MAX_TOKENS"),
        (429, [error(429, "You exceeded your current quota", code=429, status="RESOURCE_EXHAUSTED")[1]]),
        good=said([{"text": "or [[2]]", "thought": True}, {"text": "[[8]]"}], "STOP"),
    ),
    "bedrock gateway": Provider(
        (400, {"message": "Input is too long for requested model."}),
        said("Sorry", "guardrail_intervened"),
        said("Half", "max_tokens"),
        (424, {"message": "The model returned an error"}),
        good=said([{"type": "thinking", "thinking": "[[2]]"}, {"type": "text", "text": "[[8]]"}], "end_turn"),
    ),
    "openrouter": Provider(
        error(400, "Provider returned error", code=400, metadata={"raw": "prompt is too long: 9000 tokens"}),
        error(403, "Your input was flagged", code=403, metadata={"reasons": ["violence"], "flagged_input": "x"}),
        said("Half", "error"),
        error(200, "Provider returned error", code=502),
        cut_is="server_error",
        good=said("[[8]]", reasoning="or [[2]]"),
    ),
    "zhipu": Provider(
        error(400, "Prompt 超长", code="1261"),
        error(400, "系统检测到输入或生成内容可能包含不安全或敏感内容", code="1301"),
        said("Half", "network_error"),
        error(429, "您的账户已达到速率限制", code="1302"),
        cut_is="server_error",
        good=said("[[8]]", reasoning_content="or [[2]]"),
    ),
    "moonshot": Provider(
        error(400, "Invalid request: Your request exceeded model token limit: 8192", type="invalid_request_error"),
        error(400, "The request was rejected because it was considered high risk", type="content_filter"),
        said("Half", "length"),
        error(429, "The engine is currently overloaded", type="engine_overloaded_error"),
        refused={"temperature": "invalid temperature: only 1 is allowed for this model"},
    ),
    "dashscope": Provider(
        error(400, "Range of input length should be [1, 30720]", code="invalid_parameter_error"),
        error(400, "Input data may contain inappropriate content.", code="data_inspection_failed"),
        said("Half", "length", reasoning_content="Hm"),
        error(429, "Requests rate limit exceeded", code="limit_requests"),
    ),
    "ollama": Provider(
        error(400, "input length exceeds maximum context length"),
        said("", refusal="I cannot help with that."),
        said("Half", "length", reasoning="Hm"),
        (503, {"error": "server busy, please try again"}),
    ),
    "llama.cpp": Provider(
        error(400, "request (9390 tokens) exceeds the available context size", type="exceed_context_size_error"),
        said(None, refusal="No."),
        said("Half", "length"),
        error(503, "Loading model", type="unavailable_error", code=503),
    ),
    "tgi": Provider(
        (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096.", "error_type": "validation"}),
        said(None, refusal="No."),
        said("Half", "length"),
        (429, {"error": "Model is overloaded", "error_type": "overloaded"}),
        good=said("[[8]]", "eos_token"),
    ),
    "sglang": Provider(
        (400, {"object": "error", "message": "The input (9000 tokens) is longer than the model's context length"}),
        said(None, refusal="No."),
        said("Half", "abort"),
        (200, {"object": "error", "message": "The server is shutting down", "code": 503}),
        cut_is="server_error",
    ),
}


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
def test_every_call_ends_as_it_should(judge_server, provider):
    seen: Counter[str] = Counter()

    def answer(prompt: str, _number: int) -> web.Response:
        seen[prompt] += 1
        for name, message in provider.refused.items():
            if name in judge_server.bodies[-1]:
                status, body = error(400, message, param=name)
                return web.json_response(body, status=status)
        status, body = provider.good
        if len(prompt) > 12000:
            status, body = provider.too_long
        elif "FLAGGED" in prompt:
            status, body = provider.filtered
        elif "CUT" in prompt:
            status, body = provider.cut
        elif "LATER" in prompt and seen[prompt] < 3:
            status, body = provider.busy
        return web.json_response(body, status=status)

    judge_server.script = {"helpfulness": answer, "extract": answer}
    ratings = [RateHelpfulness("en", "What?", f"Paris {word}.") for word in ("", "FLAGGED", "CUT", "LATER", "again")]
    long = ExtractRelevant("en", "What?", "Mara sold copper to Otto in Lisbon and went home. " * 300)
    config = JudgeConfig(
        kind="openai", model="m", base_url=judge_server.url, retry_base_s=0.001, call_timeout_s=60, max_attempts=4
    )

    async def run():
        judge = make_judge(config)
        verdicts = [await judge.ask(request) for request in (*ratings, long)]
        state = judge.status()
        await judge.aclose()
        return verdicts, state

    verdicts, state = asyncio.run(run())
    statuses = [verdict.call.status for verdict in verdicts]
    assert statuses == ["ok", "filtered", provider.cut_is, "ok", "ok", "ok"], [v.call.detail for v in verdicts]
    assert [verdicts[i].value for i in (0, 3, 4)] == [8, 8, 8] and verdicts[5].call.shrunk
    assert state.given_up is None and bool(state.adapted) == bool(provider.refused)
    assert "[[2]]" not in "".join(verdict.call.text for verdict in verdicts)
