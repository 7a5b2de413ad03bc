"""The answers that are shown while a run goes on: read from the store as it grows, and harmless to the page."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from longreward.files import jsonlines
from longreward.schema import ScoredAnswer
from rl.monitor import answer_samples
from rl.monitor.answer_samples import Samples

DIMENSIONS = ("helpfulness", "logicality", "faithfulness", "completeness")
EVIL = (
    "# big\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\n<script>alert(1)</script>\n<img src='http://x/y.png'> "
    "![i](http://x/z.png) [link](javascript:alert(1)) **bold** _it_ `code` </td></table> &lt;b&gt; &#60;i&#62;\n"
    "[ref]: http://x\n> quote\n1. one\n- two\n=====\n\u202ebackwards\u0000\u0002amp\u0003 \x1b[31m \udcff"
)


def record(number, total=5.0, split="train", **more):
    """A record as a judge worker writes it."""
    statement = {
        "text": f"Fact {number}.",
        "support": 0.5,
        "evidence": [{"index": 0, "start": 0, "end": 9, "text": "THE DOCUMENT"}],
        "call": {"kind": "verify", "text": "Partly so. [[Partially supported]]"},
    }
    dimensions = {
        name: {"score": total, "calls": [{"kind": name, "text": f"Analysis of {name}. [[5]]"}]} for name in DIMENSIONS
    }
    dimensions["faithfulness"]["statements"] = [statement]
    if total is None:
        dimensions["helpfulness"] |= {"score": None, "status": "timeout", "detail": "no reply"}
    about = {"id": f"doc-{number}", "split": split, "rollout": f"r{number}", "truncated": False, "tokens": 12}
    about |= {"time": 1000.0 + number, "seconds": 1.0, "query": "What?", "answer": f"Answer {number}."}
    return about | {"total": total, "dimensions": dimensions} | more


def ids(found):
    return [answer.id for answer in found]


@pytest.fixture
def part(tmp_path: Path):
    with jsonlines.Appender(tmp_path / "store" / "answers-0.jsonl") as opened:
        yield opened


def test_only_what_is_new_of_the_training_answers_is_read(part):
    part.append(record(0, 10.0))
    shown = Samples(part.path.parent, 4)
    shown.read()
    assert shown.choose(4) == []
    part.append(record(1, 3.0))
    part.append(record(2, 9.0, split="heldout"))
    part.append(record(3, 7.0))
    shown.read()
    assert ids(shown.choose(4)) == ["doc-3", "doc-1"]


def test_the_newest_steps_worth_is_kept_over_all_workers_files(part, tmp_path):
    shown = Samples(part.path.parent, 4)
    with jsonlines.Appender(tmp_path / "store" / "answers-1.jsonl") as other:
        for number in range(0, 40, 2):
            part.append(record(number, number / 10))
            other.append(record(number + 1, (number + 1) / 10))
    shown.read()
    assert ids(shown.choose(9)) == ["doc-39", "doc-38", "doc-37", "doc-36"]
    part.append(record(40, 0.0))
    shown.read()
    assert ids(shown.choose(9)) == ["doc-39", "doc-38", "doc-37", "doc-40"]


def test_a_half_written_line_waits_and_a_broken_one_is_passed_over(part):
    shown = Samples(part.path.parent, 4)
    line = json.dumps(record(1)).encode()
    with part.path.open("ab") as file:
        file.write(b'{"id": "cut by a kil\n[1]\n{"split": "train"}\n' + line[:100])
        file.flush()
        shown.read()
        assert shown.choose(4) == []
        file.write(line[100:] + b"\n")
    shown.read()
    assert ids(shown.choose(4)) == ["doc-1"]


def test_an_answer_that_was_scored_twice_is_there_once(part):
    shown = Samples(part.path.parent, 4)
    part.append(record(1, 3.0))
    part.append(record(1, 4.0, time=2000.0))
    shown.read()
    assert [answer.total for answer in shown.choose(4)] == [4.0]


@pytest.mark.parametrize(
    "count, totals", [(1, [9]), (2, [9, 0]), (3, [9, 5, 0]), (4, [9, 6, 3, 0]), (20, range(9, -1, -1))]
)
def test_the_best_the_worst_and_some_between(part, count, totals):
    shown = Samples(part.path.parent, 32)
    for number in range(10):
        part.append(record(number, float(number)))
    shown.read()
    chosen = shown.choose(count)
    assert [answer.total for answer in chosen] == pytest.approx(list(totals), abs=1)
    assert chosen[0].total == 9 and (count == 1 or chosen[-1].total == 0)
    assert answer_samples.place(0, chosen) == "best"


def test_void_answers_fill_up(part):
    shown = Samples(part.path.parent, 8)
    for number, total in enumerate([None, 3.0, None, None, 8.0]):
        part.append(record(number, total))
    shown.read()
    chosen = shown.choose(3)
    assert [answer.total for answer in chosen] == [8.0, 3.0, None]
    assert [answer_samples.place(number, chosen) for number in range(3)] == ["best", "worst", "void"]
    page = visible(answer_samples.markdown(chosen))
    assert "void (timeout)" in page and "no reply" in page


def test_the_page_has_the_verdicts_and_not_the_document():
    text = answer_samples.markdown(
        [ScoredAnswer.model_validate(record(1, 7.5)), ScoredAnswer.model_validate(record(2, 2.0))]
    )
    assert html(text).count("<table>") == 4
    page = visible(text)
    assert "THE DOCUMENT" not in page
    for expected in ("best: 7.50", "worst: 2.00", "doc-1", "What?", "Answer 2.", "12 tokens", "Fact 1.", "partial"):
        assert expected in page
    for name in DIMENSIONS:
        assert f"<td>{name}</td>" in html(text)
    assert "Analysis of logicality. [[5]]" in page and "Partly so. [[Partially supported]]" in page


def test_no_answer_can_break_the_page():
    plain = html(answer_samples.markdown([ScoredAnswer.model_validate(record(1))]))
    evil = record(1, id=EVIL, query=EVIL, answer=EVIL)
    for dimension in evil["dimensions"].values():
        dimension["calls"][0]["text"] = EVIL
        for statement in dimension.get("statements", []):
            statement["text"] = statement["call"]["text"] = EVIL
    text = answer_samples.markdown([ScoredAnswer.model_validate(evil)])
    text.encode()
    tags = re.compile(r"</?(\w+)[^>]*>")
    assert [tag for tag in tags.findall(html(text)) if tag != "br"] == tags.findall(plain)
    page = visible(text)
    for kept in (
        "<script>alert(1)</script>",
        "**bold** _it_ `code`",
        "[link](javascript:alert(1))",
        "&lt;b&gt; &#60;i",
    ):
        assert page.count(kept) == 8  # id, question, answer, three dimensions, a statement and its verdict
    assert not set(page) & set("\u202e\u0000\u0002\u0003\x1b")


def test_long_answers_are_shortened_with_the_verdict_kept():
    long = record(1, query="q" * 10_000, answer="a" * 100_000)
    long["dimensions"]["helpfulness"]["calls"][0]["text"] = "thought " * 5000 + "[[9]]"
    long["dimensions"]["faithfulness"]["statements"] *= 500
    page = answer_samples.markdown([ScoredAnswer.model_validate(long)])
    assert len(page) < 15_000
    assert "thought" in page and "&#91;&#91;9&#93;&#93;" in page and "and 480 more statements" in page


def test_rows_make_a_table_for_wandb():
    import wandb

    answers = [
        ScoredAnswer.model_validate(record(1, 8.0)),
        ScoredAnswer.model_validate(record(2, 3.0, answer=EVIL)),
        ScoredAnswer.model_validate(record(3, None)),
    ]
    table = wandb.Table(columns=answer_samples.columns(DIMENSIONS), data=answer_samples.rows(20, answers, DIMENSIONS))
    best, _, void = (dict(zip(table.columns, row, strict=True)) for row in table.data)
    assert (best["step"], best["place"], best["total"], best["completeness"]) == (20, "best", 8.0, 8.0)
    assert void["place"] == "void" and void["total"] is None and void["helpfulness"] is None
    assert best["evidence"].splitlines() == ["1. Partly so. [[Partially supported]]", "- THE DOCUMENT"]
    assert "1. partial: Fact 1." in best["statements"] and "logicality: 8.00: Analysis" in best["judge"]
    json.dumps(table.data).encode()


def html(text: str) -> str:
    """What TensorBoard makes of it."""
    from tensorboard import plugin_util

    return plugin_util.markdown_to_safe_html(text)


def visible(text: str) -> str:
    """What a person then reads."""
    pieces: list[str] = []
    parser = HTMLParser()
    parser.handle_data = pieces.append
    parser.feed(html(text))
    return "".join(pieces)
