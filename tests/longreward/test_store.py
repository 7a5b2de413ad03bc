"""Scored answers on disk: written and read back, those of earlier versions too, in whole or by some of their fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from longreward import store
from longreward.errors import InputError
from longreward.schema import (
    DimensionScore,
    Evidence,
    JudgeCall,
    Reward,
    Sample,
    ScoredAnswer,
    Statement,
    Usage,
)


def scored(total: float | None = 7.5, text: str = "Analysis. [[7.5]]", **about) -> ScoredAnswer:
    usage = Usage(calls=1, prompt_tokens=90, completion_tokens=9, cost=0.25)
    statement = Statement(
        text="Mara sold copper.",
        support=0.5,
        evidence=[Evidence(index=3, start=10, end=20, text="the chunk.")],
        call=JudgeCall(kind="verify", text=text, source="shared"),
    )
    dimensions = {
        "helpfulness": DimensionScore(
            score=total,
            status="ok" if total is not None else "timeout",
            calls=[JudgeCall(kind="helpfulness", text=text, attempts=2, seconds=1.5, usage=usage)],
        ),
        "faithfulness": DimensionScore(score=5.0, statements=[statement]),
    }
    reward = Reward(id="a", total=total, dimensions=dimensions, seconds=2.5)
    sample = Sample(id="a", context="The document.", query="What?", answer="An answer.")
    return ScoredAnswer.of(sample, reward, **about)


RUN = {"split": "train", "rollout": "a/0", "tokens": 25, "truncated": False, "time": 1.8e9}


class Few(store.Fields, kw_only=True):
    rollout: str = ""
    total: float | None = None
    truncated: bool | None = None


class WithScores(store.Fields, kw_only=True):
    dimensions: dict[str, dict[str, Any]]


@pytest.mark.parametrize("answer", [scored(**RUN), scored(None), scored(text="half a pair: \ud800", **RUN)])
@pytest.mark.parametrize("with_scores", [False, True])
def test_what_was_appended_is_read_back(tmp_path, answer, with_scores):
    path = tmp_path / "store" / "answers-0.jsonl"
    with store.Store(path, with_scores=with_scores) as part:
        part.append(answer)
    assert [(number, record) for number, _, record in store.read(path, None, ScoredAnswer)] == [(1, answer)]
    row = json.loads(path.read_text())
    assert row["version"] == 1 and ("scores" in row) == with_scores and "context" not in row
    assert "truncated" in row or answer.truncated is None, "a false `truncated` is written"


def test_a_row_of_a_file_of_scores_has_the_keys_for_people(tmp_path):
    store.rewrite(tmp_path / "out.jsonl", [scored(None, key="k", config="c")])
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["idx"] == "a" and row["query"] == "What?" and row["answer"] == "An answer."
    assert row["scores"] == {"helpfulness": None, "faithfulness": 5.0, "total": None}
    assert row["status"] == {"helpfulness": "timeout", "faithfulness": "ok"}
    assert row["usage"]["calls"] == 1 and row["usage"]["cost"] == 0.25
    assert row["detail"]["faithfulness"]["statements"][0]["support"] == 0.5
    ((_, _, read),) = store.read(tmp_path / "out.jsonl", None, WithScores)
    assert read.dimensions == row["detail"]


def test_a_store_from_before_there_were_versions_is_read(tmp_path):
    """As the judge workers wrote it: the same keys, without `version`."""
    answer = scored(**RUN)
    old = json.loads(answer.model_dump_json(exclude_defaults=True))
    assert "version" not in old
    (tmp_path / "answers-0.jsonl").write_text(json.dumps(old) + "\n")
    ((_, _, record),) = store.read(tmp_path / "answers-0.jsonl", None, ScoredAnswer)
    assert record == answer


def test_a_file_of_scores_from_before_there_were_versions_is_read(tmp_path):
    answer = scored(key="k", config="c")
    old = {
        "idx": "a",
        "scores": {"helpfulness": 7.5, "faithfulness": 5.0, "total": 7.5},
        "status": {"helpfulness": "ok", "faithfulness": "ok"},
        "usage": answer.usage.model_dump(),
        "seconds": 2.5,
        "detail": {name: d.model_dump(exclude_defaults=True) for name, d in answer.dimensions.items()},
        "key": "k",
        "config": "c",
    }
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps(old) + "\n")
    ((_, _, record),) = store.read(path, None, ScoredAnswer)
    assert record == answer.model_copy(update={"query": "", "answer": ""}), "neither was kept then"
    ((_, _, few),) = store.read(path, None, Few)
    assert few.total == 7.5


@pytest.mark.parametrize("kind", [ScoredAnswer, Few])
def test_a_newer_version_is_refused_in_one_sentence(tmp_path, kind):
    path = tmp_path / "answers-0.jsonl"
    path.write_text('{"version": 2, "scored": {"by": "another longreward"}}\n')
    with pytest.raises(InputError, match=r"answers-0.jsonl:1: the record has version 2, .* install the longreward"):
        list(store.read(path, [], kind))


def test_a_reader_of_three_fields_gets_what_the_full_reader_gets(tmp_path):
    path = tmp_path / "answers-0.jsonl"
    with store.Store(path) as part:
        for number, total in enumerate([7.5, None, 0.0]):
            part.append(scored(total, text="\ud800" if number else "", **RUN | {"rollout": f"a/{number}"}))
    with path.open("ab") as file:
        file.write(b'{"id": "a", "total": 1.0, "dimensions": {"help\n\n[1]\n')
    broken: tuple[list[str], list[str]] = ([], [])
    full, few = list(store.read(path, broken[0], ScoredAnswer)), list(store.read(path, broken[1], Few))
    assert [(n, at, r.rollout, r.total, r.truncated) for n, at, r in few] == [
        (n, at, r.rollout, r.total, r.truncated) for n, at, r in full
    ]
    assert len(full) == 3 and len(broken[0]) == len(broken[1]) == 2
    assert broken[0][0].startswith(f"{path}:4: not a scored answer (")


@pytest.mark.parametrize("line", ["{}", '{"total": 1}', '{"id": "a", "total": NaN, "dimensions": {}}', "[" * 100_000])
def test_what_is_not_a_scored_answer_says_why(tmp_path, line):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=r"x\.jsonl:1: not a scored answer \([^\n]+\)$"):
        list(store.read(tmp_path / "x.jsonl", None, ScoredAnswer))


def test_a_score_wins_over_none_and_then_the_later_record():
    records = [(None, 9.0), (3.0, 1.0), (2.0, 2.0), (None, 3.0)]
    assert max(records, key=lambda each: store.rank(*each)) == (2.0, 2.0)
