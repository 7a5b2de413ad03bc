"""Judges that take another length limit, no temperature, or need room to think: learnt from what they refuse."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from pydantic import ValidationError

from longreward.config import CacheConfig, JudgeConfig
from longreward.errors import ConfigError
from longreward.judge import make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.requests import RateHelpfulness


def question(number: int = 0) -> RateHelpfulness:
    return RateHelpfulness("en", "What is the capital of France?", f"Paris, {number}.")


def error(message: str, status: int = 400, **more) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "invalid_request_error", **more}}, status=status)


NO_LIMIT = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
NO_TEMPERATURE = (
    "Unsupported value: 'temperature' does not support 0.01 with this model. Only the default (1) value is supported."
)


def reasoning_model(server):
    """Refuses as OpenAI's reasoning models do."""

    def reply(_prompt, _number):
        body = server.bodies[-1]
        if "max_tokens" in body:
            return error(NO_LIMIT, param="max_tokens", code="unsupported_parameter")
        if body.get("temperature", 1) != 1:
            return error(NO_TEMPERATURE, param="temperature", code="unsupported_value")
        return "[[8]]"

    return {"helpfulness": reply}


def ask(server, *numbers, cache=None, **settings):
    """The verdicts of one question after another, and how the endpoint was adapted to."""
    config = JudgeConfig(kind="openai", model="judge", base_url=server.url, retry_base_s=0.001, **settings)

    async def run():
        judge = make_judge(config, VerdictCache.of(CacheConfig(path=cache)))
        try:
            return [await judge.ask(question(number)) for number in numbers or (0,)], judge.status().adapted
        finally:
            await judge.aclose()

    return asyncio.run(run())


def test_a_reasoning_model_is_learnt_once_and_remembered(judge_server):
    judge_server.script = reasoning_model(judge_server)
    verdicts, (told,) = ask(judge_server, *range(5), max_attempts=1)
    assert [verdict.value for verdict in verdicts] == [8] * 5
    assert [verdict.call.attempts for verdict in verdicts] == [1] * 5
    assert len(judge_server.bodies) == 7  # two refusals, at the first question only
    last = judge_server.bodies[-1]
    assert last["max_completion_tokens"] == 2048 and not {"max_tokens", "temperature"} & last.keys()
    assert told == f"{judge_server.url} wants max_completion_tokens in place of max_tokens and takes no temperature"


def test_many_questions_at_once_learn_it_together(judge_server):
    judge_server.script, judge_server.latency = reasoning_model(judge_server), 0.02
    config = JudgeConfig(kind="openai", model="judge", base_url=judge_server.url)

    async def run():
        judge = make_judge(config)
        verdicts = await asyncio.gather(*(judge.ask(question(n)) for n in range(40)))
        await judge.aclose()
        return verdicts

    assert all(verdict.value == 8 for verdict in asyncio.run(run()))


REFUSED = {
    "Azure": ("temperature", NO_TEMPERATURE.replace("value: ", "parameter: "), {"code": None, "param": "temperature"}),
    "LiteLLM": ("temperature", "litellm.UnsupportedParamsError: O-series models don't support temperature=0.01.", {}),
    "Kimi": ("temperature", "invalid temperature: only 1 is allowed for this model", {}),
    "Anthropic behind a gateway": ("temperature", "`temperature` is deprecated for this model.", {}),
    "OpenAI without a param": ("max_tokens", NO_LIMIT, {}),
}


@pytest.mark.parametrize(("field", "message", "more"), REFUSED.values(), ids=REFUSED)
def test_a_field_is_learnt_in_the_words_of_many(judge_server, field, message, more):
    judge_server.script = {
        "helpfulness": lambda *_: error(message, **more) if field in judge_server.bodies[-1] else "[[8]]"
    }
    (verdict,), _ = ask(judge_server)
    assert (verdict.value, len(judge_server.bodies)) == (8, 2)


def test_a_server_that_knows_only_the_old_limit_gets_it(judge_server):
    def reply(*_):
        if "max_completion_tokens" not in judge_server.bodies[-1]:
            return "[[8]]"
        detail = [
            {"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"], "msg": "Extra inputs", "input": 9}
        ]
        return web.json_response({"detail": detail}, status=422)

    judge_server.script = {"helpfulness": reply}
    (verdict,), _ = ask(judge_server, max_tokens_field="max_completion_tokens")
    assert verdict.value == 8 and judge_server.bodies[-1]["max_tokens"] == 2048


