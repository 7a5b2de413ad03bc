"""The dimension `criteria`: what a row asks of its answers, against a judge on a real socket."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from aiohttp import web

from longreward import InputError, LongReward, Reward, Sample
from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.errors import VerdictError
from longreward.fingerprint import fingerprint, of_dimensions
from longreward.judge.verdicts import parse_criteria
from longreward.preflight.counting import Prompt
from longreward.preflight.estimate import estimate
from longreward.preflight.judge_checks import check_judge
from longreward.store import Store, read

CRITERIA = [{"text": "Names what was sold.", "weight": 3}, "Names the buyer.", {"text": "Is rude.", "weight": -2}]
SAMPLE = Sample(
    id="7",
    context="Mara sold copper to Otto. " * 50,
    query="What did Mara do?",
    answer="Mara sold copper.",
    criteria=CRITERIA,
)
MET = "1. It names copper. [[Met]]\n2. Nobody is named. [[Unmet]]\n3. It is not. [[Unmet]]"


def settings(server, weights=None, **judge):
    known = {"kind": "openai", "base_url": server.url, "model": "judge", "retry_base_s": 0, **judge}
    return {"judge": known, "weights": weights or {"criteria": 1}}


def score(config, *samples) -> list[Reward]:
    async def run():
        reward = LongReward.from_config(config)
        try:
            return await reward.score_many(samples)
        finally:
            await reward.aclose()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (MET, 10 * 3 / 4),
        ("1. [[Met]]\n2. [[Partly met]]\n3. [[Unmet]]", 10 * 3.5 / 4),
        ("1. [[Met]]\n2. [[Met]]\n3. [[Met]]", 10 * 2 / 4),
        ("1. [[Unmet]]\n2. [[Unmet]]\n3. [[Met]]", 0),
        ("1. [[Met]]\n2. [[Met]]\n3. [[Unmet]]", 10),
    ],
)
def test_the_score_is_the_weight_of_what_is_met_over_all_that_could_be(judge_server, reply, expected):
    judge_server.script["criteria"] = reply
    (reward,) = score(settings(judge_server), SAMPLE)
    assert reward.total == pytest.approx(expected)
    assert dict(judge_server.calls) == {"criteria": 1}
    (call,) = reward.dimensions["criteria"].calls
    assert call.text == reply and reward.usage.calls == 1


def test_the_judge_sees_the_criteria_and_neither_their_weights_nor_the_document(judge_server):
    judge_server.script["criteria"] = MET
    score(settings(judge_server), SAMPLE)
    ((_, prompt),) = judge_server.prompts
    assert "\n1. Names what was sold.\n2. Names the buyer.\n3. Is rude.\n</criteria>" in prompt
    assert SAMPLE.query in prompt and SAMPLE.answer in prompt and "copper to Otto" not in prompt


def test_it_counts_beside_the_other_dimensions_by_its_weight(judge_server):
    judge_server.script = {"criteria": MET, "helpfulness": "[[4]]"}
    (reward,) = score(settings(judge_server, {"helpfulness": 1, "criteria": 3}), SAMPLE)
    assert list(reward.dimensions) == ["helpfulness", "criteria"]
    assert reward.total == pytest.approx((4 + 3 * 7.5) / 4)


def test_the_default_asks_nothing_about_criteria(judge_server):
    (reward,) = score({"judge": settings(judge_server)["judge"]}, SAMPLE)
    assert list(reward.dimensions) == ["helpfulness", "logicality", "faithfulness", "completeness"]
    assert judge_server.calls["criteria"] == 0
    default = validate(RewardConfig, {"judge": settings(judge_server)["judge"]})
    assert "criteria" not in default.weights and "criteria" not in of_dimensions(default)
    with_it = default.model_copy(update={"weights": default.weights | {"criteria": 1.0}})
    assert fingerprint(with_it) != fingerprint(default)
    assert of_dimensions(with_it).items() > of_dimensions(default).items()


def said(*verdicts, analysis=True):
    found = [{"analysis": "So.", "verdict": one} if analysis else {"verdict": one} for one in verdicts]
    return json.dumps({"analysis": "", "verdict": found} if analysis else {"verdict": found})


@pytest.mark.parametrize("analysis", [True, False])
def test_constrained_verdicts(judge_server, analysis):
    judge_server.script["criteria"] = said("Met", "Partly met", "Unmet", analysis=analysis)
    (reward,) = score(settings(judge_server, verdict="constrained", analysis=analysis), SAMPLE)
    assert reward.total == pytest.approx(10 * 3.5 / 4)
    schema = judge_server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["verdict"]
    assert (schema["minItems"], schema["maxItems"]) == (3, 3)
    assert schema["items"]["properties"]["verdict"]["enum"] == ["Met", "Partly met", "Unmet"]


def test_votes_are_averaged_criterion_by_criterion(judge_server):
    texts = [MET, "1. [[Met]]\n2. [[Met]]\n3. [[Unmet]]"]
    choices = [{"index": i, "message": {"content": text}, "finish_reason": "stop"} for i, text in enumerate(texts)]
    body = {"choices": choices, "usage": {"prompt_tokens": 100, "completion_tokens": 20}}
    judge_server.script["criteria"] = lambda *_: web.json_response(body)
    (reward,) = score(settings(judge_server, votes=2, temperature=0.7), SAMPLE)
    found = reward.dimensions["criteria"]
    assert [(one.met, one.deviation) for one in found.criteria] == [(1, 0), (0.5, 0.5), (0, 0)]
    assert (found.score, found.deviation) == pytest.approx((10 * 3.5 / 4, 10 * 0.5 / 4))


def test_the_distribution_gives_each_criterion_its_mean_and_deviation(judge_server):
    odds = [{"Met": 0.9, "Un": 0.1}, {"Part": 1.0}, {"Un": 0.8, "Met": 0.2}]
    tokens = []
    for piece in ('{"verdict": [', *odds, "]}"):
        if isinstance(piece, str):
            tokens.append({"token": piece, "logprob": 0.0, "top_logprobs": []})
            continue
        first = max(piece, key=lambda token: piece[token])
        rest = {"Met": "", "Un": "met", "Part": "ly met"}[first]
        top = [{"token": token, "logprob": math.log(share)} for token, share in piece.items()]
        opening = '{"verdict": "' if piece is odds[0] else ', {"verdict": "'
        tokens += [{"token": opening, "logprob": 0.0, "top_logprobs": []}]
        tokens += [{"token": first, "logprob": 0.0, "top_logprobs": top}]
        tokens += [{"token": rest + '"}', "logprob": 0.0, "top_logprobs": []}]
    text = "".join(token["token"] for token in tokens)
    choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": tokens}}
    body = {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 20}}
    judge_server.script["criteria"] = lambda *_: web.json_response(body)
    (reward,) = score(settings(judge_server, verdict="distribution", analysis=False), SAMPLE)
    found = reward.dimensions["criteria"]
    assert found.status == "ok", found.detail
    assert [one.met for one in found.criteria] == pytest.approx([0.9, 0.5, 0.2])
    assert [one.deviation for one in found.criteria] == pytest.approx([0.3, 0, 0.4])
    assert found.score == pytest.approx(10 * (3 * 0.9 + 0.5 - 2 * 0.2) / 4)
    assert found.deviation == pytest.approx(10 * math.hypot(3 * 0.3, 2 * 0.4) / 4)


def test_more_than_twenty_are_asked_in_balanced_calls_and_stay_in_order(judge_server):
    many = [{"text": f"Says fact {i}.", "weight": 1 + i % 3} for i in range(45)]
    sample = SAMPLE.model_copy(update={"criteria": Sample(context="", query="", answer="", criteria=many).criteria})
    judge_server.script["criteria"] = lambda prompt, _: "\n".join(
        f"{line.partition('.')[0]}. [[{'Met' if int(line.split()[-1].rstrip('.')) % 2 else 'Unmet'}]]"
        for line in prompt.partition("<criteria>\n")[2].rpartition("<criteria>\n")[2].partition("\n</")[0].splitlines()
    )
    (reward,) = score(settings(judge_server), sample)
    assert judge_server.calls["criteria"] == 3 == len(reward.dimensions["criteria"].calls)
    found = reward.dimensions["criteria"].criteria
    assert [one.text for one in found] == [one["text"] for one in many]
    assert [one.met for one in found] == [i % 2 for i in range(45)]


def test_a_reply_without_a_verdict_for_each_is_void_and_never_a_number(judge_server, tmp_path):
    judge_server.script["criteria"] = "1. [[Met]]\n2. [[Met]]"
    (reward,) = score(settings(judge_server, max_attempts=2), SAMPLE)
    void = reward.dimensions["criteria"]
    assert (reward.total, void.score, void.status) == (None, None, "parse_error")
    assert "no verdict for criterion 3" in void.detail and void.calls[0].attempts == 2
    assert [one.met for one in void.criteria] == [None] * 3


@pytest.mark.parametrize("answer", ["", "...", "<think>Hm.</think>"])
def test_an_answer_that_says_nothing_gets_the_floor_without_a_call(judge_server, answer):
    (reward,) = score(settings(judge_server), SAMPLE.model_copy(update={"answer": answer}))
    assert reward.total == 0 and not judge_server.calls


def test_a_sample_without_criteria_is_refused_by_name_before_it_is_paid_for(judge_server):
    with pytest.raises(InputError, match="the sample '7' has no criteria"):
        score(settings(judge_server), SAMPLE.model_copy(update={"criteria": ()}))
    assert not judge_server.calls


@pytest.mark.parametrize(
    ("criteria", "why"),
    [
        ([""], "it is empty"),
        ([{"text": "Names it.", "weight": 0}], "weight 0 counts nothing"),
        ([{"text": "Names it.", "weight": math.nan}], "finite number"),
        ([{"text": "Is rude.", "weight": -1}], "no criterion has a positive weight"),
    ],
)
def test_criteria_that_cannot_be_met_are_refused(criteria, why):
    with pytest.raises(ValueError, match=why):
        Sample(context="c", query="q", answer="a", criteria=criteria)


def test_what_was_judged_is_kept_and_read_again(judge_server, tmp_path):
    from longreward.schema import ScoredAnswer

    judge_server.script["criteria"] = MET
    (reward,) = score(settings(judge_server), SAMPLE)
    with Store(tmp_path / "answers-0.jsonl") as store:
        store.append(ScoredAnswer.of(SAMPLE, reward))
    ((_, _, record),) = read(tmp_path / "answers-0.jsonl", None, ScoredAnswer)
    found = [(one.text, one.weight, one.met, one.deviation) for one in record.dimensions["criteria"].criteria]
    assert found == [("Names what was sold.", 3, 1, None), ("Names the buyer.", 1, 0, None), ("Is rude.", -2, 0, None)]


def test_a_copy_that_meets_the_criteria_loses_nothing(judge_server):
    copy = SAMPLE.model_copy(update={"answer": "Mara sold copper to Otto. " * 8})
    judge_server.script["criteria"] = "1. [[Met]]\n2. [[Met]]\n3. [[Unmet]]"
    (met,) = score(settings(judge_server), copy)
    judge_server.script["criteria"] = "1. [[Partly met]]\n2. [[Unmet]]\n3. [[Unmet]]"
    (hardly,) = score(settings(judge_server), copy)
    assert met.copied == hardly.copied == 1
    assert met.kept == 1 and hardly.kept < 0.6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. so [[Met]]\n2. so [[Partly met]]\n3. so [[Unmet]]", [1, 0.5, 0]),
        ("**Criterion 1:** [[Fully met]]\nCriterion 2 - [[partially met]]\n(3) [[Not met]]", [1, 0.5, 0]),
        ("标准1：[[满足]]\n第2条 [[部分满足]]\n3、[[未满足]]", [1, 0.5, 0]),
        ("<think>1. [[Unmet]]</think>\n1. [[Verdict: Met]]\n2. [[met]]\n3. [[MET]]", [1, 1, 1]),
    ],
)
def test_replies_that_are_read(text, expected):
    assert parse_criteria(text, 3) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1. [[Met]]\n2. [[Met]]", "no verdict for criterion 3"),
        ("1. [[Met]]\n2. [[Met]]\n3. [[Mostly met]]", "expected Met, Partly met or Unmet"),
        ("1. [[Met]]\n2. [[Met]]\n3. [[Fully supported]]", "unknown verdict"),
        ("1. [[Met]] [[Unmet]]\n2. [[Met]]\n3. [[Met]]", "criterion 1 has two different verdicts"),
        ("1. [[Met]]\n2. [[Met]]\n4. [[Met]]", "speaks of criterion 4"),
        ("[[Met]]", "belongs to no numbered criterion"),
    ],
)
def test_replies_that_are_asked_for_again(text, why):
    with pytest.raises(VerdictError, match=why):
        parse_criteria(text, 3)


def test_the_offline_judge_looks_for_what_a_criterion_says():
    answers = ["Mara sold 40 crates of copper to Otto.", "Mara stole 90 crates.", "What did Mara sell to Otto?"]
    wanted = ["Says that Mara sold 40 crates of copper.", {"text": "Says that Mara stole crates.", "weight": -1}]
    samples = [Sample(context="x", query="What did Mara sell?", answer=a, criteria=wanted) for a in answers]
    good, bad, asking = score({"weights": {"criteria": 1}}, *samples)
    assert good.total > 7 and bad.total == asking.total == 0
    assert [one.met for one in bad.dimensions["criteria"].criteria][1] == 1


def test_an_estimate_counts_what_is_asked(judge_server):
    config = validate(RewardConfig, settings(judge_server))
    judge_server.script["criteria"] = MET
    assert estimate([SAMPLE, SAMPLE], config).calls == 2
    many = tuple(Sample(context="", query="", answer="", criteria=["One."] * 41).criteria)
    prompts = [Prompt(SAMPLE.context, SAMPLE.query, many)]
    assert estimate(prompts, config, answers_per_prompt=8).dimensions["criteria"].calls == 8 * 3


def test_doctor_asks_one_question_and_tells_a_judge_that_says_yes_to_everything(judge_server):
    config = validate(RewardConfig, settings(judge_server))
    told = "\n".join(map(str, asyncio.run(check_judge(config)).findings))
    assert "answers all 1 kinds of question readably" in told
    assert "rates a clearly wrong answer no lower than a right one in criteria (1, the right one 1)" in told
    judge_server.script["criteria"] = lambda prompt, _: "1. [[Unmet]]" if "12 ships" in prompt else "1. [[Met]]"
    assert "clearly wrong" not in "\n".join(map(str, asyncio.run(check_judge(config)).findings))
