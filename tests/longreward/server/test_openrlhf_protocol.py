"""Requests to samples: what is read, and what is refused in words."""

from __future__ import annotations

import json

import pytest

from longreward.errors import ConfigError, InputError
from longreward.server.config import ServerConfig
from longreward.server.protocols.labels import SpecialTokens
from longreward.server.protocols.openrlhf import OpenRLHF


def read(query: str, prompt: str, label: object, tokenizer=None, *, criteria: bool = False):
    text = label if isinstance(label, str) else json.dumps(label)
    body = json.dumps({"query": [query], "prompts": [prompt], "labels": [text]}).encode()
    weights = {"weights": {"criteria": 1}} if criteria else {}
    config = ServerConfig.model_validate(
        {"serve": {"tokenizer": tokenizer, "max_items": 8, "max_chars": 1000}} | weights
    )
    (item,) = OpenRLHF(config).read(body).items
    return item.sample


def test_spans_in_the_label_point_into_the_prompt():
    sample = read("<u>Doc. Q?<a>Yes.</s>", "<u>Doc. Q?<a>", {"id": 7, "context": [3, 7], "query": [8, 10]})
    assert (sample.id, sample.context, sample.query, sample.answer) == ("7", "Doc.", "Q?", "Yes.")


@pytest.mark.parametrize(("end", "thinking"), [("<think>\n", True), ("<think>\n\n</think>\n\n", False), ("", False)])
def test_the_prompts_template_may_begin_the_answers_thoughts(end, thinking):
    prompt = f"<u>Doc. Q?<a>{end}"
    sample = read(f"{prompt}Yes.</s>", prompt, {"context": [3, 7], "query": [8, 10]})
    assert (sample.answer, sample.thinking) == ("Yes.", thinking)


def test_other_trainers_give_document_and_question_as_text():
    sample = read("prompt: yes", "prompt: ", {"context": "The document.", "query": "A question?"})
    assert (sample.id, sample.context, sample.query, sample.answer) == ("", "The document.", "A question?", "yes")


@pytest.mark.parametrize(
    "label", ["", "null", "[]", "7", "{", "[" * 900, '{"context": "c"}', '{"query": 1, "context": 2}']
)
def test_a_label_that_cannot_be_read_is_refused_with_its_place(label):
    with pytest.raises(InputError, match=r"item 0: label: .*give JSON with context and query"):
        read("pa", "p", label)


@pytest.mark.parametrize("span", [[-1, 2], [2, 1], [0, 99]])
def test_a_span_outside_the_prompt_is_refused(span):
    with pytest.raises(InputError, match=r"item 0: label: context \[.*\] is not a span of its prompt of 6 characters"):
        read("promptyes", "prompt", {"context": span, "query": "q"})


def test_an_answer_without_its_prompt_is_refused():
    with pytest.raises(InputError, match="item 0: the end of its prompt is not found"):
        read("something else", "prompt", {"context": "c", "query": "q"})


def test_without_a_tokenizer_only_end_marks_at_the_end_go():
    strip = SpecialTokens().removed_from
    assert strip("Yes.<|im_end|>\n<|endoftext|><|endoftext|>") == "Yes."
    assert strip("Say <|im_end|> aloud.") == "Say <|im_end|> aloud."
    assert strip("Yes.\n") == "Yes.\n"


def test_with_the_policys_tokenizer_its_special_tokens_go_wherever_they_are(tmp_path):
    tokens = [{"content": "<x>", "special": True}, {"content": "<think>", "special": False}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}))
    assert SpecialTokens(tmp_path).removed_from("<think>A<x> b<x></s>") == "<think>A b</s>"


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_a_folder_without_a_tokenizer_is_told_at_once(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"serve\.tokenizer: .*tokenizer\.json"):
        SpecialTokens(tmp_path)


def test_a_label_brings_the_criteria_where_the_reward_asks_for_them():
    label = {"context": "c", "query": "q", "criteria": [{"text": "Names it.", "weight": 2}, "Is short."]}
    sample = read("pa", "p", label, criteria=True)
    assert [(one.text, one.weight) for one in sample.criteria] == [("Names it.", 2), ("Is short.", 1)]
    assert read("pa", "p", label | {"criteria": "whatever"}).criteria == ()


@pytest.mark.parametrize(
    ("criteria", "why"),
    [(None, "there are no criteria"), ([], "there are no criteria"), ([""], "criterion 1: text is ''")],
)
def test_a_label_without_usable_criteria_is_refused_with_its_place(criteria, why):
    with pytest.raises(InputError, match=f"item 0: .*{why}"):
        read("pa", "p", {"context": "c", "query": "q", "criteria": criteria}, criteria=True)
