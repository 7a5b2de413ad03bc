"""LongReward as TRL's reward functions, called as TRL 1.16.0 calls them (TRL itself: tests/rl/e2e/test_trl_e2e.py)."""

from __future__ import annotations

import asyncio
import pickle
from collections import defaultdict

import pytest

from longreward import DIMENSIONS, ConfigError, InputError, LongReward, RewardConfig, Sample
from longreward.adapters.trl import longreward_rewards
from longreward.errors import TooManyVoidsError


def call(functions, rows, *, without=None, **more):
    """All functions at once on one event loop, the columns of the data set as lists by name."""
    batch = {
        "prompts": [[{"role": "user", "content": "..."}]] * len(rows),
        "completions": [row["answer"] for row in rows],
        "completion_ids": [[1, 2]] * len(rows),
        "context": [row["context"] for row in rows],
        "query": [row["query"] for row in rows],
        "trainer_state": None,
    }
    batch.pop(without, None)

    async def step():
        return await asyncio.gather(*(function(**batch | more) for function in functions))

    return dict(zip((function.__name__ for function in functions), asyncio.run(step()), strict=True))


def of_the_library(rows, config=None):
    async def score():
        reward = LongReward.from_config(config or {})
        scored = await reward.score_many(
            [Sample(context=row["context"], query=row["query"], answer=row["answer"]) for row in rows]
        )
        await reward.aclose()
        return [reward.scores for reward in scored]

    return asyncio.run(score())


def judged(judge_server, **settings):
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "retry_base_s": 0}
    return {"judge": judge, **settings}


@pytest.fixture
def failing(judge_server):
    """A judge that gives no verdict on completeness where the answer speaks of silver."""
    judge_server.script["completeness"] = lambda prompt, _: "no idea" if "silver" in prompt else "[[6]]"
    return judged(judge_server)


def test_the_value_is_the_total_of_the_library(rows):
    rewards = longreward_rewards({})
    assert rewards.reward_weights == [1.0]
    assert call(rewards, rows) == {"longreward": [scores["total"] for scores in of_the_library(rows)]}


