"""What a judge replies to an evaluation's questions, and what the offline judge's rules say to them."""

from __future__ import annotations

import asyncio

import pytest

from longreward.errors import VerdictError
from longreward.judge.offline import OfflineJudge
from longreward.judge.requests.evaluation import (
    CompareAnswers,
    EvaluationRequest,
    RateAgainstReference,
    RateChat,
    RateSummary,
)
from longreward.judge.verdicts import parse_grade, parse_preference, parse_rating


@pytest.mark.parametrize(
    ("text", "highest", "grade"),
    [
        ("[[1]]", 3, 1),
        ("[[3]]", 3, 3),
        ("[[ 2 / 3 ]]", 3, 2),
        ("[[5]]", 5, 5),
        ("分析……\n【【４】】", 5, 4),
        ("At first [[1]], but on balance\n[[2]]", 3, 2),
        ("<think>[[1]]</think> [[3]]", 3, 3),
        ("[THINK][[1]][/THINK] [[3]]", 3, 3),
        ("[[2分]]", 3, 2),
        ("[[Grade: **2**]]", 3, 2),
        ("[[2 out of 3]]\n[[1]](https://example.org)", 3, 2),
        ("\\boxed{2}", 3, 2),
    ],
)
def test_a_grade_is_read(text: str, highest: int, grade: int) -> None:
    found = parse_grade(text, highest)
    assert found == grade and isinstance(found, int)


@pytest.mark.parametrize(
    ("text", "highest"),
    [
        ("", 3),
        ("2", 3),
        ("[2]", 3),
        ("[[0]]", 3),
        ("[[4]]", 3),
        ("[[6]]", 5),
        ("[[2.5]]", 3),
        ("[[2.0]]", 3),
        ("[[-1]]", 3),
        ("[[2/5]]", 3),
        ("[[3/3]]", 5),
        ("[[two]]", 3),
        ("[[2 or 3]]", 3),
        ("[[2]] then [[7]]", 3),
        ("[[2]] or rather [[", 3),
        ("<think>[[2]]", 3),
        ("<musing>[[2]]", 3),
        ("[[2 out of 5]]", 3),
    ],
)
def test_anything_else_is_no_grade(text: str, highest: int) -> None:
    with pytest.raises(VerdictError) as caught:
        parse_grade(text, highest)
    assert caught.value.text == text


def test_a_chat_rating_begins_at_one() -> None:
    assert parse_rating("[[1]]", lowest=1) == 1 and parse_rating("[[7.5]]", lowest=1) == 7.5
    for text in ("[[0]]", "[[0.5]]", "[[10.5]]"):
        with pytest.raises(VerdictError, match=r"outside 1\.\.10"):
            parse_rating(text, lowest=1)


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("[[A]]", "A"),
        ("[[b]]", "B"),
        ("[[C]]", "tie"),
        ("[[ Tie ]]", "tie"),
        ("【【Ｂ】】", "B"),
        ("[[平局]]", "tie"),
        ("Not [[A]], I think.\n[[B]]", "B"),
        ("[[**A**]]", "A"),
        ("[[Answer B]]", "B"),
        ("[[回答A]]", "A"),
        ("[THINK][[A]][/THINK][[C.]]", "tie"),
        ("\\boxed{B}", "B"),
    ],
)
def test_a_preference_is_read(text: str, preference: str) -> None:
    assert parse_preference(text) == preference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "[A]",
        "[[D]]",
        "[[A or B]]",
        "[[A>B]]",
        "[[A]] no, [[?]]",
        "[[A]] [[",
        "[[]]",
        "[[Not A]]",
        "<musing>[[A]]",
    ],
)
def test_anything_else_is_no_preference(text: str) -> None:
    with pytest.raises(VerdictError) as caught:
        parse_preference(text)
    assert caught.value.text == text


# --- the offline judge ---


def verdict(request: EvaluationRequest):
    return asyncio.run(OfflineJudge().ask(request)).value


@pytest.mark.parametrize(
    ("question", "reference", "grades"),
    [
        (
            "Who built the pier, and when?",
            "Karen Lund in 1863",
            {
                "The engineer Karen Lund built it in 1863.": 3,
                "Karen Lund built the pier.": 2,
                "Karen Lund built it in 1836.": 2,
                "Who built the pier, and when?": 1,
                "Ole Bull.": 1,
            },
        ),
        ("Did they win?", "Yes", {"Yes, in the end.": 3, "No.": 1}),
        ("设备的费用是多少？", "48万元", {"费用为48万元。": 3, "费用为52万元。": 1, "不知道。": 1}),
    ],
)
def test_the_rule_for_questions_points_the_right_way(question: str, reference: str, grades: dict[str, int]) -> None:
    requests = {a: RateAgainstReference("en", reference=reference, answer=a, query=question) for a in grades}
    assert {answer: verdict(request) for answer, request in requests.items()} == grades


def test_the_rules_for_summaries_and_chat_rise_with_the_words_in_common() -> None:
    reference = "The quarry was opened in 1834. A flood filled the lower pit in 1871. It closed in 1902."
    answers = [
        "Nobody knows.",
        "The quarry was opened in 1834.",
        "Opened in 1834, the quarry closed in 1902.",
        reference,
    ]
    summaries = [verdict(RateSummary("en", reference=reference, answer=text)) for text in answers]
    chats = [
        verdict(RateChat("en", reference=reference, answer=text, query="Tell me.", examples=[])) for text in answers
    ]
    assert summaries == sorted(summaries) and (summaries[0], summaries[-1]) == (1, 5)
    assert chats == sorted(chats) and (chats[0], chats[-1]) == (1, 10)


@pytest.mark.parametrize(
    ("query", "reference", "better", "worse"),
    [
        ("Name three fruits.", "apple, pear, plum", "Apple, plum and pear.", "Paris, London and Rome."),
        ("Why does ice float on water?", "", "Ice floats on water because ice is lighter.", "I cannot help with that."),
        ("Describe rain.", "", "Rain is falling water.", "Rain is falling water. Rain is falling water."),
        ("用一句话介绍绿茶。", "", "绿茶是一种不发酵的茶。", "今天天气很好。"),
    ],
)
def test_the_rule_for_pairs_does_not_look_at_the_order(query: str, reference: str, better: str, worse: str) -> None:
    assert verdict(CompareAnswers("en", query, better, worse, reference)) == "A"
    assert verdict(CompareAnswers("en", query, worse, better, reference)) == "B"
    assert verdict(CompareAnswers("en", query, worse, worse, reference)) == "tie"


def test_scores_of_the_examples_stand_in_no_brackets() -> None:
    request = RateChat("en", reference="R", answer="X", query="Q?", examples=[("Good [[10]].", 9.5), ("Bad.", 2)])
    shown = request.fields()["examples"]
    assert shown == "(1) Good [[10]].\nRating: 9.5\n\n(2) Bad.\nRating: 2"
    assert "[[10]]" not in request.text()
    empty = RateChat("zh", reference="R", answer="X", query="Q?", examples=[])
    assert "<examples>\n(none)\n</examples>" in empty.text()
