"""What a tokenizer's chat template makes of a conversation; what is wrong with it, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from longreward.errors import ConfigError
from longreward.redaction import redacted

Messages = list[dict[str, str]]
"""Turns of a chat, each with role and content."""
_MARK = "\ue000longreward\ue000"  # stands for a turn while the template is rendered; private-use characters
_ACTION = "give it one that prints a single user turn once, as it is (chat_template in its tokenizer_config.json)"


def messages(value: Any, name: str) -> Messages:
    """The turns in the field `name` of a row. ValueError where it holds something else."""
    if not isinstance(value, list) or not value or not all(isinstance(message, dict) for message in value):
        raise ValueError(f"{name} must be text or chat messages, found {type(value).__name__}")
    if not all(isinstance(message.get(key), str) for message in value for key in ("role", "content")):
        raise ValueError(f"each chat message of {name} must have role and content as text")
    # Others may hold what only their own service knows, an id say.
    return [{"role": message["role"], "content": message["content"]} for message in value]


def rendered(tokenizer: Any, messages: Sequence[dict[str, str]], *, prompt: bool = True) -> str:
    """The conversation, as a prompt for the assistant's next turn if `prompt`. ValueError with the template's own words
    where it takes no such conversation."""
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt))
    except Exception as error:  # templates are programs of other people
        raise ValueError(f"the chat template refuses it: {words_of(error)}") from None


def around_answers(tokenizer: Any) -> Callable[[Messages], list[tuple[str, str]]]:
    """What takes a conversation that ends with the assistant apart: for each of the assistant's turns what stands
    before it, and the turn itself with white space and end mark, as a policy has to write it. Together they are what
    the template prints; behind the last turn stands the end of text.

    ValueError where the template prints no such conversation; from what is returned, too.
    """
    with_prompt, without = (rendered(tokenizer, [_turn("user", "x")], prompt=prompt) for prompt in (True, False))
    if not with_prompt.startswith(without):
        raise ValueError("the chat template prints a conversation differently where an answer is asked for")
    asking = with_prompt[len(without) :]

    def apart(turns: Messages) -> list[tuple[str, str]]:
        answers = [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
        marked = [turn | {"content": f"{_MARK}{n}{_MARK}"} if n in answers else turn for n, turn in enumerate(turns)]
        parts = re.split(f"{_MARK}(\\d+){_MARK}", rendered(tokenizer, marked, prompt=False))
        if [int(number) for number in parts[1::2]] != answers:
            raise ValueError("the chat template leaves a turn of the assistant out, or prints it twice")
        found, between = [], parts[::2]
        for place, number in enumerate(answers):
            head, stands, blank = between[place].rpartition(asking) if asking else (between[place], "", "")
            if asking and not stands:
                raise ValueError(f"the chat template does not print {asking!r}, which asks for an answer, before each")
            end = end_mark(tokenizer, between[place + 1])
            between[place + 1] = between[place + 1][len(end) :]
            # Words there, empty thoughts say, are none of the answer.
            lead = blank if blank.isspace() else ""
            last = place == len(answers) - 1
            text = turns[number]["content"].strip()
            found.append((head + stands, lead + text + (tokenizer.eos_token if last else end)))
        return found

    return apart


def answer_lead(tokenizer: Any) -> str:
    """The white space that the template prints behind what asks for an answer, and that a policy has to write before
    its own; mostly none, a line break for GLM-4. Empty where the template prints no answer."""
    try:
        ((_, answer),) = around_answers(tokenizer)([_turn("user", "x"), _turn("assistant", _MARK)])
    except ValueError:
        return ""
    return answer.partition(_MARK)[0]


def end_mark(tokenizer: Any, text: str) -> str:
    """The token that ends a turn of the assistant, where the template prints one at the beginning of `text`, with white
    space before it; else nothing."""
    bare = text.lstrip()
    marks = sorted({tokenizer.eos_token, *tokenizer.get_added_vocab()}, key=len, reverse=True)
    mark = next((mark for mark in marks if bare.startswith(mark)), "")
    return text[: len(text) - len(bare)] + mark if mark else ""


def around_turn(tokenizer: Any) -> tuple[str, str]:
    """What the template prints before the user's only turn, and behind it. ConfigError where it cannot be used."""
    name = tokenizer.name_or_path
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            f"the tokenizer of {name} has no chat template; use an instruction model, or train a start from it with "
            "rl/sft.py and data.chat_template"
        )
    try:
        before, *behind = rendered(tokenizer, [_turn("user", _MARK)]).split(_MARK)
    except ValueError as error:
        raise ConfigError(f"the tokenizer of {name} makes no prompt of one user turn ({error}); {_ACTION}") from None
    if len(behind) != 1:
        what = "prints the user's turn more than once" if behind else "drops or changes the user's turn"
        raise ConfigError(f"the chat template of {name} {what}; {_ACTION}")
    return before, behind[0]


def added_words(tokenizer: Any) -> str:
    """The words of its own that the template puts before the user's turn, a system prompt say; empty where there are
    none but the names of roles. ConfigError as for `around_turn`."""
    before, _ = around_turn(tokenizer)
    for special in sorted(tokenizer.get_added_vocab(), key=len, reverse=True):
        before = before.replace(special, " ")
    without_marks = re.sub(r"<[^<>\s]*>|\[/?\w+\]|#+", " ", before)
    found = " ".join(without_marks.split())
    roles = {"system", "user", "human", "instruction", "assistant"}
    return "" if all(word.strip(":").lower() in roles for word in found.split()) else found


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def words_of(error: BaseException) -> str:
    """What an error of other people's code says, in one short line."""
    return " ".join(redacted(str(error)).split())[:300] or type(error).__name__
