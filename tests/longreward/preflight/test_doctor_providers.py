"""`longreward doctor` at twelve providers, each refusing in its own ways: the finding names what is wrong and what
helps there. The servers' words are those of their documentation and of public reports."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from longreward.cli import main
from longreward.preflight import asking

KINDS = ("helpfulness", "logicality", "statements", "verify", "extract", "completeness")
Answer = tuple[int, Any]


def error(status: int, message: str, /, **more: Any) -> Answer:
    return status, {"error": {"message": message, **more}}


def google(status: int, message: str, name: str) -> Answer:
    return status, [{"error": {"code": status, "message": message, "status": name}}]


def said(content: Any, finish: Any = "stop", **message: Any) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | message, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}


NO_MODEL = "The model `m` does not exist or you do not have access to it."
CASES: dict[str, list[tuple[Answer, str, list[str]]]] = {
    "openai, reasoning": [
        (
            error(401, "Incorrect API key provided: sk-x.", code="invalid_api_key"),
            "unauthorized",
            ["judge.api_key_env"],
        ),
        (error(404, NO_MODEL, code="model_not_found"), "not_found", ["judge.model", "/models"]),
        (error(429, "You exceeded your current quota", code="insufficient_quota"), "quota", ["the account"]),
        (
            error(400, "Unsupported value: 'reasoning_effort' does not support 'minimal'.", param="reasoning_effort"),
            "bad_request",
            ["reasoning_effort", "judge.extra_body"],
        ),
        (said("", "length", reasoning_content="Hm"), "truncated", ["still reasoning", "judge.reasoning_tokens"]),
        (
            error(400, "maximum context length is 8192 tokens.", code="context_length_exceeded"),
            "context_length",
            ["a model"],
        ),
    ],
    "azure": [
        (
            error(404, "The API deployment for this resource does not exist.", code="DeploymentNotFound"),
            "not_found",
            ["/openai/deployments/NAME?api-version=", "name of the deployment"],
        ),
        (
            error(401, "Access denied due to invalid subscription key or wrong API endpoint.", code="401"),
            "unauthorized",
            ["judge.api_key_header=api-key"],
        ),
        (error(404, "Resource not found", code="404"), "not_found", ["no such path", "?api-version="]),
        (error(400, "API version not supported", code="BadRequest"), "bad_request", ["?api-version="]),
        (
            error(400, "The prompt triggered Azure OpenAI's content management policy.", code="content_filter"),
            "filtered",
            ["milder content filter"],
        ),
    ],
    "gemini": [
        (
            google(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"),
            "unauthorized",
            ["the key"],
        ),
        (google(400, "Missing or invalid Authorization header.", "INVALID_ARGUMENT"), "unauthorized", ["the key"]),
        (
            google(404, "models/m is not found for API version v1main, or is not supported.", "NOT_FOUND"),
            "not_found",
            ["judge.model"],
        ),
        ((404, b""), "not_found", ["no such path", "/v1beta/openai"]),
        (
            google(429, "You exceeded your current quota, please check your plan.", "RESOURCE_EXHAUSTED"),
            "rate_limited",
            ["judge.requests_per_minute", "plan"],
        ),
        (
            google(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
            "bad_request",
            ["region"],
        ),
        (said(None, "content_filter: PROHIBITED_CONTENT"), "filtered", ["content filter"]),
    ],
    "bedrock gateway": [
        (
            (400, {"detail": "Unsupported model m, please use models API to get a list"}),
            "not_found",
            ["model ID", "/models"],
        ),
        ((400, {"message": "The provided model identifier is invalid."}), "not_found", ["model ID of Bedrock"]),
        (
            (400, {"detail": "Invocation of model ID m with on-demand throughput isn't supported."}),
            "not_found",
            ["inference profile"],
        ),
        (
            (403, {"message": "You don't have access to the model with the specified model ID."}),
            "unauthorized",
            ["ask for"],
        ),
        (said("Sorry", "guardrail_intervened"), "filtered", ["guardrail out"]),
        ((400, {"message": "Input is too long for requested model."}), "context_length", ["longer context"]),
    ],
    "openrouter": [
        (error(401, "No auth credentials found", code=401), "unauthorized", ["judge.api_key_env"]),
        (
            error(402, "This request requires more credits, or fewer max_tokens.", code=402),
            "quota",
            ["top it up", "judge.max_tokens"],
        ),
        (error(403, "Your input was flagged", code=403, metadata={"reasons": ["x"]}), "filtered", ["a model without"]),
        (error(400, "m is not a valid model ID", code=400), "not_found", ["judge.model"]),
        (error(404, "No endpoints found matching your data policy", code=404), "not_found", ["privacy settings"]),
        (
            error(503, "No allowed providers are available for the selected model", code=503),
            "server_error",
            ["allow a"],
        ),
    ],
    "zhipu": [
        (error(401, "身份验证失败。", code="1000"), "unauthorized", ["the key"]),
        (error(429, "余额不足或无可用资源包,请充值。", code="1113"), "quota", ["top up"]),
        (error(400, "模型不存在，请检查模型代码。", code="1211"), "not_found", ["judge.model"]),
        (error(400, "Prompt 超长", code="1261"), "context_length", ["chunking.extraction_tokens"]),
        (error(400, "系统检测到输入或生成内容可能包含不安全或敏感内容", code="1301"), "filtered", ["content filter"]),
        (error(429, "您的账户已达到速率限制", code="1302"), "rate_limited", ["judge.max_in_flight"]),
        (said("Half", "network_error"), "server_error", ["status page"]),
    ],
    "moonshot": [
        (error(401, "Invalid Authentication", type="invalid_authentication_error"), "unauthorized", ["the key"]),
        (error(429, "Your account is suspended", type="exceeded_current_quota_error"), "quota", ["top up"]),
        (
            error(404, "Not found the model m or Permission denied", type="resource_not_found_error"),
            "not_found",
            ["the key"],
        ),
        (error(400, "The request was considered high risk", type="content_filter"), "filtered", ["content filter"]),
        (
            error(429, "The engine is currently overloaded", type="engine_overloaded_error"),
            "rate_limited",
            ["max_in_flight"],
        ),
    ],
    "dashscope": [
        (error(401, "Incorrect API key provided.", code="invalid_api_key"), "unauthorized", ["the key"]),
        (error(400, "make sure your account is in good standing.", code="Arrearage"), "quota", ["top up"]),
        (error(404, NO_MODEL, code="model_not_found"), "not_found", ["judge.model"]),
        (
            error(400, "parameter.enable_thinking must be set to false for non-streaming calls"),
            "bad_request",
            ["judge.extra_body={enable_thinking: false}"],
        ),
        (
            error(400, "Input data may contain inappropriate content.", code="data_inspection_failed"),
            "filtered",
            ["filter"],
        ),
    ],
    "ollama": [
        (error(404, 'model "m" not found, try pulling it first', type="api_error"), "not_found", ["`ollama pull`"]),
        ((404, b"404 page not found"), "not_found", ["no such path", "/v1"]),
        (error(400, "the input length exceeds the context length"), "context_length", ["OLLAMA_CONTEXT_LENGTH"]),
        ((503, {"error": "server busy, please try again"}), "server_error", ["too much to do"]),
    ],
    "llama.cpp": [
        (error(401, "Invalid API Key", type="authentication_error", code=401), "unauthorized", ["the key"]),
        (
            error(400, "request exceeds the available context size", type="exceed_context_size_error"),
            "context_length",
            ["-c,"],
        ),
        (error(503, "Loading model", type="unavailable_error", code=503), "server_error", ["has loaded the model"]),
        (said("", reasoning_content="[[8]]"), "only_reasoning", ["judge.reasoning_tokens"]),
    ],
    "tgi": [
        (
            (422, {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096.", "error_type": "validation"}),
            "context_length",
            ["--max-input-tokens and --max-total-tokens"],
        ),
        (
            (422, {"error": "Template error: template not found", "error_type": "template_error"}),
            "bad_request",
            ["instruct"],
        ),
        ((429, {"error": "Model is overloaded", "error_type": "overloaded"}), "rate_limited", ["judge.max_in_flight"]),
        ((405, b""), "not_found", ["no such path"]),
    ],
    "sglang": [
        (
            (400, {"object": "error", "message": "The input (9000 tokens) is longer than the model's context length"}),
            "context_length",
            ["--context-length"],
        ),
        ((401, {"error": "Unauthorized"}), "unauthorized", ["the key"]),
        (said("Half", "abort"), "server_error", ["server's log"]),
        (said(None, reasoning_content="[[8]]"), "only_reasoning", ["--reasoning-parser"]),
        (said("Half", "wibble"), "bad_response", ["finish_reason wibble", "ended itself"]),
    ],
}
GIVEN = [(name, *case) for name, cases in CASES.items() for case in cases]


@pytest.mark.parametrize(
    ("provider", "answer", "reason", "words"), GIVEN, ids=[f"{each[0]}-{each[2]}" for each in GIVEN]
)
def test_the_finding_names_the_problem_and_the_remedy(
    judge_server, capsys, monkeypatch, provider, answer, reason, words
):
    monkeypatch.setattr(asking, "_MOMENT_S", 0.02)
    monkeypatch.setattr(asking, "_WHEN_BUSY_S", 0.02)
    status, body = answer
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    judge_server.script = {kind: lambda *_: web.Response(status=status, body=raw) for kind in KINDS}
    assert main(["doctor", "--judge", "openai", "--base-url", judge_server.url, "--model", "m"]) == 1
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.split()[:2] == ["problem", "judge"]]
    sentence, _, action = line.partition(" -> ")
    assert f"m at {judge_server.url} answers no question: {reason} (" in sentence
    said_there = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    assert status == 200 or f"HTTP {status}" in sentence, said_there
    for word in words:
        assert word in (sentence if word in ("still reasoning", "reasoning_effort", "finish_reason wibble") else action)
