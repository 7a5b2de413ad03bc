"""Answers against references through the real engine: published scores, voids, both orders."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from longreward.config import CacheConfig, JudgeConfig
from longreward.evaluation import EvaluationItem, compare, load, score
from longreward.judge import make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.offline import OfflineJudge

DATA = Path(__file__).parents[2] / "data" / "evaluation"
QA = EvaluationItem("1", "qasper", "Mara sold copper.", "What did Mara sell?", ("Copper.",))
SUMMARY = replace(QA, dataset="gov_report", query="Summarise the report.", references=("Mara sold copper.",))
CHAT = replace(QA, dataset="longbench_chat", examples=(("Silver.", 2), ("Copper, I think.", 8)))
SHORT = EvaluationItem("1", "short", "", "Name a metal.", ())


def run(work, server=None, cache=None, **settings):
    """`work(judge)` with a judge of its own."""
    config = JudgeConfig()
    if server is not None:
        config = JudgeConfig(kind="openai", base_url=server.url, model="judge", retry_base_s=0, **settings)

    async def judged():
        judge = make_judge(config, VerdictCache.of(CacheConfig(path=cache)))
        try:
            return await work(judge)
        finally:
            await judge.aclose()

    return asyncio.run(judged())


def scored(server, item: EvaluationItem, answer: str = "Copper.", **settings):
    (one,) = run(lambda judge: score([item], {item.id: answer}, judge), server, **settings)
    return one


@pytest.mark.parametrize(
    ("item", "kind", "values"),
    [
        (QA, "evaluate_qa", {"[[1]]": 0.0, "[[2]]": 0.5, "[[3]]": 1.0}),
        (SUMMARY, "evaluate_summary", {"[[1]]": 0.0, "[[2]]": 0.25, "[[4]]": 0.75, "[[5]]": 1.0}),
        (CHAT, "evaluate_chat", {"[[1]]": 1.0, "[[6.5]]": 6.5, "[[10]]": 10.0}),
    ],
)
def test_a_grade_becomes_the_published_score(
    judge_server, item: EvaluationItem, kind: str, values: dict[str, float]
) -> None:
    for reply, value in values.items():
        judge_server.script[kind] = f"Analysis.\n{reply}"
        one = scored(judge_server, item)
        assert (one.value, one.status) == (value, "ok")
    assert set(judge_server.calls) == {kind}


@pytest.mark.parametrize(
    ("item", "kind", "reply"),
    [
        (QA, "evaluate_qa", "[[4]]"),
        (QA, "evaluate_qa", "[[1.5]]"),
        (SUMMARY, "evaluate_summary", "Quite good."),
        (CHAT, "evaluate_chat", "[[0]]"),
    ],
)
def test_an_unreadable_verdict_is_void_and_not_a_half(
    judge_server, item: EvaluationItem, kind: str, reply: str
) -> None:
    judge_server.script[kind] = reply
    one = scored(judge_server, item, parse_attempts=2)
    assert (one.value, one.status, judge_server.calls[kind]) == (None, "parse_error", 2)
    assert one.calls[0].text == reply and one.usage.calls == 2 and one.detail


def by_reference(replies: dict[str, str]):
    def reply(prompt: str, _: int) -> str:
        (reference,) = re.findall(r"<reference>\n(.*)\n</reference>\n", prompt)
        return replies[reference]

    return reply


@pytest.mark.parametrize(
    ("replies", "value", "status", "calls"),
    [
        ({"one": "[[1]]", "two": "[[2]]"}, 0.5, "ok", 2),
        ({"one": "[[2]]", "two": "[[1]]"}, 0.5, "ok", 2),
        # The best grade there is: the other reference is not asked about, and its failure does not matter.
        ({"one": "[[3]]", "two": "[[1]]"}, 1.0, "ok", 1),
        ({"one": "none", "two": "[[3]]"}, 1.0, "ok", 2),
        # The failed one might have been the best.
        ({"one": "none", "two": "[[2]]"}, None, "parse_error", 2),
        ({"one": "[[2]]", "two": "none"}, None, "parse_error", 2),
    ],
)
def test_the_best_reference_counts(judge_server, replies: dict[str, str], value, status: str, calls: int) -> None:
    judge_server.script["evaluate_qa"] = by_reference(replies)
    one = scored(judge_server, replace(QA, references=("one", "two")), parse_attempts=1)
    assert (one.value, one.status, judge_server.calls.total(), len(one.calls)) == (value, status, calls, calls)


def test_the_judge_sees_what_was_published_and_the_answer_last(judge_server) -> None:
    for item in (QA, SUMMARY, CHAT):
        scored(judge_server, item, "The answer to be judged.")
    shown = dict(judge_server.prompts)
    for prompt in shown.values():
        assert "<answer>\nThe answer to be judged.\n</answer>\n\nThis is the end" in prompt
        assert QA.context + "\n\n" not in prompt
    assert QA.query in shown["evaluate_qa"] and SUMMARY.query not in shown["evaluate_summary"]
    assert "(1) Silver.\nRating: 2\n\n(2) Copper, I think.\nRating: 8" in shown["evaluate_chat"]


def test_the_prompts_language_is_the_references_whatever_the_answers(judge_server) -> None:
    chinese = replace(QA, id="2", query="玛拉卖了什么？", references=("铜",))
    run(lambda judge: score([QA, chinese], {"1": "铜", "2": "Copper."}, judge, concurrency=1), judge_server)
    (_, first), (_, second) = judge_server.prompts
    assert first.startswith("You grade") and second.startswith("请你")


@pytest.mark.parametrize(("item", "floor"), [(QA, 0.0), (SUMMARY, 0.0), (CHAT, 1.0)])
def test_an_empty_answer_gets_the_floor_without_a_call(judge_server, item: EvaluationItem, floor: float) -> None:
    for answer in ("", " \n", "...?!"):
        one = scored(judge_server, item, answer)
        assert (one.value, one.status, one.calls) == (floor, "ok", [])
    assert judge_server.calls.total() == 0


def test_a_missing_answer_is_void(judge_server) -> None:
    (one,) = run(lambda judge: score([QA], {}, judge), judge_server)
    assert (one.value, one.status, judge_server.calls.total()) == (None, "no_answer", 0)


def test_one_failure_does_not_touch_the_others_and_order_is_kept(judge_server) -> None:
    items = [replace(QA, id=str(i)) for i in range(12)]
    judge_server.latency = 0.01
    judge_server.script["evaluate_qa"] = lambda prompt, _: "[[9]]" if "Answer 5." in prompt else "[[3]]"
    answers = {item.id: f"Answer {item.id}." for item in items}
    done = run(lambda judge: score(items, answers, judge, concurrency=4), judge_server, parse_attempts=1)
    assert [one.item.id for one in done] == [item.id for item in items]
    assert [one.value for one in done] == [None if item.id == "5" else 1.0 for item in items]
    assert judge_server.most_in_flight == 4
    record = done[5].record()
    assert (record["idx"], record["value"], record["status"], record["calls"][0]["text"]) == (
        "5",
        None,
        "parse_error",
        "[[9]]",
    )


# --- pairs ---


def compared(server, item: EvaluationItem = SHORT, a: str = "answer of a", b: str = "answer of b", **settings):
    (one,) = run(lambda judge: compare([item], {item.id: a}, {item.id: b}, judge), server, **settings)
    return one


def prefers(a_first: str, b_first: str):
    """Replies by which answer stands first."""
    return lambda prompt, _: f"[[{a_first if prompt.index('answer of a') < prompt.index('answer of b') else b_first}]]"


@pytest.mark.parametrize(
    ("a_first", "b_first", "value"),
    [
        ("A", "B", 0.0),
        ("B", "A", 1.0),
        ("A", "C", 0.0),
        ("C", "B", 0.0),
        ("B", "C", 1.0),
        ("C", "A", 1.0),
        ("C", "C", 0.5),
        ("A", "A", 0.5),  # whichever comes first
        ("B", "B", 0.5),  # whichever comes last
    ],
)
def test_a_win_needs_both_orders_or_one_and_a_tie(judge_server, a_first: str, b_first: str, value: float) -> None:
    judge_server.script["evaluate_pair"] = prefers(a_first, b_first)
    one = compared(judge_server)
    assert (one.value, one.status, judge_server.calls["evaluate_pair"]) == (value, "ok", 2)


@pytest.mark.parametrize("replies", [("A", "?"), ("?", "B"), ("?", "?")])
def test_a_pair_without_both_verdicts_is_void(judge_server, replies: tuple[str, str]) -> None:
    judge_server.script["evaluate_pair"] = prefers(*replies)
    one = compared(judge_server, parse_attempts=1)
    assert (one.value, one.status, len(one.calls)) == (None, "parse_error", 2)


@pytest.mark.parametrize(
    ("a", "b", "value"), [("", "Iron.", 1.0), ("Iron.", "...", 0.0), ("", " ", 0.5), ("Iron.", "Iron.\n", 0.5)]
)
def test_what_needs_no_judge_is_not_asked(judge_server, a: str, b: str, value: float) -> None:
    one = compared(judge_server, a=a, b=b)
    assert (one.value, one.calls, judge_server.calls.total()) == (value, [], 0)


def test_a_pair_lacking_an_answer_is_void(judge_server) -> None:
    (one,) = run(lambda judge: compare([SHORT], {"1": "Iron."}, {}, judge), judge_server)
    assert (one.value, one.status) == (None, "no_answer")


def test_the_reference_is_shown_where_there_is_one(judge_server) -> None:
    compared(judge_server)
    compared(judge_server, replace(SHORT, references=("Iron.",)))
    shown = [re.findall(r"<reference>\n(.*)\n</reference>\n", prompt)[-1] for _, prompt in judge_server.prompts]
    assert sorted(shown) == ["(none)", "(none)", "Iron.", "Iron."]


# --- the offline judge on the small sets ---


@pytest.mark.parametrize("name", ["longbench.json", "longbench_raw.jsonl", "longbench_chat.json"])
def test_the_offline_judge_ranks_references_above_echoes(name: str) -> None:
    kind = name.split(".")[0].removesuffix("_raw")
    items = load(DATA / name, kind)
    lowest, highest = (1, 10) if kind == "longbench_chat" else (0, 1)

    def values(answers: dict[str, str]) -> list[float | None]:
        return [one.value for one in asyncio.run(score(items, answers, OfflineJudge()))]

    assert values({item.id: item.references[-1] for item in items}) == [highest] * len(items)
    assert max(values({item.id: item.query for item in items})) < (lowest + highest) / 2


def test_the_offline_judge_prefers_references() -> None:
    items = load(DATA / "short.jsonl", "short")
    bad = {item.id: "Nobody knows that." for item in items}
    good = {item.id: item.references[0] if item.references else item.query for item in items}
    for first, second, value in ((bad, good, 1.0), (good, bad, 0.0), (good, good, 0.5)):
        assert {one.value for one in asyncio.run(compare(items, first, second, OfflineJudge()))} == {value}


def test_short_requests_have_no_score_of_their_own() -> None:
    with pytest.raises(ValueError, match="compare two policies"):
        asyncio.run(score([SHORT], {}, OfflineJudge()))


def test_answers_are_judged_without_their_thoughts(judge_server):
    judge_server.script |= {"evaluate_qa": "[[3]]", "evaluate_pair": "[[A]]"}
    thought, empty = "<think>Perhaps Karl.</think>Copper.", "<think>Perhaps Karl."
    assert scored(judge_server, QA, thought).value == 1 and scored(judge_server, QA, empty).value == 0
    (one,) = run(lambda judge: compare([SHORT], {"1": thought}, {"1": "Copper."}, judge), judge_server)
    assert (one.value, one.detail) == (0.5, "the answers are the same")
    assert not any("Karl" in prompt for _, prompt in judge_server.prompts)
    run(lambda judge: score([QA], {"1": thought}, judge, strip_thoughts=False), judge_server)
    assert "Karl" in judge_server.prompts[-1][1]
