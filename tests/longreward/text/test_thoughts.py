"""What a policy thinks aloud is told apart from its answer."""

from __future__ import annotations

import pytest

from longreward.text.thoughts import begins_thought, without_thoughts

ANSWER = "Mara sold copper."


@pytest.mark.parametrize(
    "text",
    [
        f"<think>Karl sold it.</think>{ANSWER}",
        f"Karl sold it.</think>\n\n{ANSWER}",
        f"\n<think>\nKarl.\n</think>\n\n{ANSWER}\n",
        f"<think></think>{ANSWER}",
        f"<think>Karl <think>or Otto</think> sold it.</think>{ANSWER}",
        f"<think>The tag <thought> is known.</think>{ANSWER}",
        f"<think>Karl.</think>{ANSWER}<think>Was it so?</think>",
        f"<think>Karl.</think>{ANSWER}\n<think>Was it",
        f"[THINK]Karl.[/THINK]{ANSWER}",
        f"<seed:think>Karl.<seed:cot_budget_reflect>9</seed:cot_budget_reflect>Otto.</seed:think>{ANSWER}",
        f"<|channel|>analysis<|message|>Karl.<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
        f"analysisKarl or Otto?assistantfinal{ANSWER}",
        f"<|START_THINKING|>Karl.<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
        f"<|begin_of_thought|>Karl.<|end_of_thought|>\n<|begin_of_solution|>{ANSWER}<|end_of_solution|>",
        f"<|channel>thought\nKarl.<channel|>{ANSWER}",
        f"<thought>Karl.</thought>{ANSWER}",
    ],
)
def test_thoughts_are_taken_out(text: str) -> None:
    assert without_thoughts(text) == ANSWER


def test_what_is_said_between_thoughts_is_the_answer() -> None:
    text = "<think>a</think>Mara sold copper.<think>b</think> Otto paid."
    assert without_thoughts(text) == "Mara sold copper. Otto paid."


@pytest.mark.parametrize(
    "text",
    ["<think>Karl sold it.", "\n <think>\nKarl.\n\nMara.", "[THINK]Karl.", "<|channel|>analysis<|message|>Karl."],
)
def test_an_answer_that_never_stops_thinking_says_nothing(text: str) -> None:
    assert without_thoughts(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        f"  {ANSWER}\n",
        "",
        "R1 writes `<think>` before and `</think>` after its thoughts.",
        "The token <think> begins its thoughts, which are long.",
        "List<int> a --> b, [SIC] x < y > z, <b>bold</b>, <answer>yes</answer>, [RESPONSE] none",
        "Analysis: Mara sold copper. I think so; on reflection, the final answer is yes.",
    ],
)
def test_what_is_no_thought_stays_to_the_letter(text: str) -> None:
    assert without_thoughts(text) == text


def test_a_thought_that_the_prompt_began_has_to_be_closed() -> None:
    assert without_thoughts(f"Karl.</think>{ANSWER}", thinking=True) == ANSWER
    assert without_thoughts(f"<think>Karl.</think>{ANSWER}", thinking=True) == ANSWER
    assert without_thoughts("Karl sold it. Karl was", thinking=True) == ""


@pytest.mark.parametrize(
    ("prompt", "begins"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|Assistant|><think>", True),
        ("[INST]What?[/INST][THINK]", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
        ("What does <think> mean?", False),
        ("", False),
    ],
)
def test_the_prompts_end_tells_whether_the_answer_begins_in_thought(prompt: str, begins: bool) -> None:
    assert begins_thought(prompt) is begins


def test_hostile_answers_are_read_in_linear_time() -> None:
    for text in ("<think>" * 30_000, "</think>" * 30_000, "<a " * 50_000, "[A" * 50_000):
        without_thoughts(text)
