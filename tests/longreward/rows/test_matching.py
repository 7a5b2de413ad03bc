"""The answers of two files to the same questions, whatever wrote the files."""

from __future__ import annotations

import json

import pytest

from longreward import cli
from longreward.errors import InputError
from longreward.evaluation import EvaluationItem, ItemOutcome
from longreward.rows.matching import Match, Questions, matched, with_documents

NOTHING = Questions(None)


@pytest.fixture
def file(tmp_path):
    def written(name: str, *rows: object):
        path = tmp_path / name
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return path

    return written


def row(idx, answer, query="What?", **more):
    return {"idx": idx, "query": query, "answer": answer} | more


def test_by_id_and_question_in_the_order_of_the_first_file(file):
    a = file("a", row(1, "a1"), row(2, "a2"), row(2, "a2 why", "Why?"), row(3, "a3"), row(5, None))
    b = file("b", row("2", "b2 why", " Why? "), row(2.0, "<think>hm</think>b2"), row(1, "b1"), row(4, "b4"), "{")
    found = matched(a, b, NOTHING)
    assert [(m.idx, m.query, m.a, m.b) for m in found.matches] == [
        ("1", "What?", "a1", "b1"),
        ("2", "What?", "a2", "b2"),
        ("2", "Why?", "a2 why", "b2 why"),
    ]
    assert found.alone == (1, 1) and found.unanswered == 1
    assert len(found.broken) == 1 and found.broken[0].startswith(f"{b}:5: ")


def test_a_file_of_scores_and_what_an_evaluation_leaves(file, tmp_path):
    rows = [row(i, f"Mara sold {i} crates.", f"How many, {i}?", context=f"Mara sold {i} crates.") for i in (1, 2)]
    source, scores = file("in.jsonl", *rows), tmp_path / "scores.jsonl"
    assert cli.main(["score", str(source), "--out", str(scores), "--judge", "offline"]) == 0
    item = EvaluationItem("1", "longbench_chat", "", "How many, 1?", ("One.",))
    left = file("longbench_chat-tuned.jsonl", ItemOutcome(item, 7.0).record() | {"answer": "One crate."})
    chat = file("chat.jsonl", {"idx": 1, "prompt": "Mara sold 1 crate.\n\nHow many, 1?", "query": "How many, 1?"})
    (match,) = matched(scores, left, Questions(chat)).matches
    assert match == Match("1", "How many, 1?", "Mara sold 1 crates.", "One crate.")
    assert with_documents([match], [scores, left, chat])[0].document == "Mara sold 1 crate.\n\nHow many, 1?"
    assert with_documents([match], [source, chat])[0].document == "Mara sold 1 crates."
    assert with_documents([match], [scores])[0].document is None


def test_a_question_that_is_not_there_or_not_the_only_one(file):
    a, b = file("a", {"idx": 7, "answer": "x"}), file("b", row(7, "y"))
    for questions, why in (
        (NOTHING, "has no query; give the file with the questions as --input"),
        (Questions(file("q", row(8, ""))), "has no question with its id '7'"),
        (Questions(file("r", row(7, "", "A?"), row(7, "", "B?"))), "has 2 questions with its id '7'"),
    ):
        with pytest.raises(InputError, match=r"a:1: the row has no query") as error:
            matched(a, b, questions)
        assert why in str(error.value)


def test_the_number_of_a_line_is_no_id_to_find_a_question_by(file):
    a, b = file("a", {"answer": "of another question"}, {"idx": 1, "answer": "x"}), file("b", row(1, "y", "Asked?"))
    found = matched(a, b, Questions(file("q", row(1, "", "Asked?"))))
    assert [(match.query, match.a) for match in found.matches] == [("Asked?", "x")]
    assert len(found.broken) == 1 and found.broken[0].startswith(f"{a}:1: idx must be text or a whole number")
    # With a question of its own a row needs no id.
    assert len(matched(file("c", {"query": "Q?", "answer": "x"}), file("d", row(1, "y", "Q?")), NOTHING).matches) == 1


def test_two_answers_to_a_question_are_refused_and_one_twice_is_not(file):
    once, twice = file("once", row(1, "x")), file("twice", row(1, "x"), row(1, "x"))
    assert len(matched(once, twice, NOTHING).matches) == 1
    with pytest.raises(InputError, match=r"two:2: a second answer to the question with the id '1'; leave one of them"):
        matched(once, file("two", row(1, "x"), row(1, "y")), NOTHING)
    broken = matched(once, file("broken", row(1, ["x"]), row(True, "x")), NOTHING).broken
    assert [text.split(": ", 1)[1] for text in broken] == [
        "answer must be text, found list",
        "idx must be text or a whole number, found True",
    ]
