"""Answers of trainers that know a rendered prompt, a decoded answer and a label: the label tells document and question.

rl/prepare_data.py writes such labels, with both as spans of the prompt; a label may have them as text as well.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from longreward.errors import ConfigError, InputError
from longreward.files.nesting import from_json
from longreward.rows.criteria import criteria_of
from longreward.schema import Criterion, Sample
from longreward.server.protocols.protocol import Item, first_mistake
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


def labelled(number: int, prompt: str, answer: str, label: str, *, criteria: bool, rendered: bool = True) -> Item:
    """The answer with what its label, JSON text, says. `rendered`: whether the prompt is the text that spans are of.

    InputError names item `number` where the label cannot be read, or has no criteria where `criteria` says that it
    needs some.
    """
    try:
        given = _GivenLabel.model_validate_json(label)
    except ValidationError as error:
        raise InputError(f"item {number}: label: {first_mistake(error)}; give JSON with context and query") from None
    text = prompt if rendered else None
    # Interned, because thousands of siblings in flight share a document, and each request brings its own copy.
    sample = Sample(
        id=given.id,
        context=sys.intern(_text(number, "context", given.context, text)),
        query=_text(number, "query", given.query, text),
        answer=answer,
        criteria=wanted(f"item {number}: label: ", given.criteria) if criteria else (),
        thinking=begins_thought(prompt),
    )
    return Item(sample, hashed(prompt))


def wanted(where: str, criteria: Any) -> tuple[Criterion, ...]:
    """The criteria of an item. InputError, which begins with `where`, if they cannot be read or there are none."""
    try:
        return criteria_of({"criteria": criteria or None})
    except ValueError as error:
        raise InputError(f"{where}{error}") from None


def hashed(*texts: str) -> str:
    """What the siblings of an answer share, short."""
    digest = blake2b(digest_size=16)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _text(number: int, name: str, given: str | Span, prompt: str | None) -> str:
    if isinstance(given, str):
        return given
    if prompt is None:
        raise InputError(f"item {number}: label: {name} is a span, and the prompt is no text; give it as text")
    start, end = given
    if not 0 <= start <= end <= len(prompt):
        raise InputError(
            f"item {number}: label: {name} [{start}, {end}] is not a span of its prompt of {len(prompt)} characters"
        )
    return prompt[start:end]
