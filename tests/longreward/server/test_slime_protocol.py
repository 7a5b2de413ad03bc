"""slime's remote_rm: what is read of it, and that it is answered before slime gives up."""

from __future__ import annotations

import json

import pytest

from longreward.errors import InputError
from longreward.server.config import ServerConfig
from longreward.server.protocols.slime import Slime

CONTEXT = "Ada met Bob. It rained."
PROMPT = f"<u>{CONTEXT} Who met Bob?<a>"
SPANS = {"id": 7, "context": [3, 26], "query": [27, 39]}


def read(*bodies, **serve):
    protocol = Slime(ServerConfig.model_validate({"serve": serve}))
    return protocol.read(json.dumps(bodies[0] if len(bodies) == 1 else bodies).encode()).items


def body(**more):
    return {"prompt": PROMPT, "response": "Ada met Bob.<|im_end|>", "label": json.dumps(SPANS)} | more


@pytest.mark.parametrize("label", [SPANS, json.dumps(SPANS), {"context": CONTEXT, "query": "Who met Bob?", "id": "7"}])
def test_the_label_is_json_text_or_read_already(label):
    (item,) = read(body(label=label))
    sample = item.sample
    assert (sample.id, sample.context, sample.query, sample.answer) == ("7", CONTEXT, "Who met Bob?", "Ada met Bob.")


def test_answers_to_one_prompt_are_siblings():
    first, second, other = read(body(), body(response="Bob met Ada."), body(prompt=PROMPT + "<think>"))
    assert first.prompt == second.prompt != other.prompt
    assert other.sample.thinking and not first.sample.thinking


def test_a_prompt_of_messages_needs_a_label_with_texts():
    messages = [{"role": "user", "content": f"{CONTEXT} Who met Bob?"}]
    (item,) = read(body(prompt=messages, label={"context": CONTEXT, "query": "Who met Bob?"}))
    assert item.sample.context == CONTEXT
    with pytest.raises(
        InputError, match="item 0: label: context is a span, and the prompt is no text; give it as text"
    ):
        read(body(prompt=messages))


@pytest.mark.parametrize(
    ("bodies", "words"),
    [
        ([body(label=None)], "label"),
        ([body(response=None)], "response"),
        ([body(label="7 o'clock")], "item 0: label: .*give JSON with context and query"),
        ([body(), body(label="{}")], "item 1: label: context: Field required"),
        ([body(response="a" * 2000)], "item 0: answer has 2000 characters, more than serve.max_chars=1000"),
        ([body()] * 9, "9 items are more than serve.max_items=8"),
        ([[]], "there is no item"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(bodies, words):
    with pytest.raises(InputError, match=words):
        read(*bodies, max_items=8, max_chars=1000)


def test_its_deadline_ends_before_slime_gives_up():
    assert Slime(ServerConfig()).deadline_s < 120
    assert Slime(ServerConfig.model_validate({"serve": {"deadline_s": 20}})).deadline_s == 20
