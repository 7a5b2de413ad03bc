"""Every kind of question is known by its class alone: what lists kinds takes them from `REQUESTS`."""

from __future__ import annotations

import asyncio

import pytest

from longreward import DIMENSIONS, prompts
from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.judge.offline import OfflineJudge
from longreward.judge.requests import REQUESTS
from longreward.judge.requests.evaluation import CompareAnswers
from longreward.preflight.counting import CountingJudge
from longreward.preflight.questions import questions

ROUTES = {"judge": {"routes": {"checker": {"kind": "offline"}}}}
EVERY = {**ROUTES, "faithfulness": {"statements_per_call": 2, "first": "checker"}, "helpfulness": {"way": "ranking"}}
RATING, KEY_POINTS = (
    questions(validate(RewardConfig, {**EVERY, "completeness": {"way": way}})) for way in ("rating", "key_points")
)
EVERY_KIND = RATING + KEY_POINTS[-2:]
COUNTED = validate(RewardConfig, {"judge": {"max_tokens": 10}})


def test_each_kind_has_a_prompt_a_name_and_a_question_for_the_doctor():
    assert tuple(map(type, EVERY_KIND)) == REQUESTS
    assert tuple(dict.fromkeys(request.prompt for request in EVERY_KIND)) == prompts.NAMES
    assert {request.dimension for request in REQUESTS} == set(DIMENSIONS)
    assert len({request.label for request in REQUESTS}) == len(REQUESTS)


@pytest.mark.parametrize("request_", EVERY_KIND, ids=lambda request: request.kind)
def test_each_kind_has_a_rule_offline_and_a_typical_reply(request_):
    by_rule = asyncio.run(OfflineJudge().ask(request_))
    assert by_rule.ok
    counted = asyncio.run(CountingJudge(COUNTED).ask(request_))
    assert counted.ok and type(counted.value) is type(by_rule.value)
    assert counted.call.usage.prompt_tokens > 100 and counted.call.usage.completion_tokens == 10


def test_a_way_to_judge_completeness_asks_its_own_kinds():
    kinds = [request.kind for request in RATING]
    assert [request.kind for request in KEY_POINTS] == [*kinds[:-1], "points", "coverage"]


def test_what_no_reward_asks_is_not_estimated():
    with pytest.raises(TypeError, match="CompareAnswers has no typical reply"):
        asyncio.run(CountingJudge(COUNTED).ask(CompareAnswers("en", "Name a metal.", "Tin.", "Salt.")))