def test_columns_and_weights_add_up_to_the_total(rows):
    weights = {"helpfulness": 1, "faithfulness": 2, "completeness": 1}
    # The last one is copied as a whole, and one contradicts what the gate asks for.
    rows = [*rows, rows[0] | {"answer": rows[0]["context"]}, rows[0] | {"answer": "Otto ate 12 apples in Rome."}]
    settings = {"weights": weights, "gates": {"faithfulness": 2}, "copying": {"loss": 0.5, "row": 6}}
    rewards = longreward_rewards(settings, per_dimension=True)
    assert rewards.reward_weights == [0.25, 0.5, 0.25]
    columns = call(rewards, rows)
    assert list(columns) == [f"longreward_{name}" for name in DIMENSIONS if name in weights]
    totals = [
        sum(weight * value for weight, value in zip(rewards.reward_weights, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]
    assert totals == pytest.approx([s["total"] for s in of_the_library(rows, settings)])
    free = [s["total"] for s in of_the_library(rows, {"weights": weights, "copying": {"loss": 0}})]
    assert 0 < totals[-2] < free[-2] and totals[-1] == 0 < free[-1]


def test_a_dimension_that_is_only_a_gate_needs_no_weight(rows):
    settings = {"weights": {"helpfulness": 1}, "gates": {"logicality": 3}}
    rewards = longreward_rewards(settings)
    assert rewards.reward_weights == [1.0]
    assert call(rewards, rows) == {"longreward": [scores["total"] for scores in of_the_library(rows, settings)]}


def test_the_judge_is_asked_once_per_answer_and_not_once_per_column(judge_server, rows):
    call(longreward_rewards(judged(judge_server)), rows[:1])
    once = judge_server.calls.copy()
    judge_server.calls.clear()
    rewards = longreward_rewards(judged(judge_server), per_dimension=True, others=[length])
    call(rewards, rows[:1])
    assert judge_server.calls == once
    call(rewards, rows[:1])
    assert judge_server.calls["helpfulness"] == 2 * once["helpfulness"], "the next step's answers are scored anew"


def test_a_column_alone_scores_every_step_anew(judge_server, rows):
    (helpfulness, *_) = longreward_rewards(judged(judge_server), per_dimension=True)
    for step in (1, 2, 3):
        call([helpfulness], rows[:1])
        assert judge_server.calls["helpfulness"] == step


def length(completions, **_):
    return [float(len(completion)) for completion in completions]


async def length_later(completions, **_):
    return length(completions)


def test_an_answer_without_one_dimension_is_none_in_all_columns(failing, rows, caplog):
    columns = call(longreward_rewards(failing, per_dimension=True), rows)
    assert len(columns) == 4
    assert all([value is None for value in values] == [False, True, False] for values in columns.values())
    assert "1 of 3 answers have no reward" in caplog.text and "completeness: parse_error" in caplog.text


@pytest.mark.parametrize("other", [length, length_later])
def test_another_reward_function_is_none_where_longreward_is_void(failing, rows, other):
    rewards = longreward_rewards(failing, others=[other], other_weights=[0.1])
    assert rewards.reward_weights == [1.0, 0.1]
    values = call(rewards, rows)[other.__name__]
    assert values == [len(rows[0]["answer"]), None, len(rows[2]["answer"])]


def test_weighted_values_add_up_to_the_total_by_themselves(failing, rows):
    failing["weights"] = {"helpfulness": 1, "completeness": 3}
    rewards = longreward_rewards(failing, per_dimension=True, others=[length], other_weights=[0.1], weighted=True)
    assert rewards.reward_weights == [1.0, 1.0, 1.0]
    columns = call(rewards, rows)
    assert columns["longreward_helpfulness"] == [2.0, None, 2.0]
    assert columns["longreward_completeness"] == [4.5, None, 4.5]
    assert columns["length"] == [len(rows[0]["answer"]) * 0.1, None, len(rows[2]["answer"]) * 0.1]


def test_weights_are_not_left_out_by_a_trainer_that_has_none(rows):
    rewards = longreward_rewards({}, per_dimension=True)
    with pytest.raises(ConfigError, match=r"without reward_weights.*weighted=True"):
        call(rewards, rows, without="trainer_state")
    assert call(longreward_rewards({}), rows, without="trainer_state") == call(longreward_rewards({}), rows)


def test_pickled_functions_score_by_themselves_and_still_once_per_answer(judge_server, rows):
    first = longreward_rewards(judged(judge_server), per_dimension=True, others=[length])
    expected = call(first, rows[:1])
    once = judge_server.calls.copy()
    second = pickle.loads(pickle.dumps(first))
    assert second.reward_weights == first.reward_weights
    judge_server.calls.clear()
    assert call(second, rows[:1]) == expected
    assert judge_server.calls == once


def test_the_process_that_scores_alone_has_all_of_the_judges_limits(judge_server, rows, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    config = judged(judge_server)
    config["judge"]["max_in_flight"] = 4
    rewards = longreward_rewards(config)
    call(rewards, rows)
    assert judge_server.most_in_flight == 1
    sent = pickle.dumps(rewards)
    alone = pickle.loads(sent)
    monkeypatch.delenv("WORLD_SIZE")  # as the one process of AsyncGRPOTrainer does after it has unpickled them
    judge_server.waves = [4, *[1] * 100]
    call(alone, rows)
    assert judge_server.most_in_flight == 4


def test_a_row_without_document_and_question_is_left_to_the_others(rows):
    rows[1] |= {"context": None, "query": None}
    values = call(longreward_rewards({}, others=[length]), rows)
    assert values["longreward"][1] is None and None not in (values["longreward"][0], values["longreward"][2])
    assert values["length"] == [len(row["answer"]) for row in rows]


def test_the_answer_is_what_the_policy_said_at_last(rows):
    text = rows[0]["answer"]
    forms = [
        text,
        [{"role": "assistant", "content": text}],
        [{"role": "assistant", "content": [{"type": "text", "text": text}]}],
        [
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "tool", "content": "42"},
            {"role": "assistant", "content": text},
        ],
    ]
    (expected,) = of_the_library(rows[:1])
    scored = call(longreward_rewards({}), [rows[0]] * 4, completions=forms)["longreward"]
    assert scored == [expected["total"]] * 4
    silent = [[{"role": "assistant", "content": None}], [{"role": "tool", "content": text}], []]
    assert call(longreward_rewards({}), [rows[0]] * 3, completions=silent)["longreward"] == [0.0] * 3


def test_columns_have_other_names_if_the_data_set_has(rows):
    batch = {"document": [row["context"] for row in rows], "question": [row["query"] for row in rows]}
    rewards = longreward_rewards({}, context="document", query="question")
    assert call(rewards, rows, **batch) == call(longreward_rewards({}), rows)
    with pytest.raises(InputError, match=r"no column 'document'.*there: context, query"):
        call(rewards, rows)
    with pytest.raises(InputError, match="query of a row is None"):
        call(longreward_rewards({}), [rows[0] | {"query": None}])


def test_criteria_are_a_column_where_they_have_a_weight(rows):
    config = {"weights": {"criteria": 1}}
    wanted = [["Mara sold copper to Otto in Lisbon."]] * len(rows)
    (found,) = call(longreward_rewards(config, criteria="rubric"), rows, rubric=wanted).values()
    assert found[0] > 9 and found[2] == 0
    with pytest.raises(InputError, match=r"no column 'criteria'.*criteria=\.\.\."):
        call(longreward_rewards(config), rows)
    with pytest.raises(InputError, match=r"the row that asks 'What did Mara and Lena do.*there is no criterion"):
        call(longreward_rewards(config), rows, criteria=[[]] * len(rows))


def test_training_ends_where_the_judge_fails(failing, rows):
    silver = rows[1]
    rewards = longreward_rewards(failing, max_void_rate=0.5, void_window=4)
    assert call(rewards, [rows[0], rows[0], silver, silver])["longreward"][2:] == [None, None]
    with pytest.raises(TooManyVoidsError, match=r"75% of the last 4 rewards are void .*checkpoint"):
        call(rewards, [silver])


def test_dimensions_voids_and_cost_go_into_the_trainers_log(failing, rows):
    metrics, columns = {}, defaultdict(list)
    price = {"prompt_per_million": 1}
    failing["judge"]["price"] = price
    rewards = longreward_rewards(failing, per_dimension=True)
    call(rewards, rows, log_metric=metrics.__setitem__, log_extra=lambda name, values: columns[name].extend(values))
    assert metrics["longreward/void"] == pytest.approx(1 / 3)
    assert metrics["longreward/completeness"] == 6.0 and metrics["longreward/judge_cost"] > 0
    assert columns["longreward/total"][1] is None and columns["longreward/completeness"] == [6.0, None, 6.0]
    assert columns["longreward/void"] == ["", "completeness: parse_error", ""]


def test_the_launchers_processes_divide_the_judges_limits(judge_server, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    few = judged(judge_server)
    few["judge"]["max_in_flight"] = 4
    with pytest.raises(ConfigError, match="too little for 8 processes"):
        longreward_rewards(few)
    longreward_rewards(few, processes=4)


def test_a_wrong_configuration_is_told_before_training():
    with pytest.raises(ConfigError, match="unknown key 'weight'"):
        longreward_rewards({"weight": {}})
    with pytest.raises(ConfigError, match="other_weights has 1 weights for 2"):
        longreward_rewards(RewardConfig(), others=[length, length_later], other_weights=[1])