def test_a_server_that_takes_no_limit_at_all_is_a_bad_request(judge_server):
    def reply(*_):
        sent = [name for name in ("max_tokens", "max_completion_tokens") if name in judge_server.bodies[-1]]
        return error(f"Unsupported parameter: '{sent[0]}'") if sent else "[[8]]"

    judge_server.script = {"helpfulness": reply}
    (verdict,), _ = ask(judge_server)
    assert (verdict.call.status, len(judge_server.bodies)) == ("bad_request", 2)
    (verdict,), _ = ask(judge_server, extra_body={"max_tokens": None})  # the way out
    assert verdict.value == 8


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"temperature": None}, {"max_tokens": 2048}),
        ({"max_tokens_field": "max_completion_tokens"}, {"temperature": 0.01, "max_completion_tokens": 2048}),
        ({"extra_body": {"temperature": None, "top_p": 0.9}}, {"max_tokens": 2048, "top_p": 0.9}),
        ({"extra_body": {"max_completion_tokens": 99}}, {"temperature": 0.01, "max_completion_tokens": 99}),
        ({"reasoning_tokens": 8000}, {"temperature": 0.01, "max_tokens": 10048}),
    ],
    ids=["no temperature", "field", "null", "own limit", "reasoning"],
)
def test_what_is_configured_is_what_is_sent(judge_server, settings, sent):
    ask(judge_server, **settings)
    (body,) = judge_server.bodies
    assert {name: value for name, value in body.items() if name not in ("model", "messages")} == sent


def test_the_users_own_fields_are_never_changed(judge_server):
    judge_server.script = reasoning_model(judge_server)
    (verdict,), adapted = ask(judge_server, extra_body={"max_tokens": 5})
    assert (verdict.call.status, len(judge_server.bodies), adapted) == ("bad_request", 1, ())
    assert "max_completion_tokens" in verdict.call.detail


def test_without_a_temperature_none_is_sent_after_an_unreadable_reply_either(judge_server):
    judge_server.script = {"helpfulness": lambda _, number: "no verdict" if number == 1 else "[[8]]"}
    (verdict,), _ = ask(judge_server, temperature=None)
    assert verdict.value == 8 and not any("temperature" in body for body in judge_server.bodies)


def cut(text: str | None, reasoning: str | None) -> web.Response:
    message = {"role": "assistant", "content": text, "reasoning_content": reasoning}
    return web.json_response({"choices": [{"message": message, "finish_reason": "length"}]})


def test_a_reply_cut_while_reasoning_gets_more_room_twice(judge_server):
    judge_server.script = {"helpfulness": lambda _, number: cut(None, "Hm") if number < 3 else "[[8]]"}
    (verdict,), _ = ask(judge_server, max_tokens=100, reasoning_tokens=400)
    assert verdict.value == 8
    assert [body["max_tokens"] for body in judge_server.bodies] == [500, 1000, 2000]


def test_a_judge_that_reasons_without_end_is_truncated_and_told(judge_server):
    judge_server.script = {"helpfulness": lambda *_: cut("", "Hm")}
    (verdict,), _ = ask(judge_server, max_tokens=100)
    assert (verdict.call.status, len(judge_server.bodies)) == ("truncated", 3)
    assert "still reasoning" in verdict.call.detail


def test_no_call_goes_past_the_cap_by_a_limit_of_the_users_own(judge_server):
    (verdict,), _ = ask(judge_server, spend={"max_tokens": 3000}, max_tokens=20, extra_body={"max_tokens": 5000})
    assert verdict.call.status == "spend_cap" and not judge_server.bodies


def test_a_cap_without_a_limit_of_length_is_refused(judge_server):
    with pytest.raises(ConfigError, match="sends no limit"):
        ask(judge_server, spend={"max_tokens": 3000}, extra_body={"max_tokens": None})
    both = {"max_tokens": None, "max_completion_tokens": 20}
    (verdict,), _ = ask(judge_server, spend={"max_tokens": 300_000}, extra_body=both)
    assert verdict.ok


@pytest.mark.parametrize("change", [{"temperature": None}, {"reasoning_tokens": 99}], ids=str)
def test_room_and_temperature_are_part_of_a_kept_verdict(judge_server, tmp_path, change):
    ask(judge_server, cache=tmp_path / "c.db")
    ask(judge_server, cache=tmp_path / "c.db", max_tokens_field="max_completion_tokens")  # the same question
    assert judge_server.calls.total() == 1
    ask(judge_server, cache=tmp_path / "c.db", **change)
    assert judge_server.calls.total() == 2


@pytest.mark.parametrize("wrong", [{"reasoning_tokens": -1}, {"max_tokens_field": "tokens"}], ids=str)
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        JudgeConfig(**wrong)
