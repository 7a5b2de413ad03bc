"""Ratings and supports as means: over the judge's probabilities, or over several replies; and replies without an
analysis."""

from __future__ import annotations

import asyncio
import json
import math
import re

import pytest
from aiohttp import web

from longreward import LongReward, Sample
from longreward.config import CacheConfig, JudgeConfig, RewardConfig
from longreward.config_file import validate
from longreward.errors import ConfigError, VerdictError
from longreward.fingerprint import fingerprint
from longreward.judge import make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.requests import ListStatements, RateHelpfulness, VerifyStatement, VerifyStatements
from longreward.judge.requests.evaluation import RateSummary
from longreward.judge.said import Said
from longreward.model_config import ReplyForm
from longreward.preflight.estimate import estimate
from longreward.preflight.judge_checks import check_judge

RATE = RateHelpfulness("en", "Name a metal.", "Tin.")
VERIFY = VerifyStatement("en", "Tin melts.", ["Tin melts at 232 degrees."])
VERIFY_TWO = VerifyStatements("en", ["Tin melts.", "Tin is blue."], ["Tin melts at 232 degrees."])
LABELS = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}


def completion(text, *odds, tokens=None):
    """A reply, whose verdicts have these odds at their first token."""
    tokens = tokens or re.findall(r'"verdict": "?|\w+|\W', text)
    found, places = [], iter(odds)
    for before, token in zip(["", *tokens], tokens, strict=False):
        here = next(places) if before.startswith('"verdict": ') and token not in "[{" else {token: 1.0}
        found.append(
            {"token": token, "logprob": 0.0, "bytes": list(token.encode()), "top_logprobs": alternatives(here)}
        )
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": found}}
    return {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": len(tokens)}}


def alternatives(odds):
    return [{"token": t, "logprob": math.log(p), "bytes": list(t.encode())} for t, p in odds.items()]


def answering(body):
    return lambda *_: web.json_response(body)


def several(*texts):
    choices = [{"index": i, "message": {"content": t}, "finish_reason": "stop"} for i, t in enumerate(texts)]
    return answering({"choices": choices, "usage": {"prompt_tokens": 100, "completion_tokens": 10 * len(texts)}})


def settings(server, **more):
    known = {"kind": "openai", "model": "judge", "base_url": server.url, "verdict": "distribution"}
    return {**known, "retry_base_s": 0.01, **more}


def ask(server, *requests, cache=None, **more):
    async def run():
        judge = make_judge(JudgeConfig(**settings(server, **more)), VerdictCache.of(CacheConfig(path=cache)))
        try:
            return [await judge.ask(request) for request in requests]
        finally:
            await judge.aclose()

    return asyncio.run(run())


def rating(verdict, odds, analysis="Sound."):
    return completion(json.dumps({"analysis": analysis, "verdict": verdict}), odds)


def test_a_rating_is_the_mean_over_the_judges_probabilities(judge_server):
    judge_server.script["helpfulness"] = answering(rating(7, {"7": 0.6, "8": 0.3, "2": 0.1}))
    (verdict,) = ask(judge_server, RATE)
    mean = 0.6 * 7 + 0.3 * 8 + 0.1 * 2
    deviation = math.sqrt(0.6 * (7 - mean) ** 2 + 0.3 * (8 - mean) ** 2 + 0.1 * (2 - mean) ** 2)
    assert verdict.value == pytest.approx(mean * 10 / 9)
    assert verdict.call.deviations == pytest.approx((deviation * 10 / 9,))
    body = judge_server.bodies[0]
    assert body["logprobs"] is True and body["top_logprobs"] == 20
    assert body["response_format"]["json_schema"]["schema"]["properties"]["verdict"]["enum"] == list(range(10))


def test_the_best_digit_is_ten_and_the_worst_is_none(judge_server):
    for digit, value in ((9, 10), (0, 0)):
        judge_server.script["helpfulness"] = answering(rating(digit, {str(digit): 1.0}))
        assert ask(judge_server, RATE)[0].value == value


@pytest.mark.parametrize(
    ("text", "odds", "value"),
    [
        ('{"verdict": "Fully supported"}', {"Fully": 0.5, "Part": 0.25, "No": 0.25}, 0.625),
        # The same label in several spellings; what is no label says nothing.
        ('{"verdict": "No support"}', {"No": 0.3, ' "No': 0.1, '"F': 0.2, "N": 0.1, "The": 0.2, "": 0.1}, 2 / 7),
    ],
)
def test_a_support_is_the_mean_over_its_labels(judge_server, text, odds, value):
    judge_server.script["verify"] = answering(completion(text, {t: p for t, p in odds.items() if p}))
    (verdict,) = ask(judge_server, VERIFY, analysis=False)
    assert verdict.value == pytest.approx(value, abs=1e-5)


def test_each_of_several_verdicts_has_its_own_odds(judge_server):
    verdicts = [{"analysis": "It says so.", "verdict": "Fully supported"}, {"analysis": "", "verdict": "No support"}]
    text = json.dumps({"analysis": "", "verdict": verdicts})
    odds = {"Fully": 0.9, "Partially": 0.1}, {"No": 0.8, "Fully": 0.2}
    judge_server.script["verify_many"] = answering(completion(text, *odds))
    (verdict,) = ask(judge_server, VERIFY_TWO)
    assert verdict.value == pytest.approx([0.95, 0.2])
    assert verdict.call.deviations == pytest.approx((0.15, 0.4))


def test_a_verdict_that_is_cited_in_an_analysis_or_a_thought_has_no_odds(judge_server):
    cited = rating(7, {"7": 1.0}, analysis='It asks for {"verdict": 2}, and "verdict": 3.')
    judge_server.script["helpfulness"] = answering(cited)
    assert ask(judge_server, RATE)[0].value == pytest.approx(70 / 9)
    thought = completion('<think>{"verdict": 2}</think>{"analysis": "", "verdict": 7}', {"2": 1.0}, {"7": 1.0})
    judge_server.script["helpfulness"] = answering(thought)
    assert ask(judge_server, RATE)[0].value == pytest.approx(70 / 9)


def test_a_character_of_several_tokens_moves_no_verdict(judge_server):
    text = '{"analysis": "铜", "verdict": 7}'
    tokens = ['{"analysis": "', "a", "b", "c", '", ', '"verdict": ', "7", "}"]
    body = completion(text, {"7": 0.5, "5": 0.5}, tokens=tokens)
    for token, byte in zip(body["choices"][0]["logprobs"]["content"][1:4], "铜".encode(), strict=True):
        token |= {"token": "\ufffd", "bytes": [byte]}
    judge_server.script["helpfulness"] = answering(body)
    assert ask(judge_server, RATE)[0].value == pytest.approx(60 / 9)


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": []}, {"content": [{"token": "x"}]}, {"content": [7]}, [], "no"],
    ids=str,
)
def test_a_reply_without_probabilities_is_no_value(judge_server, logprobs):
    body = rating(7, {"7": 1.0})
    body["choices"][0]["logprobs"] = logprobs
    judge_server.script["helpfulness"] = answering(body)
    (verdict,) = ask(judge_server, RATE)
    assert verdict.value is None and verdict.call.status == "parse_error" and "no logprobs" in verdict.call.detail


