"""Constrained verdicts: what is asked of the server, and which replies are a value."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from longreward.config import CacheConfig, JudgeConfig, RewardConfig
from longreward.config_file import validate
from longreward.errors import ConfigError, VerdictError
from longreward.fingerprint import fingerprint
from longreward.judge import constrained, make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.requests.evaluation import CompareAnswers, RateAgainstReference
from longreward.model_config import ReplyForm
from longreward.preflight.judge_checks import check_judge
from longreward.preflight.questions import questions

EVERY = {"faithfulness": {"statements_per_call": 2}, "helpfulness": {"way": "ranking"}}
EVERY_KIND = questions(validate(RewardConfig, EVERY))
EVERY_KIND += questions(validate(RewardConfig, {"completeness": {"way": "key_points"}}))[-2:]
VERDICTS = {
    "helpfulness": (7, 7.0),
    "rank": ({"place_of_answer_1": 2, "place_of_answer_2": 1}, [2, 1]),
    "logicality": (0, 0.0),
    "completeness": (10, 10.0),
    "statements": (["Tin is a metal.", " tin is  a metal. ", "", "It melts."], ["Tin is a metal.", "It melts."]),
    "verify": ("Partially supported", 0.5),
    "verify_many": (
        [{"analysis": "", "verdict": "Fully supported"}, {"analysis": "No.", "verdict": "No support"}],
        [1.0, 0.0],
    ),
    "points": (["Tin melts.", "tin  melts.", "At 232 degrees."], ["Tin melts.", "At 232 degrees."]),
    "coverage": (
        [{"quote": "Tin", "verdict": "Partly covered"}, {"quote": "", "verdict": "Missing"}],
        [0.5, 0.0],
    ),
    "extract": (["Tin melts.", "At 232 degrees."], "Tin melts.\nAt 232 degrees."),
}
CONSTRAINED = ReplyForm("constrained")


def said(verdict, analysis="Sound."):
    return json.dumps({"analysis": analysis, "verdict": verdict})


def settings(server, **more):
    known = {"kind": "openai", "model": "judge", "base_url": server.url, "verdict": "constrained"}
    return {**known, "retry_base_s": 0.01, **more}


def ask(server, request, cache=None, **more):
    async def run():
        judge = make_judge(JudgeConfig(**settings(server, **more)), VerdictCache.of(CacheConfig(path=cache)))
        try:
            return await judge.ask(request)
        finally:
            await judge.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize("request_", EVERY_KIND, ids=lambda request: request.kind)
def test_each_kind_asks_for_its_schema_and_reads_the_object(judge_server, request_):
    verdict, value = VERDICTS[request_.kind]
    judge_server.script[request_.kind] = said(verdict)
    assert ask(judge_server, request_).value == value
    form = judge_server.bodies[0]["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"] == request_.shape(CONSTRAINED).schema
    assert list(form["json_schema"]["schema"]["properties"]) == ["analysis", "verdict"]
    assert json.dumps(request_.shape(CONSTRAINED).schema) in judge_server.prompts[0][1]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_written_prompt_is_not_changed_but_for_its_end(language):
    for request in questions(RewardConfig(), language):
        assert request.text(form=CONSTRAINED).startswith(request.text())


def test_an_empty_list_is_no_statements_and_nothing_relevant():
    assert constrained.statements().read(said([])) == []
    assert constrained.passages().read(said([])) is None
    assert constrained.passages().read(said([" "])) is None


@pytest.mark.parametrize("shape", [constrained.statements(), constrained.passages()], ids=["statements", "passages"])
def test_a_list_that_goes_round_in_circles_is_read_and_a_full_one_is_not(shape):
    assert shape.schema["properties"]["verdict"]["maxItems"] == 40
    names = [f"Metal {number} melts." for number in range(40)]
    circle = [names[number % 3] for number in range(40)]
    found = shape.read(said(circle))
    assert (found.splitlines() if isinstance(found, str) else found) == names[:3]
    assert len(shape.read(said(names[:39]))) >= 39
    with pytest.raises(VerdictError, match="the list has 40 entries, the most it may have, so more may be missing"):
        shape.read(said(names))


def test_an_evaluation_is_constrained_too():
    assert RateAgainstReference("en", "Tin.", "Tin.", "Name a metal.").shape(CONSTRAINED).read(said(3)) == 3
    assert CompareAnswers("en", "Name a metal.", "Tin.", "Salt.").shape(CONSTRAINED).read(said("C")) == "tie"


@pytest.mark.parametrize(
    "reply",
    [
        *map(said, ("7", 11, -1, 7.5, 7.0, True, None, [7], {"analysis": "", "verdict": 7}, float("nan"))),
        *('{"verdict": 7}', '{"analysis": ""}', "{}", "[]", "7", "", "[[7]]", "null", "[" * 100_000),
        '{"analysis": "", "verdict": 7, "rating": 7}',
        '{"analysis": "", "verdict": 2, "verdict": 7}',
        '{"analysis": {"verdict": 3}, "verdict": 7}',
        '{"analysis": 3, "verdict": 7}',
        *(said(7)[:-1], said(7) + said(8), f"```json\n{said(7)}\n```", f"Here it is: {said(7)}", f"<think>{said(7)}"),
    ],
    ids=lambda reply: reply[:40],
)
def test_what_is_no_object_of_the_schema_is_no_rating(reply):
    with pytest.raises(VerdictError):
        constrained.number(0, 10).read(reply)


@pytest.mark.parametrize("verdict", ["fully supported", "Not fully supported", "", 1, ["No support"]])
def test_an_unknown_label_is_no_support(verdict):
    with pytest.raises(VerdictError):
        constrained.support().read(said(verdict))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_verdicts_is_none(count):
    one = {"analysis": "", "verdict": "Fully supported"}
    with pytest.raises(VerdictError, match=f"{count} entries"):
        constrained.supports(2).read(said([one] * count))


def test_thoughts_before_the_object_are_none_of_it():
    assert constrained.number(0, 10).read(f'<think>{{"verdict": 2}}</think>\n{said(7, "")}\n') == 7
    assert constrained.number(0, 10).read(said(7, "It says [[2]].")) == 7


def test_a_cut_reply_is_truncated(judge_server):
    cut = {"index": 0, "message": {"role": "assistant", "content": said(7)}, "finish_reason": "length"}
    judge_server.script["helpfulness"] = lambda *_: web.json_response({"choices": [cut]})
    assert ask(judge_server, EVERY_KIND[0]).call.status == "truncated"


def test_a_verdict_of_one_form_is_not_served_for_the_other(judge_server, tmp_path):
    judge_server.script["helpfulness"] = lambda prompt, number: "[[3]]" if number == 1 else said(7)
    for _ in range(2):
        written = ask(judge_server, EVERY_KIND[0], tmp_path / "cache.db", verdict="written")
        bound = ask(judge_server, EVERY_KIND[0], tmp_path / "cache.db")
        assert (written.value, bound.value) == (3, 7)
    assert judge_server.calls["helpfulness"] == 2
    assert "response_format" not in judge_server.bodies[0]


def test_the_form_is_part_of_what_a_score_was_made_with():
    judge = {"kind": "openai", "model": "judge", "base_url": "http://host/v1"}
    one, other = (validate(RewardConfig, {"judge": {**judge, "verdict": v}}) for v in ("written", "constrained"))
    assert fingerprint(one) != fingerprint(other)


def test_the_form_cannot_be_given_twice(judge_server):
    with pytest.raises(ConfigError, match=r"take it out of judge\.extra_body"):
        validate(RewardConfig, {"judge": settings(judge_server, extra_body={"response_format": {"type": "text"}})})


def doctor(server, **more):
    check = asyncio.run(check_judge(validate(RewardConfig, {"judge": settings(server, **more)})))
    return "\n".join(str(finding) for finding in check.findings)


def test_doctor_names_a_server_that_refuses_the_form(judge_server):
    refusal = {"error": {"message": "response_format is not supported", "param": "response_format"}}
    judge_server.script = {r.kind: lambda *_: web.json_response(refusal, status=400) for r in EVERY_KIND}
    told = doctor(judge_server)
    assert "answers no question: bad_request" in told and "response_format is not supported" in told
    assert "judge.verdict=written or use another server" in told


def test_doctor_names_a_server_that_ignores_the_form(judge_server):
    told = doctor(judge_server)
    assert "answers no question: parse_error" in told and "not the JSON object" in told
    assert "judge.verdict=written" in told


def test_doctor_names_the_way_out_for_a_judge_that_follows_no_format(judge_server):
    judge_server.script = {r.kind: "I like it." for r in EVERY_KIND}
    assert "judge.verdict=constrained" in doctor(judge_server, verdict="written")
