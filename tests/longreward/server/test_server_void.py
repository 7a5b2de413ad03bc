"""A void reward reaches the trainer as a number that moves none of its siblings, or as null, and is always told."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi")


def config(judge, **serve):
    return judge.asked_once() | {"serve": serve}


@pytest.fixture
def judge(judge_server):
    """Rates an answer by the number in it. One with `broken` gets no verdict, one with `slow` gets it far too late."""

    def rate(prompt: str, number: int) -> object:
        answer = prompt.rpartition("<answer>")[2]
        if "broken" in answer:
            return "I would rather not say."
        if "slow" in answer:
            return slowly()
        return f"[[{next((sign for sign in answer if sign.isdigit()), 5)}]]"

    async def slowly() -> str:
        await asyncio.sleep(300)
        return "[[9]]"

    judge_server.script = {"helpfulness": rate, "logicality": rate}
    return judge_server


def answers(row, *texts):
    return [{**row, "answer": text} for text in texts]


def test_a_void_answer_gets_the_mean_of_its_siblings(serve, judge, rows):
    with serve(config(judge)) as server:
        assert server.ask(answers(rows[0], "Broken: broken."))[2]["rewards"] == [5.0]  # nothing is known yet
        other = {**rows[0], "query": "Another question?"}
        assert server.ask(answers(other, "A 2.", "A 4."))[2]["rewards"] == [2.0, 4.0]
        assert server.ask(answers({**other, "query": "A third?"}, "It is broken."))[2]["rewards"] == [3.0]
        assert server.ask(answers(other, "A 9."))[2]["rewards"] == [9.0]
        status, _, reply = server.ask(answers(other, "It is broken.", "A 1."))
        assert status == 200 and reply["rewards"][1] == 1.0
        # The mean of those that were there by then: with or without the one that came with it.
        assert reply["rewards"][0] in (pytest.approx(5.0), pytest.approx(4.0))
        assert reply["status"] == ["helpfulness: parse_error; logicality: parse_error", "ok"]
        logs = reply["extra_logs"]
        assert logs["longreward/void"] == [1.0, 0.0] and logs["longreward/void_parse_error"] == [1.0, 0.0]
        assert logs["longreward/total"] == reply["rewards"]
        found = server.metrics()
        assert found['longreward_void_total{reason="parse_error"}'] == 6 and found["longreward_void_items_total"] == 3


def test_with_a_group_size_a_void_answer_waits_for_its_siblings_of_other_requests(serve, judge, rows):
    texts = ["A 7.", "It is broken.", "A 8.", "A 6.", "Also broken.", "A 3."]
    with serve(config(judge, group_size=6)) as server, ThreadPoolExecutor(6) as pool:
        # A request each, as OpenRLHF sends them; the void ones well before the others.
        order = sorted(range(6), key=lambda i: "broken" not in texts[i])
        futures = {}
        for i in order:
            futures[i] = pool.submit(server.ask, answers(rows[0], texts[i]))
            time.sleep(0.3 if i == order[1] else 0.02)
        replies = [futures[i].result()[2] for i in range(6)]
    rewards = [reply["rewards"][0] for reply in replies]
    assert rewards == [7.0, 6.0, 8.0, 6.0, 6.0, 3.0]
    assert [reply["extra_logs"]["longreward/void"][0] for reply in replies] == [0, 1, 0, 0, 1, 0]


def test_what_is_not_scored_by_the_deadline_is_void_and_held_no_longer(serve, judge, rows):
    with serve(config(judge, group_size=8, deadline_s=1)) as server:
        status, _, reply = server.ask(answers(rows[0], "A 4.", "A slow one.", "A 8."))
        assert status == 200
    assert reply["rewards"] == [4.0, 6.0, 8.0]
    assert reply["status"][1] == "helpfulness: timeout; logicality: timeout"
    assert reply["extra_logs"]["longreward/void_timeout"] == [0.0, 1.0, 0.0]


def test_an_empty_answer_is_the_floor_not_void(serve, judge, rows):
    with serve(config(judge)) as server:
        reply = server.ask(answers(rows[0], ""))[2]
    assert reply["rewards"] == [0.0] and reply["status"] == ["ok"]