@pytest.mark.parametrize("logprob", [math.nan, None, "high"], ids=str)
def test_a_probability_that_is_no_number_is_no_value(judge_server, logprob):
    body = rating(7, {"7": 0.9, "2": 0.1})
    place = next(t for t in body["choices"][0]["logprobs"]["content"] if len(t["top_logprobs"]) == 2)
    place["top_logprobs"][1]["logprob"] = logprob
    judge_server.script["helpfulness"] = answering(body)
    (verdict,) = ask(judge_server, RATE)
    assert verdict.value is None and verdict.call.status == "parse_error"


def test_probabilities_of_something_else_are_no_value(judge_server):
    judge_server.script["helpfulness"] = answering(rating(7, {"The": 0.999, "7": 0.001}))
    (verdict,) = ask(judge_server, RATE)
    assert verdict.value is None and "0.1% of its probability" in verdict.call.detail
    other = rating(7, {"7": 1.0})
    other["choices"][0]["message"]["content"] = "I like it. [[7]]"
    judge_server.script["helpfulness"] = answering(other)
    assert ask(judge_server, RATE)[0].value is None


def test_a_kept_distribution_is_read_again_without_a_call(judge_server, tmp_path):
    judge_server.script["helpfulness"] = answering(rating(7, {"7": 0.5, "9": 0.5}))
    first, second = (ask(judge_server, RATE, cache=tmp_path / "c.db")[0] for _ in range(2))
    assert (second.value, second.call.deviations) == (first.value, first.call.deviations)
    assert second.call.source == "cache" and judge_server.calls["helpfulness"] == 1
    judge_server.script["helpfulness"] = "[[3]]"
    assert ask(judge_server, RATE, cache=tmp_path / "c.db", verdict="written")[0].value == 3


