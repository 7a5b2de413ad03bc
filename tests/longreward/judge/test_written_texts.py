"""What is read from the replies of a model that writes questions and answers."""

from __future__ import annotations

import json

import pytest

from longreward.config import ReplyForm
from longreward.errors import VerdictError
from longreward.judge.requests.writing import WriteAnswer, WriteQuestions
from longreward.judge.said import Said
from longreward.judge.verdicts import parse_answer, parse_questions

TWO = "<question>Who sold it?</question>\n<question>\nWhen,\nand why? </question>"


@pytest.mark.parametrize(
    "reply",
    [
        TWO,
        f"Here they are:\n{TWO}\nThat is all.",
        f"<think>One could ask <question>this</question>.</think>{TWO}",
        TWO.replace("<question>", "< Question >"),
        "1. <question>Who sold it?</question> 2. <question>When,\nand why?</question>",
    ],
)
def test_questions_are_read_in_their_order(reply):
    assert parse_questions(reply, 2) == ["Who sold it?", "When,\nand why?"]


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("", "0 <question> tags, and 2"),
        ("Who sold it? When?", "0 <question> tags, and 2"),
        ("<question>Who sold it?</question>", "1 <question> tags, and 2"),
        (f"{TWO}<question>And a third?</question>", "3 <question> tags, and 2"),
        (f"{TWO}<question>Cut sho", "not closed"),
        ("<question>Who <question>sold</question> it?</question>", "do not pair up"),
        ("<question>Who sold it?</question><question> - </question>", "empty"),
        (f"<think>{TWO}", "a thought is not closed"),
        (f"<secret_plan>{TWO}", "may begin a thought"),
    ],
)
def test_any_other_reply_is_asked_for_again(reply, why):
    with pytest.raises(VerdictError, match=why):
        parse_questions(reply, 2)


@pytest.mark.parametrize("reply", ["No questions", "no questions.", "It is blank.\nNo questions", "没有问题。"])
def test_a_document_may_hold_nothing_to_ask(reply):
    assert parse_questions(reply, 3) == []


def test_an_answer_is_the_reply_without_its_thoughts():
    assert parse_answer("<think>Otto?</think>\n\nOtto sold it.\n\n- in Rome\n") == "Otto sold it.\n\n- in Rome"
    assert parse_answer("No answer was given to Otto.") == "No answer was given to Otto."
    assert parse_answer("**No answer.**") is None and parse_answer("没有答案。") is None
    for empty in ("", " \n", "...", "<think>Otto?</think>"):
        with pytest.raises(VerdictError, match="empty"):
            parse_answer(empty)


def test_a_server_may_hold_them_to_json():
    form = ReplyForm("constrained")
    questions, answer = WriteQuestions("en", "Text.", ["summary", "reasoning"]), WriteAnswer("en", "Text.", "Who?")

    def read(request, verdict):
        return request.read(Said(json.dumps({"analysis": "", "verdict": verdict})), form).value

    assert "schema" in questions.text(form=form)
    assert read(questions, ["Who? ", "Why?"]) == ["Who?", "Why?"] and read(questions, []) == []
    assert read(answer, "Otto.") == "Otto." and read(answer, "No answer") is None
    for request, verdict in ((questions, ["Who?"]), (questions, ["Who?", " "]), (questions, ["a"] * 3), (answer, "")):
        with pytest.raises(VerdictError):
            read(request, verdict)
