"""The criteria of a row, in the forms in which data sets and rubric files have them."""

from __future__ import annotations

import json
import math

import pyarrow
import pytest
from pyarrow import parquet

from longreward import rows
from longreward.rows.criteria import criteria_of

A, B = {"text": "Names the buyer.", "weight": 2.0}, {"text": "Is rude.", "weight": -1.0}


@pytest.mark.parametrize(
    "row",
    [
        {"criteria": [A, B]},
        {"criteria": [{"name": "buyer", "choices": ["no", "yes"], **A}, B]},  # verifiers
        {"criteria": {"criteria": [A, B]}},
        {"rubric": [{"weight": 2, "requirement": "Names the buyer."}, {"weight": -1, "requirement": "Is rude."}]},
        {
            "rubric": {
                "sections": [
                    {"title": "What", "criteria": [{"weight": 2, "requirement": "Names the buyer."}]},
                    {"title": "How", "criteria": [{"weight": -1, "requirement": "Is rude."}]},
                ]
            }
        },
        # RaR-Medicine, HealthBench
        {"rubric": [{"title": "", "description": A["text"], "weight": 2}, {"description": "Is rude.", "weight": -1}]},
        {"rubrics": [{"criterion": A["text"], "points": 2, "tags": []}, {"criterion": "Is rude.", "points": -1}]},
        {"criteria": None, "rubrics": [A | {"points": None}, B]},
    ],
)  # fmt: skip
def test_the_forms_that_there_are(row):
    assert [criterion.model_dump() for criterion in criteria_of(row)] == [A, B]


def test_text_alone_has_the_weight_one():
    found = criteria_of({"criteria": ["Names the buyer.", {"text": " Is short. "}]})
    assert [(one.text, one.weight) for one in found] == [("Names the buyer.", 1), ("Is short.", 1)]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({}, 'there are no criteria; add the field criteria, and write each as {"text"'),
        ({"criteria": []}, "criteria: there is no criterion; add one"),
        ({"criteria": "Names the buyer."}, "criteria is str, not a list; write"),
        ({"criteria": ["Fine.", 7]}, "criteria: criterion 2 is int; write"),
        ({"criteria": [{"weight": 1}]}, "criterion 1 has no text; write"),
        ({"rubric": ["Fine.", {"text": " "}]}, "rubric: criterion 2: text is ' ': it is empty; write what"),
        ({"criteria": [{"text": 5}]}, "criterion 1: text is 5"),
        ({"criteria": [{"text": "A.", "weight": 0}]}, "weight is 0: a criterion of weight 0 counts nothing; leave"),
        ({"criteria": [{"text": "A.", "weight": math.inf}]}, "weight is inf: Input should be a finite number"),
        ({"criteria": [{"text": "A.", "weight": "2"}]}, "weight is '2'; give it a number"),
        ({"criteria": [{"text": "A.", "weight": True}]}, "weight is True; give it a number"),
        ({"criteria": [{"text": "A.", "weight": -1}]}, "no criterion has a positive weight"),
        ({"criteria": [{"text": "A.", "choices": ["bad", "fair", "good"]}]}, "choices of its own"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(row, why):
    with pytest.raises(ValueError) as error:
        criteria_of(row)
    assert why in str(error.value)


def test_a_table_fills_up_the_fields_that_a_criterion_lacks(tmp_path):
    mixed = [{"criteria": [A, {"text": "Is short."}]}, {"criteria": [{"requirement": "Is long."}]}]
    parquet.write_table(pyarrow.Table.from_pylist(json.loads(json.dumps(mixed))), tmp_path / "in")
    found = [criteria_of(row) for _, row in rows.read(tmp_path / "in")]
    assert [[(one.text, one.weight) for one in each] for each in found] == [
        [("Names the buyer.", 2), ("Is short.", 1)],
        [("Is long.", 1)],
    ]
