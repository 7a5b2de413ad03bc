"""How providers refuse, in their own words, and that a refusal of one request is not one of us."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from longreward.config import JudgeConfig
from longreward.judge import make_judge
from longreward.judge.requests import ExtractRelevant, RateHelpfulness

LONG = ExtractRelevant("en", "What did Mara do?", "Mara sold copper to Otto in Lisbon and went home. " * 300)
SHORT = RateHelpfulness("en", "What is the capital of France?", "Paris.")


def error(message: str, **more) -> dict:
    return {"error": {"message": message, **more}}


def response(status: int, body) -> web.Response:
    if isinstance(body, str):
        return web.Response(status=status, text=body, content_type="text/html")
    return web.json_response(body, status=status)


def ask(server, *requests, one_by_one=False, **settings):
    """The verdicts, and what the judge says of itself at the end."""
    settings = {"retry_base_s": 0.001, "call_timeout_s": 30, "base_url": server.url, **settings}

    async def run():
        judge = make_judge(JudgeConfig(kind="openai", model="judge", **settings))
        try:
            if one_by_one:
                return [await judge.ask(request) for request in requests], judge.status()
            return await asyncio.gather(*map(judge.ask, requests)), judge.status()
        finally:
            await judge.aclose()

    return asyncio.run(run())


TOO_LONG = {
    "openai": (400, error("This model's maximum context length is 8192 tokens.", code="context_length_exceeded")),
    "openai, characters": (
        400,
        error("Invalid 'messages[0].content': string too long.", code="string_above_max_length"),
    ),
    "openai, a minute's tokens": (
        429,
        error(
            "Request too large for gpt-x on tokens per min (TPM): Limit 30000, Requested 38000.",
            code="rate_limit_exceeded",
        ),
    ),
    "vllm": (
        400,
        {
            "object": "error",
            "message": "The decoder prompt (length 10127) is longer than the maximum model length of 8192.",
            "code": 400,
        },
    ),
    "vllm, newer": (
        400,
        error("'max_tokens' is too large: 4096. This model's maximum context length is 4096 tokens"),
    ),
    "sglang": (
        400,
        {
            "object": "error",
            "message": "The input (61709 tokens) is longer than the model's context length (40960 tokens).",
            "code": 400,
        },
    ),
    "sglang, memory": (
        400,
        {
            "object": "error",
            "message": "Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).",
            "code": 400,
        },
    ),
    "xinference": (
        500,
        {"detail": "The decoder prompt (length 66501) is longer than the maximum model length of 65536."},
    ),
    "llama.cpp": (
        400,
        error(
            "request (4390 tokens) exceeds the available context size (4096 tokens)", type="exceed_context_size_error"
        ),
    ),
    "llama.cpp, 500": (500, error("Context size has been exceeded.", code=500, type="server_error")),
    "ollama": (400, error("input length exceeds maximum context length")),
    "lm studio, in a 200": (
        200,
        {"error": "Trying to keep the first 15857 tokens when context the overflows. Provide a shorter input."},
    ),
    "lm studio": (
        400,
        {"error": "The number of tokens to keep is greater than the context length (n_keep: 13055>= n_ctx: 4096)."},
    ),
    "tgi": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096.",
            "error_type": "validation",
        },
    ),
    "gemini, in a list": (
        400,
        [
            error(
                "The input token count (40000) exceeds the maximum number of tokens allowed (32768).",
                code=400,
                status="INVALID_ARGUMENT",
            )
        ],
    ),
    "bedrock": (400, {"message": "Input is too long for requested model."}),
    "bedrock behind litellm": (
        400,
        error("litellm.ContextWindowExceededError: Input is too long.", type=None, code="400"),
    ),
    "bedrock, claude": (400, {"message": "Malformed input request: expected maxLength: 100000, actual: 128000"}),
    "anthropic": (400, error("prompt is too long: 208310 tokens > 200000 maximum", type="invalid_request_error")),
    "anthropic, sum": (400, error("input length and `max_tokens` exceed context limit: 174167 + 64000 > 200000")),
    "zhipu": (400, error("Prompt 超长", code="1261")),
    "zhipu, in a 200": (200, error("Prompt 超长", code="1261")),
    "mistral": (
        400,
        {
            "object": "error",
            "message": "Prompt contains 65673 tokens, too large for model with 32768 maximum context length",
            "type": "invalid_request_prompt",
        },
    ),
    "moonshot": (400, error("Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)")),
    "moonshot, input": (400, error("Input token length too long", type="invalid_request_error")),
    "dashscope": (
        400,
        error(
            "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]",
            code="invalid_parameter_error",
        ),
    ),
    "qianfan": (400, error("Prompt tokens too long", code="tokens_too_long")),
    "together": (
        403,
        error("Input token count + max_tokens parameter must be less than the context length of the model"),
    ),
    "groq": (
        413,
        error(
            "Request too large for model on tokens per minute (TPM): Limit 6000, Requested 8000",
            code="rate_limit_exceeded",
        ),
    ),
    "nginx": (413, "<html><title>413 Request Entity Too Large</title></html>"),
    "openrouter, from behind": (
        400,
        error("Provider returned error", code=400, metadata={"raw": '{"message": "maximum context length is 8192"}'}),
    ),
    "unclear 400": (400, error("Bad Request")),
    "unclear 422": (422, {"detail": "could not process"}),
}


@pytest.mark.parametrize(("status", "body"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_prompt_that_is_too_long_is_halved_once_in_the_words_of_every_server(judge_server, status, body):
    judge_server.script = {"extract": lambda p, _: response(status, body) if len(p) > 12000 else "Mara sold copper."}
    (verdict,), _ = ask(judge_server, LONG)
    assert (verdict.value, verdict.call.shrunk) == ("Mara sold copper.", True), verdict.call.detail
    assert judge_server.calls.total() == 2
    judge_server.script = {"extract": lambda *_: response(status, body)}
    (verdict,), _ = ask(judge_server, LONG)
    expected = "bad_request" if body in (TOO_LONG["unclear 400"][1], TOO_LONG["unclear 422"][1]) else "context_length"
    assert (verdict.value, verdict.call.status, judge_server.calls.total()) == (None, expected, 4)


NOT_TOO_LONG = {
    "a limit per minute": (
        429,
        error("Rate limit reached: Limit 6000, Used 5800, Requested 800.", code="rate_limit_exceeded"),
    ),
    "bedrock's limit": (429, {"message": "Too many tokens, please wait before trying again."}),
    "a slow gateway": (504, error("The request took too long to complete")),
    "server": (500, error("Internal error")),
}


@pytest.mark.parametrize(("status", "body"), NOT_TOO_LONG.values(), ids=NOT_TOO_LONG)
def test_what_only_sounds_like_a_long_prompt_is_asked_again_in_full(judge_server, status, body):
    judge_server.script = {"extract": lambda _, n: response(status, body) if n == 1 else "Mara sold copper."}
    (verdict,), _ = ask(judge_server, LONG)
    assert (verdict.value, verdict.call.shrunk, verdict.call.attempts) == ("Mara sold copper.", False, 2)


REFUSALS = {
    "openrouter, flagged": (
        403,
        error("Your input was flagged by moderation", code=403, metadata={"reasons": ["x"]}),
        "filtered",
    ),
    "azure": (
        400,
        error("The response was filtered", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"}),
        "filtered",
    ),
    "azure, words": (400, error("... triggering Azure OpenAI's content management policy"), "filtered"),
    "zhipu, sensitive": (400, error("系统检测到输入或生成内容可能包含不安全或敏感内容", code="1301"), "filtered"),
    "moonshot, high risk": (
        400,
        error("The request was rejected because it was considered high risk", type="content_filter"),
        "filtered",
    ),
    "dashscope, inspection": (
        400,
        error("Input data may contain inappropriate content.", code="data_inspection_failed"),
        "filtered",
    ),
    "gemini, blocked": (400, [error("The prompt was blocked due to safety", code=400)], "filtered"),
    "dashscope's own shape, in a 200": (
        200,
        {"code": "DataInspectionFailed", "message": "Output data may contain inappropriate content."},
        "filtered",
    ),
    "filter in a 200": (200, error("no", code="content_filter"), "filtered"),
    "zhipu, no money": (429, error("您的账户已欠费，请充值后重试", code="1113"), "quota"),
    "dashscope, no money": (
        400,
        error("Access denied, please make sure your account is in good standing.", code="Arrearage"),
        "quota",
    ),
    "moonshot, no money": (
        429,
        error("Your account is suspended, please check your plan", type="exceeded_current_quota_error"),
        "quota",
    ),
    "deepseek": (402, error("Insufficient Balance"), "quota"),
    "openai, no money": (429, error("You exceeded your current quota", code="insufficient_quota"), "quota"),
    "anthropic, no money": (400, error("Your credit balance is too low to access the API"), "quota"),
    "litellm, budget": (
        400,
        error("Budget has been exceeded! Current cost: 26.075, Max budget: 0.25", type="budget_exceeded", code="400"),
        "quota",
    ),
    "litellm, end user": (400, error("ExceededBudget: End User=x over budget. Spend=0.08, Budget=0.01"), "quota"),
    "one-api": (403, error("用户额度不足", type="new_api_error", code="insufficient_user_quota"), "quota"),
    "gemini, key": (
        400,
        [error("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT", code=400)],
        "unauthorized",
    ),
    "xai, key": (400, {"code": "invalid argument", "error": "Incorrect API key provided: x."}, "unauthorized"),
    "key in a 200": (200, error("invalid api key", code=401), "unauthorized"),
    "zhipu, key": (401, error("身份验证失败", code="1000"), "unauthorized"),
    "account": (403, error("Your account has been flagged. Contact support."), "unauthorized"),
    "openrouter, model": (400, error("foo/bar is not a valid model ID", code=400), "not_found"),
    "deepseek, model": (400, error("Model Not Exist", type="invalid_request_error"), "not_found"),
    "zhipu, model": (400, error("模型不存在，请检查模型代码。", code="1211"), "not_found"),
    "ollama, model": (404, {"error": "model 'judge' not found"}, "not_found"),
    "unclear and short": (400, error("Bad Request"), "bad_request"),
}


@pytest.mark.parametrize(("status", "body", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_has_its_name_and_the_providers_words(judge_server, status, body, expected):
    judge_server.script = {"helpfulness": lambda *_: response(status, body)}
    (verdict,), _ = ask(judge_server, SHORT)
    assert (verdict.value, verdict.call.status) == (None, expected)
    assert f"HTTP {status}" in verdict.call.detail
    assert judge_server.calls.total() <= 2


PASSING = {
    "429 in a 200": (200, error("temporarily rate-limited upstream", code=429)),
    "502 in a 200": (200, error("Provider returned error", code=502)),
    "503 as text in a 200": (200, error("busy", code="503")),
    "rate limit without a number": (200, error("Too many requests", type="rate_limit_error")),
    "overloaded in a 200": (200, error("Overloaded", type="overloaded_error")),
    "zhipu's rate in a 200": (200, error("您的账户已达到速率限制", code="1302")),
    "zhipu's gateway in a 200": (200, {"code": 500, "msg": "404 NOT_FOUND", "success": False}),
    "tgi, generation": (424, {"error": "Request failed during generation", "error_type": "generation"}),
    "too early": (425, error("try later")),
    "groq, no capacity": (498, error("Flex tier capacity exceeded")),
    "gemini, a minute's quota": (
        429,
        [error("You exceeded your current quota, please check your plan", code=429, status="RESOURCE_EXHAUSTED")],
    ),
    "moonshot, overloaded": (429, error("The engine is currently overloaded", type="engine_overloaded_error")),
    "gemini, overloaded": (503, [error("The model is overloaded.", code=503, status="UNAVAILABLE")]),
}


@pytest.mark.parametrize(("status", "body"), PASSING.values(), ids=PASSING)
def test_what_passes_is_asked_again_until_it_has_passed(judge_server, status, body):
    judge_server.script = {"helpfulness": lambda _, number: response(status, body) if number <= 3 else "[[8]]"}
    (verdict,), _ = ask(judge_server, SHORT)
    assert (verdict.value, verdict.call.attempts) == (8, 4), verdict.call.detail


def test_an_error_in_a_200_beside_choices_is_no_reply(judge_server):
    choices = [{"message": {"role": "assistant", "content": "[[8]]"}, "finish_reason": "stop"}]
    body = error("upstream died", code=502) | {"choices": choices}
    judge_server.script = {"helpfulness": lambda *_: web.json_response(body)}
    (verdict,), _ = ask(judge_server, SHORT, max_attempts=1)
    assert (verdict.value, verdict.call.status) == (None, "server_error")


# A refusal of one request is not a refusal of us


CLOUDFLARE = "<html><head><title>Attention Required! | Cloudflare</title></head><body>Sorry, you have been blocked"
ONE = {
    "moderation": (403, error("Your input was flagged by moderation"), "filtered"),
    "a firewall's page": (403, CLOUDFLARE, "filtered"),
    "403 without a word": (403, error(""), "filtered"),
    "401": (401, error("no"), "unauthorized"),
    "404": (404, error("no allowed providers for this request"), "not_found"),
}


def rating(number: int, what: str = "") -> RateHelpfulness:
    return RateHelpfulness("en", "What is the capital of France?", f"Paris, {number}. {what}")


@pytest.mark.parametrize(("status", "body", "expected"), ONE.values(), ids=ONE)
def test_one_prompt_that_is_refused_is_void_alone(judge_server, status, body, expected):
    judge_server.script = {"helpfulness": lambda p, _: response(status, body) if "FLAGGED" in p else "[[8]]"}
    requests = [rating(n, "FLAGGED" if 5 <= n < 9 else "") for n in range(20)]  # four are asked about one answer
    verdicts, state = ask(judge_server, *requests, one_by_one=True)
    assert [v.call.status for v in verdicts] == ["ok"] * 5 + [expected] * 4 + ["ok"] * 11
    assert state.given_up is None


@pytest.mark.parametrize(("status", "body", "expected"), ONE.values(), ids=ONE)
def test_a_prompt_that_is_refused_first_of_all_is_void_alone(judge_server, status, body, expected):
    judge_server.script = {"helpfulness": lambda p, _: response(status, body) if "FLAGGED" in p else "[[8]]"}
    verdicts, state = ask(judge_server, *(rating(n, "" if n else "FLAGGED") for n in range(9)), one_by_one=True)
    assert not verdicts[0].ok and all(verdict.ok for verdict in verdicts[1:])
    assert state.given_up is None


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_refuses_all_is_given_up(judge_server, status):
    judge_server.script = {"helpfulness": lambda *_: response(status, error("not for you"))}
    verdicts, state = ask(judge_server, *map(rating, range(200)), max_in_flight=4)
    assert {verdict.call.status for verdict in verdicts} == {"not_found" if status == 404 else "unauthorized"}
    assert state.given_up and "not for you" in state.given_up
    assert judge_server.calls.total() <= 24


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_withdrawn_is_noticed(judge_server, status):
    judge_server.script = {"helpfulness": lambda _, n: "[[8]]" if n <= 20 else response(status, error("not for you"))}
    verdicts, state = ask(judge_server, *map(rating, range(200)), max_in_flight=4)
    assert sum(verdict.ok for verdict in verdicts) == 20
    assert state.given_up and judge_server.calls.total() <= 60


def test_what_one_endpoint_refuses_another_may_answer(judge_server, start_judge):
    with start_judge() as other:
        for server, script in ((judge_server, lambda *_: response(403, error("no"))), (other, "[[8]]")):
            server.script = {"helpfulness": script}
        endpoints = [{"base_url": server.url} for server in (judge_server, other)]
        verdicts, _ = ask(judge_server, *map(rating, range(30)), base_url=None, endpoints=endpoints)
    assert all(verdict.ok for verdict in verdicts)
