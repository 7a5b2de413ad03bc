"""The answer is what follows the prompt, whatever decoding did to the prompt and whatever the answer says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longreward.text.continuation import continuation

TAIL = "<|im_end|>\n<|im_start|>assistant\n"


def document(words: int, seed: int = 0) -> str:
    letters = random.Random(seed)
    return " ".join("".join(letters.choices("abcdefghij", k=6)) for _ in range(words))


PROMPT = f"<|im_start|>user\n{document(3000)}\n\nWhat?{TAIL}"


@given(st.text(), st.text())
def test_after_an_unchanged_prompt_comes_the_answer(prompt, answer):
    assert continuation(prompt + answer, prompt) == answer


@pytest.mark.parametrize("cut", [1, 17, 5000, len(PROMPT) - 40])
@pytest.mark.parametrize("answer", ["", "Forty.", f"Hidden.{TAIL}Shown.", f"{PROMPT}{PROMPT}"])
def test_a_prompt_cut_from_the_left_is_recognized(cut, answer):
    assert continuation(PROMPT[cut:] + answer, PROMPT) == answer


def decoded(text: str) -> str:
    """As a tokenizer may give it back: with a mark in front, other spaces, and some characters changed."""
    return "<s> " + text.replace("ab", "a b").replace("cd", "\ufffd")


@pytest.mark.parametrize("cut", [0, 6000])
@pytest.mark.parametrize("answer", ["Forty.", f"{TAIL}Shown.", f"H.{TAIL}Shown.", (f"Hidden.{TAIL}") * 300])
def test_a_repeated_end_of_the_prompt_hides_nothing_where_decoding_changed_it(cut, answer):
    assert continuation(decoded(PROMPT[cut : -len(TAIL)]) + TAIL + answer, PROMPT) == answer


def test_the_prompts_end_in_the_document_is_not_taken_for_it():
    prompt = f"<|im_start|>user\n{document(300)}{TAIL}{document(900, 1)}\n\nWhat?{TAIL}"
    assert continuation(decoded(prompt[: -len(TAIL)]) + TAIL + "Forty.", prompt) == "Forty."


SPACED = "<|im_end|> \n <|im_start|> assistant\n"


@pytest.mark.parametrize("cut", [0, 6000])
@pytest.mark.parametrize("answer", ["Forty.", "", f"{TAIL}Shown.", f"Hidden.{SPACED}Shown.", f"H. {TAIL} Shown."])
def test_spaces_around_special_tokens_are_no_trouble(cut, answer):
    spaced = f"{PROMPT[cut : -len(TAIL)]} {SPACED}"
    assert continuation(spaced + answer, PROMPT) == answer


def test_a_prompt_that_is_not_there_is_not_found():
    assert continuation("Something else.", PROMPT) is None


def test_a_prompt_of_one_letter_repeated_is_no_trouble():
    assert continuation("b" + "a" * 200_000, "a" * 200_000) is not None