@pytest.mark.parametrize(
    "odds",
    [
        *(None, 7, [], ["x"], [{}], [{"7": "1"}], [{"7": float("nan")}], [{"7": 0.5}], [{"7": 2.0, "8": -1.0}]),
        *([{"11": 1.0}], [{"7": 1.0}, {"7": 1.0}]),
    ],
    ids=str,
)
def test_what_a_cache_kept_that_is_no_distribution_is_no_value(odds):
    said = Said.of({"text": '{"verdict": 7}', "odds": odds})
    if said is not None:
        with pytest.raises(VerdictError):
            RATE.read(said, ReplyForm("distribution"))


def test_lists_and_evaluations_have_no_distribution(judge_server):
    judge_server.script["statements"] = json.dumps({"analysis": "", "verdict": ["Tin melts."]})
    judge_server.script["evaluate_summary"] = json.dumps({"analysis": "", "verdict": 4})
    listed, grade = ask(
        judge_server, ListStatements("en", "Name a metal.", "Tin melts."), RateSummary("en", "Tin.", "Tin.")
    )
    assert (listed.value, grade.value) == (["Tin melts."], 4)
    assert not any("logprobs" in body for body in judge_server.bodies)


def test_without_an_analysis_the_judge_is_asked_for_the_verdict_alone(judge_server):
    judge_server.script = {
        "helpfulness": "[[7]]",
        "verify_many": "1. [[Fully supported]]\n2. [[No support]]",
        "statements": "<statement>Tin melts.</statement>",
    }
    listing = ListStatements("en", "Name a metal.", "Tin melts.")
    given = ask(judge_server, RATE, VERIFY_TWO, listing, verdict="written", analysis=False)
    assert [verdict.value for verdict in given] == [7, [1.0, 0.0], ["Tin melts."]]
    rate, verify, statements = (prompt for _, prompt in judge_server.prompts)
    assert rate.startswith(RATE.text()) and "without an analysis" in rate[len(RATE.text()) :]
    assert "without an analysis" in verify[len(VERIFY_TWO.text()) :] and statements == listing.text()


def test_votes_are_one_request_and_their_mean_is_the_value(judge_server):
    judge_server.script["helpfulness"] = several("So.\n[[7]]", "[[8]]", "Hm.", "[[6]]", "[[7]]")
    judge_server.script["verify_many"] = several(
        "1. [[Fully supported]]\n2. [[No support]]", "1. [[Fully supported]]\n2. [[Partially supported]]"
    )
    votes = {"verdict": "written", "temperature": 0.7}
    (rated,) = ask(judge_server, RATE, votes=5, **votes)
    (verified,) = ask(judge_server, VERIFY_TWO, votes=2, **votes)
    assert rated.value == 7 and rated.call.deviations == pytest.approx((math.sqrt(0.5),))
    assert verified.value == [1.0, 0.25] and verified.call.deviations == pytest.approx((0.0, 0.25))
    assert [body["n"] for body in judge_server.bodies] == [5, 2]
    assert "(2) [[8]]" in rated.call.text and rated.call.usage.calls == 1


def test_votes_count_where_more_than_half_of_them_can_be_read(judge_server):
    judge_server.script["helpfulness"] = several("[[7]]", "Hm.", "[[8]]", "So.")
    (verdict,) = ask(judge_server, RATE, votes=4, verdict="written", temperature=0.7)
    assert verdict.value is None and verdict.call.status == "parse_error"


def test_an_endpoint_that_ignores_the_number_of_votes_gives_no_value(judge_server):
    judge_server.script["helpfulness"] = "[[7]]"
    (verdict,) = ask(judge_server, RATE, votes=3, verdict="written", temperature=0.7)
    assert verdict.value is None and "1 of the 3 replies that judge.votes asks for" in verdict.call.detail


