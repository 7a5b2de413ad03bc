"""Answers of trainers that know a rendered prompt, a decoded answer and a label: the label tells document and question.

rl/prepare_data.py writes such labels, with both as spans of the prompt; a label may have them as text as well.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from longreward.errors import ConfigError, InputError
from longreward.files.nesting import from_json
from longreward.server.config import ServerConfig
from longreward.server.protocols.protocol import Item, Protocol, first_mistake
from longreward.server.protocols.samples import Question, item
from longreward.text.thoughts import begins_thought

END_MARKS = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>", "<end_of_turn>", "<eos>"),
    *("<|end|>", "<|return|>", "<|user|>", "<|observation|>", "<｜end▁of▁sentence｜>", "<pad>", "<|pad|>"),
)
"""Taken off an answer's end where the policy's tokenizer is not known."""
Span = tuple[int, int]


class _GivenLabel(BaseModel):
    id: str | int = ""
    context: str | Span
    query: str | Span
    criteria: Any = None


class SpecialTokens:
    """What decoding with special tokens leaves in an answer's text and decoding without them does not."""

    def __init__(self, tokenizer: Path | None = None) -> None:
        """`tokenizer`: the policy's folder. ConfigError where it has no tokenizer.json to read."""
        self._tokens: list[str] | None = None
        if tokenizer is None:
            return
        path = tokenizer / "tokenizer.json"
        try:
            added = from_json(path.read_text(encoding="utf-8"))["added_tokens"]
            tokens = [token["content"] for token in added if token["special"] and token["content"]]
        except FileNotFoundError:
            raise ConfigError(f"serve.tokenizer: {path} does not exist; give the policy's folder") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"serve.tokenizer: {path} is not the file of a fast tokenizer: {error!r}") from None
        self._tokens = sorted(tokens, key=len, reverse=True)

    def removed_from(self, answer: str) -> str:
        """The answer as decoding without special tokens gives it; without a tokenizer less the end marks at its end."""
        if self._tokens is not None:
            for token in self._tokens:
                answer = answer.replace(token, "")
            return answer
        # By places: a text with thousands of marks at its end would be copied as often.
        end = len(answer)
        while True:
            bare = end
            while bare and answer[bare - 1].isspace():
                bare -= 1
            mark = next((m for m in END_MARKS if answer.endswith(m, 0, bare)), None)
            if mark is None:
                return answer[:end]
            end = bare - len(mark)


@cache
def _special_tokens(tokenizer: Path | None) -> SpecialTokens:
    """A tokenizer.json is read once for all protocols."""
    return SpecialTokens(tokenizer)


class LabelledProtocol(Protocol):
    """One whose answers are decoded with special tokens, and whose labels tell document and question."""

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config)
        self._special = _special_tokens(config.serve.tokenizer)

    def labelled(self, where: str, prompt: str, answer: str, label: str, *, rendered: bool = True) -> Item:
        """The answer with what its label, JSON text, says. `rendered`: whether the prompt is the text of the spans.

        InputError, which begins with `where`, if the label cannot be read, and as `samples.item`.
        """
        try:
            given = _GivenLabel.model_validate_json(label)
        except ValidationError as error:
            raise InputError(f"{where}label: {first_mistake(error)}; give JSON with context and query") from None
        source = prompt if rendered else None
        context, query = (_text(where, name, getattr(given, name), source) for name in ("context", "query"))
        question = Question(id=given.id, context=context, query=query, criteria=given.criteria)
        answer = self._special.removed_from(answer)
        return item(self, where, question, answer, prompt, thinking=begins_thought(prompt))


def _text(where: str, name: str, given: str | Span, prompt: str | None) -> str:
    if isinstance(given, str):
        return given
    if prompt is None:
        raise InputError(f"{where}label: {name} is a span, and the prompt is no text; give it as text")
    start, end = given
    if not 0 <= start <= end <= len(prompt):
        raise InputError(
            f"{where}label: {name} [{start}, {end}] is not a span of its prompt of {len(prompt)} characters"
        )
    return prompt[start:end]
