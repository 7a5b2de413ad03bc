"""Replies and HTTP responses made of pieces whose reading is known: only what a person would read is a value.

`python benchmarks/hostile_replies.py` tries 100,000 of each.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import islice

import pytest
from hostile.asking import GOOD, outcome, outcomes
from hostile.deviations import ResponseMaker
from hostile.pieces import NOISE, UNKNOWN
from hostile.replies import Maker

from longreward.errors import VerdictError
from longreward.judge import verdicts

PARSERS = {
    "rating": verdicts.parse_rating,
    "grade": lambda text: verdicts.parse_grade(text, 3),
    "preference": verdicts.parse_preference,
    "support": verdicts.parse_support,
    "supports": lambda text: verdicts.parse_supports(text, 2),
    "statements": verdicts.parse_statements,
    "extraction": verdicts.parse_extraction,
}


@pytest.mark.parametrize("seed", range(4))
def test_only_what_a_person_would_read_is_a_value(seed: int) -> None:
    found = Counter()
    for reply in islice(Maker(seed).replies(), 1500):
        result = outcome(reply)
        found[result] += 1
        assert result in GOOD, (result, reply.kind, reply.value, reply.text)
    assert found["right"] > 400 and found["asked again"] > 800


@pytest.mark.parametrize("name", PARSERS)
def test_no_reply_makes_a_parser_raise_anything_else(name: str) -> None:
    maker = Maker(5)
    pieces = [*NOISE, *UNKNOWN, *"0123456789", "<think>", "</think>", "<statement>", "</statement>", "\\boxed{", "1. "]
    pieces += ["No statements", "[[Fully supported]]", "assistantfinal", "<|channel|>", "</>", "<|>", "[[]]", "\ud800"]
    for _ in range(2000):
        text = "".join(maker.random.choices(pieces, k=maker.random.randint(0, 12)))
        try:
            PARSERS[name](text)
        except VerdictError as error:
            assert error.text == text


def test_no_response_makes_the_client_read_what_nobody_would() -> None:
    found = Counter()
    for result, made in asyncio.run(outcomes(islice(ResponseMaker(1).responses(), 1000))):
        found[result] += 1
        assert result in GOOD, (result, made.kind, made.certain, made.value, made.wire)
    assert found["right"] > 200 and found["asked again"] > 500