def test_kept_votes_are_read_again(judge_server, tmp_path):
    judge_server.script["helpfulness"] = several("[[7]]", "[[8]]")
    votes = {"votes": 2, "verdict": "written", "temperature": 0.7, "cache": tmp_path / "c.db"}
    first, second = (ask(judge_server, RATE, **votes)[0] for _ in range(2))
    assert (second.value, second.call.deviations) == (7.5, first.call.deviations)
    assert judge_server.calls["helpfulness"] == 1


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ({"votes": 3, "temperature": 0.7}, "two ways to a mean"),
        ({"verdict": "written", "votes": 3}, "would be the same reply each time"),
        ({"verdict": "written", "votes": 3, "temperature": 0.7, "extra_body": {"n": 2}}, "sends n; take it out"),
        ({"extra_body": {"response_format": {}}}, "sends response_format; take it out"),
    ],
)
def test_what_does_not_go_together_is_refused(judge_server, judge, told):
    with pytest.raises(ConfigError, match=told):
        validate(RewardConfig, {"judge": settings(judge_server, **judge)})


def test_every_score_says_how_unsure_the_judge_is(judge_server):
    judge_server.script = {
        "helpfulness": answering(rating(7, {"7": 0.5, "9": 0.5})),
        "statements": json.dumps({"analysis": "", "verdict": ["Tin melts.", "Tin is blue."]}),
        "verify": answering(
            completion('{"analysis": "", "verdict": "No support"}', {"No": 0.5, "Fully": 0.5}),
        ),
    }
    config = {"judge": settings(judge_server), "weights": {"helpfulness": 1, "faithfulness": 1}}

    async def run():
        reward = LongReward.from_config(config)
        try:
            return await reward.score(Sample(context="Tin melts.", query="Name a metal.", answer="Tin melts. It is."))
        finally:
            await reward.aclose()

    scored = asyncio.run(run())
    assert scored.dimensions["helpfulness"].deviation == pytest.approx(10 / 9)
    faithfulness = scored.dimensions["faithfulness"]
    assert faithfulness.score == pytest.approx(5) and faithfulness.deviation == pytest.approx(10 * math.sqrt(0.5) / 2)
    assert [statement.deviation for statement in faithfulness.statements] == pytest.approx([0.5, 0.5])


def test_the_form_is_part_of_what_a_score_was_made_with():
    judge = {"kind": "openai", "model": "judge", "base_url": "http://host/v1", "temperature": 0.7}
    forms = [{}, {"analysis": False}, {"votes": 3}, {"verdict": "constrained"}, {"verdict": "distribution"}]
    assert len({fingerprint(validate(RewardConfig, {"judge": judge | form})) for form in forms}) == len(forms)


def test_an_estimate_knows_the_length_of_the_replies():
    def tokens(**form):
        judge = {"kind": "openai", "model": "judge", "base_url": "http://host/v1", "temperature": 0.7, **form}
        config = validate(RewardConfig, {"judge": judge})
        answer = Sample(context="Tin melts at 232 degrees. " * 20, query="When?", answer="Tin melts. It is a metal.")
        return estimate([answer], config).completion_tokens

    assert tokens(analysis=False) < 0.5 * tokens() < tokens() < tokens(votes=3)


def test_doctor_names_an_endpoint_without_probabilities(judge_server):
    for kind in ("helpfulness", "logicality", "completeness"):
        judge_server.script[kind] = json.dumps({"analysis": "", "verdict": 7})
    for kind in ("statements", "extract"):
        judge_server.script[kind] = json.dumps({"analysis": "", "verdict": ["Tin melts."]})
    judge_server.script["verify"] = json.dumps({"analysis": "", "verdict": "No support"})
    check = asyncio.run(check_judge(validate(RewardConfig, {"judge": settings(judge_server)})))
    told = "\n".join(str(finding) for finding in check.findings)
    assert "no logprobs" in told and "judge.votes" in told


def test_doctor_names_an_endpoint_that_takes_no_votes(judge_server):
    refusal = {"error": {"message": "n > 1 is not supported", "param": "n"}}
    judge_server.script = {"helpfulness": lambda *_: web.json_response(refusal, status=400)}
    config = {"judge": settings(judge_server, verdict="written", votes=3, temperature=0.7)}
    check = asyncio.run(check_judge(validate(RewardConfig, config)))
    told = "\n".join(str(finding) for finding in check.findings)
    assert "n > 1 is not supported" in told and "judge.votes=1" in told
