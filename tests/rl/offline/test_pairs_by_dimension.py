"""`pair.by: per_dimension`: which answers become a pair where each dimension counts by its own spread."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreward.errors import ConfigError
from longreward.files.jsonlines import Appender
from rl.data.prompts import Label
from rl.offline.pairs import PairSection, make_pairs

QUERY = "What did Mara do?"
WIDE = {"0": (9.0, 5.1), "1": (5.0, 5.6), "2": (4.0, 5.4), "3": (8.0, 5.5), "4": (5.0, 5.0)}
"""faithfulness, and completeness with a tenth of its spread."""
WEIGHTS = {"faithfulness": 1.0, "completeness": 1.0}


def record(rollout: str, faithfulness: float | None, completeness: float | None, *, shut: bool = False) -> dict:
    scores = {"faithfulness": faithfulness, "completeness": completeness}
    void = None in scores.values()
    total = None if void else 0.0 if shut else sum(scores.values()) / 2  # type: ignore[arg-type]
    about = {"id": "a", "split": "train", "rollout": rollout, "truncated": False, "tokens": 10, "time": 1.8e9}
    dimensions = {name: {"score": score} for name, score in scores.items() if score is not None}
    return about | {"query": QUERY, "answer": f"Answer {rollout} .", "total": total, "dimensions": dimensions}


def pairs(folder, records, *, weights=WEIGHTS, **config):
    (folder / "store").mkdir(exist_ok=True)
    (folder / "store" / "answers-0-1.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    prompts, out = folder / "prompts.jsonl", folder / "pairs.jsonl"
    prompts.unlink(missing_ok=True)
    with Appender(prompts) as file:
        label = Label("a", "train", (0, 9), (10, 10 + len(QUERY)))
        file.append({"input": f"Document. {QUERY}\n", "label": label.to_json()})
    section = PairSection(**{"by": "per_dimension", "min_answers": 2} | config)
    report = make_pairs([folder / "store"], prompts, out, section, eos="<|end|>", fits=None, dimension_weights=weights)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return report, [(row["chosen"].split()[1], row["rejected"].split()[1]) for row in rows], rows


def test_a_dimension_of_a_small_spread_counts_as_much(tmp_path):
    records = [record(name, *scores) for name, scores in WIDE.items()]
    assert pairs(tmp_path, records, by="total")[1] == [("0", "2")], "completeness drowns"
    _, names, (row,) = pairs(tmp_path, records)
    assert names == [("3", "4")]
    assert (row["chosen_score"], row["rejected_score"]) == (6.75, 5.0), "the scores are the totals"


def test_weights_are_those_of_the_section_before_those_of_the_reward(tmp_path):
    records = [record(name, *scores) for name, scores in WIDE.items()]
    assert pairs(tmp_path, records, weights={"completeness": 1.0})[1] == [("1", "4")]
    assert pairs(tmp_path, records, weights={"completeness": 1.0, "faithfulness": 9.0})[1] == [("0", "2")]
    assert pairs(tmp_path, records, **{"weights": WEIGHTS})[1] == [("3", "4")]
    with pytest.raises(ConfigError, match=r"pair\.by is per_dimension .*set pair\.weights"):
        pairs(tmp_path, records, weights={})
    with pytest.raises(ConfigError, match=r"no answer .* was scored for beauty"):
        pairs(tmp_path, records, weights={"beauty": 1.0})


def test_a_void_answer_and_one_below_a_gate(tmp_path):
    valid = [record(name, *scores) for name, scores in WIDE.items()]
    assert pairs(tmp_path, [*valid, record("5", 10, None)])[1] == [("3", "4")]
    ((_, rejected),) = pairs(tmp_path, [*valid, record("5", 10, 10, shut=True)])[1]
    assert rejected == "5", "it has 0 in each"


def test_the_margin_is_in_deviations_and_equal_answers_are_no_pair(tmp_path):
    equal = [record(str(place), 7.3, 6.35) for place in range(4)]
    assert pairs(tmp_path, equal)[0].left_out == {"too_close": 1}
    two = [record("0", 5, 5), record("1", 6, 5.1)]  # each dimension: 2 / sqrt(2) deviations apart
    assert pairs(tmp_path, two, min_margin=1.41)[1] == [("1", "0")]
    assert pairs(tmp_path, two, min_margin=1.42)[0].left_out == {"too_close": 1}


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=2, max_size=5))
def test_their_order_makes_no_difference(tmp_path_factory, scores):
    folder = tmp_path_factory.mktemp("pairs")
    records = [record(str(place), a / 10, b / 7 % 10) for place, (a, b) in enumerate(scores)]
    found = {str(pairs(folder, order)[1]) for order in itertools.islice(itertools.permutations(records), 12)}
    assert len(found) == 1


@given(st.lists(st.floats(0, 10), min_size=2, max_size=6, unique=True))
def test_with_one_dimension_it_is_the_total(tmp_path_factory, scores):
    folder = tmp_path_factory.mktemp("pairs")
    records = [record(str(place), round(score, 3), 5.0) for place, score in enumerate(scores)]
    assert pairs(folder, records)[1] == pairs(folder, records, by="total")[1]


def test_what_copied_words_cost_the_total_they_cost_each_dimension(tmp_path):
    records = [record(name, *scores) for name, scores in WIDE.items()]
    records[3] |= {"total": records[3]["total"] / 2, "kept": 0.5}
    assert pairs(tmp_path, records)[1] != [("3", "4")]
    assert pairs(tmp_path, records)[1] == pairs(tmp_path, [*records[:3], record("3", 4.0, 2.75), records[4]])[1]
    weighed = pairs(tmp_path, records, by="total", **{"weights": WEIGHTS})[2]
    assert {row["rejected_score"] for row in weighed} == {3.375}
