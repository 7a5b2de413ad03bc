"""The judge behind an endpoint: what each of its failures becomes. A real socket server plays the endpoint."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web

from longreward.config import JudgeConfig
from longreward.errors import ConfigError
from longreward.judge import make_judge
from longreward.judge.requests import RateHelpfulness

REQUEST = RateHelpfulness("en", "What is the capital of France?", "Paris.")


def ask(server, *, url: str | None = None, **settings):
    settings = {"max_attempts": 3, "retry_base_s": 0, "call_timeout_s": 10, **settings}
    config = JudgeConfig(kind="openai", base_url=url or server.url, model="judge", **settings)

    async def run():
        judge = make_judge(config)
        try:
            return await judge.ask(REQUEST)
        finally:
            await judge.aclose()

    return asyncio.run(run())


def error(status: int, code: str = "", **headers: str) -> web.Response:
    return web.json_response({"error": {"message": f"code {code}", "code": code}}, status=status, headers=headers)


def finish(text: str | None, reason: str) -> web.Response:
    body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}]}
    return web.json_response(body)


@pytest.mark.parametrize(
    ("reply", "status", "calls"),
    [
        (lambda: error(500), "server_error", 3),
        (lambda: error(503), "server_error", 3),
        (lambda: error(429), "rate_limited", 3),
        (lambda: error(429, "insufficient_quota"), "quota", 1),
        (lambda: error(401), "unauthorized", 1),
        (lambda: error(403), "unauthorized", 1),
        (lambda: error(404), "not_found", 1),
        (lambda: error(400, "context_length_exceeded"), "context_length", 1),
        (lambda: error(400, "content_filter"), "filtered", 1),
        (lambda: error(400, "whatever"), "bad_request", 1),
        (lambda: finish("partly [[7]]", "content_filter"), "filtered", 1),
        (lambda: finish("cut [[7]]", "length"), "truncated", 2),
        (lambda: finish(None, "stop"), "bad_response", 2),
        (lambda: finish("  ", "stop"), "bad_response", 2),
        (lambda: web.json_response({"choices": None}), "bad_response", 2),
        (lambda: web.json_response({"choices": []}), "bad_response", 2),
        (lambda: web.json_response({"error": "no"}), "bad_response", 2),
        (lambda: web.json_response([1, 2]), "bad_response", 2),
        (lambda: web.Response(text="<html>oops</html>", content_type="text/html"), "bad_response", 2),
        (lambda: web.Response(text="{not json", content_type="application/json"), "bad_response", 2),
        (lambda: finish("no verdict here", "stop"), "parse_error", 3),
        (lambda: finish("[[11]]", "stop"), "parse_error", 3),
    ],
)
def test_each_failure_has_its_name_and_its_number_of_attempts(judge_server, reply, status, calls):
    judge_server.script = {"helpfulness": lambda *_: reply()}
    verdict = ask(judge_server)
    assert (verdict.value, verdict.call.status) == (None, status), verdict.call.detail
    assert verdict.call.attempts == judge_server.calls.total() == calls
    assert verdict.call.detail


@pytest.mark.parametrize("bad", [lambda: error(500), lambda: error(429), lambda: finish("[[eleven]]", "stop")])
def test_a_passing_failure_is_retried(judge_server, bad):
    judge_server.script = {"helpfulness": lambda _, number: bad() if number == 1 else "fine [[9]]"}
    verdict = ask(judge_server)
    assert (verdict.value, verdict.call.status, verdict.call.attempts) == (9, "ok", 2)


def test_a_cut_reply_is_asked_again_with_more_room(judge_server):
    judge_server.script = {"helpfulness": lambda _, number: finish("cut", "length") if number == 1 else "[[9]]"}
    assert ask(judge_server, max_tokens=100).value == 9
    assert [body["max_tokens"] for body in judge_server.bodies] == [100, 200]


def test_an_unreadable_reply_is_asked_again_at_another_temperature(judge_server):
    judge_server.script = {"helpfulness": lambda _, number: "nothing" if number == 1 else "[[9]]"}
    assert ask(judge_server).value == 9
    assert [body["temperature"] for body in judge_server.bodies] == [0.01, 0.7]


def test_a_hanging_endpoint_is_a_timeout_within_the_deadline(judge_server):
    judge_server.latency = 30
    started = time.monotonic()
    verdict = ask(judge_server, attempt_timeout_s=0.3, call_timeout_s=1)
    assert verdict.call.status == "timeout"
    assert time.monotonic() - started < 3


def test_a_slow_drip_is_a_timeout_within_the_deadline(judge_server):
    judge_server.script = {"helpfulness": lambda *_: _Drip()}
    started = time.monotonic()
    verdict = ask(judge_server, attempt_timeout_s=0.5, max_attempts=1)
    assert verdict.call.status == "timeout"
    assert time.monotonic() - started < 3


class _Drip(web.StreamResponse):
    async def prepare(self, request):
        writer = await super().prepare(request)
        try:
            for _ in range(100):
                await self.write(b" ")
                await asyncio.sleep(0.1)
        except ConnectionError:
            pass  # the client gave up, which is what is tested
        return writer


def test_an_endpoint_that_is_not_there_is_unreachable():
    verdict = ask(None, url="http://127.0.0.1:9/v1", max_attempts=2)
    assert (verdict.call.status, verdict.call.attempts) == ("unreachable", 2)
    assert "127.0.0.1" in verdict.call.detail


def test_retry_after_is_obeyed_but_not_past_the_deadline(judge_server):
    judge_server.script = {
        "helpfulness": lambda _, number: error(429, **{"retry-after": "0.5"}) if number == 1 else "[[9]]"
    }
    started = time.monotonic()
    assert ask(judge_server).value == 9
    assert time.monotonic() - started >= 0.5
    judge_server.calls.clear()
    judge_server.script = {"helpfulness": lambda *_: error(429, **{"retry-after": "300"})}
    started = time.monotonic()
    assert ask(judge_server, call_timeout_s=5).call.status == "rate_limited"
    assert time.monotonic() - started < 2


def test_no_more_requests_at_once_than_configured(judge_server):
    judge_server.latency = 0.05
    config = JudgeConfig(kind="openai", base_url=judge_server.url, model="judge", max_in_flight=4)

    async def run():
        judge = make_judge(config)
        verdicts = await asyncio.gather(*(judge.ask(REQUEST) for _ in range(20)))
        await judge.aclose()
        return verdicts

    assert all(verdict.ok for verdict in asyncio.run(run()))
    assert judge_server.most_in_flight == 4


def test_the_key_comes_from_the_named_variable(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigError, match="MY_KEY, which is not set"):
        make_judge(JudgeConfig(kind="openai", base_url="http://127.0.0.1:9/v1", model="judge", api_key_env="MY_KEY"))
