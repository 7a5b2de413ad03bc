"""What the policy's tokenizer makes of a prompt, as far as its folder tells: whether it can, and what it adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from longreward.errors import ConfigError
from longreward.preflight.finding import Finding
from rl.data import chat_template, prompt_files
from rl.trainer import model_folder
from rl.trainer.openrlhf_flags import Flags


def findings(flags: Flags, *, trust_remote_code: bool = False) -> Iterator[Finding]:
    """A problem where no prompt can be made with it, or notes. A hub's name is not looked up. Code
    that comes with the model runs only with `trust_remote_code`."""
    if not model_folder.looks_local(flags.policy):
        return
    yield from of_loaded(lambda: prompt_files.load_tokenizer(flags.policy, trust_remote_code=trust_remote_code))


def of_loaded(load: Callable[[], Any]) -> Iterator[Finding]:
    """The same of the tokenizer that `load` gives."""
    try:
        yield from notes(load())
    except ConfigError as error:
        yield Finding.problem("data", str(error))


def notes(tokenizer: Any) -> Iterator[Finding]:
    """What a user may not expect of it. ConfigError where no prompt can be made with it."""
    name = tokenizer.name_or_path
    if added := chat_template.added_words(tokenizer):
        sentence = f"the chat template of {name} puts words of its own before each prompt: {added[:200]!r}"
        yield Finding.note("data", sentence, "change chat_template in its tokenizer_config.json if they should not")
    if not tokenizer.is_fast:
        sentence = f"the tokenizer of {name} is a slow one: a prompt over the budget cannot be cut"
        yield Finding.note("data", sentence, "save it with a tokenizer.json")
