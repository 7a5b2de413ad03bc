"""What a tokenizer's chat template makes of a conversation; what is wrong with it, in one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from longreward.errors import ConfigError
from longreward.redaction import redacted

_MARK = "\ue000longreward\ue000"  # stands for the user's turn while the template is rendered; private-use characters
_ACTION = "give it one that prints a single user turn once, as it is (chat_template in its tokenizer_config.json)"


def rendered(tokenizer: Any, messages: Sequence[dict[str, str]]) -> str:
    """The conversation as a prompt for the assistant's next turn. ValueError with the template's own words where it
    takes no such conversation."""
    try:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates are programs of other people
        raise ValueError(f"the chat template refuses it: {words_of(error)}") from None


def around_turn(tokenizer: Any) -> tuple[str, str]:
    """What the template prints before the user's only turn, and behind it. ConfigError where it cannot be used."""
    name = tokenizer.name_or_path
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(f"the tokenizer of {name} has no chat template; use an instruction model")
    try:
        before, *behind = rendered(tokenizer, [{"role": "user", "content": _MARK}]).split(_MARK)
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


def words_of(error: BaseException) -> str:
    """What an error of other people's code says, in one short line."""
    return " ".join(redacted(str(error)).split())[:300] or type(error).__name__
