"""OpenRLHF's remote reward protocol: its requests to samples, rewards to its replies. No network here.

`query` is prompt and answer as one text, decoded with special tokens; `prompts` the rendered prompt; `labels` a JSON
text that tells document and question: rl/prepare_data.py's, or one with both as text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from longreward import openrlhf_logs
from longreward.errors import ConfigError, InputError, Reason
from longreward.files.nesting import from_json
from longreward.openrlhf_logs import AnswerFigures
from longreward.rows.criteria import criteria_of
from longreward.schema import OK, DimensionScore, Reward, Sample
from longreward.text.continuation import continuation
from longreward.text.thoughts import begins_thought
from longreward.voids import Scores

END_MARKS = (
    *("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>", "<end_of_turn>", "<eos>"),
    *("<|end|>", "<|return|>", "<|user|>", "<|observation|>", "<｜end▁of▁sentence｜>", "<pad>", "<|pad|>"),
)
"""Taken off an answer's end where the policy's tokenizer is not known."""
Span = tuple[int, int]


_EXAMPLE: dict[str, Any] = {
    "query": ["Ada met Bob. It rained.\n\nWho met Bob?\n\nAda met Bob.</s>"],
    "prompts": ["Ada met Bob. It rained.\n\nWho met Bob?\n\n"],
    "labels": ['{"id": "1", "context": [0, 23], "query": [25, 37]}'],
}


class RewardRequest(BaseModel):
    """Answers to be scored: three lists of the same length, an item of each for an answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})
    query: list[str] = Field(min_length=1)
    """Prompt and answer, decoded with special tokens."""
    prompts: list[str] = Field(min_length=1)
    """The rendered prompt."""
    labels: list[str] = Field(min_length=1)
    """JSON with `context` and `query`, each as text or as [start, end] in characters of the prompt; `criteria`, where
    these have a weight, as in the rows of a data set; `id` optional."""


class RewardReply(BaseModel):
    """Each list has an item for each answer, in the order of the request."""

    rewards: list[float | None]
    """0..10; for a void one what stands for it, or null with `serve.void: "null"`."""
    scores: list[float | None]
    """rewards / 10."""
    extra_logs: dict[str, list[float]]
    """Always the same keys, all with the prefix `longreward/`."""
    status: list[str]
    """`ok`, or why it is void: `dimension: reason; ...`. Not read by OpenRLHF."""


class Refusal(BaseModel):
    """Why there is no reply."""

    detail: str


class _GivenLabel(BaseModel):
    id: str | int = ""
    context: str | Span
    query: str | Span
    criteria: Any = None


@dataclass(frozen=True, slots=True)
class Item:
    """An answer to be scored. Answers with the same `prompt`, a hash, are siblings."""

    sample: Sample
    prompt: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scored answer, and the scores to reply with: its own, or what stands for them."""

    reward: Reward
    scores: Scores


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


def read_request(body: bytes, max_items: int, max_chars: int) -> RewardRequest:
    """InputError where it is malformed or too large."""
    try:
        request = RewardRequest.model_validate_json(body)
    except ValidationError as error:
        raise InputError(_first(error)) from None
    lengths = {name: len(getattr(request, name)) for name in RewardRequest.model_fields}
    if len(set(lengths.values())) > 1:
        raise InputError(f"query, prompts and labels must be of the same length, got {lengths}")
    if len(request.query) > max_items:
        raise InputError(f"{len(request.query)} items are more than serve.max_items={max_items}; send fewer at once")
    for name in RewardRequest.model_fields:
        for number, text in enumerate(getattr(request, name)):
            if len(text) > max_chars:
                raise InputError(
                    f"item {number}: {name} has {len(text)} characters, more than serve.max_chars={max_chars}"
                )
    return request


def items_of(request: RewardRequest, special: SpecialTokens, *, criteria: bool = False) -> list[Item]:
    """The answers of a request in its order. InputError names the item that cannot be read, or that has no criteria
    where `criteria` says that it needs some."""
    rows = zip(request.query, request.prompts, request.labels, strict=True)
    return [_item(number, *row, special, criteria) for number, row in enumerate(rows)]


def reply_of(
    outcomes: Sequence[Outcome], dimensions: Sequence[str], judge: dict[str, float], void: Literal["neutral", "null"]
) -> RewardReply:
    """The reply to the request whose answers these are, in its order."""
    rewards = [None if void == "null" and o.reward.total is None else float(o.scores["total"]) for o in outcomes]
    names = ["total", *dimensions]
    logs = [openrlhf_logs.logs(AnswerFigures.of(o.reward, judge), o.scores, names) for o in outcomes]
    return RewardReply(
        rewards=rewards,
        scores=[None if reward is None else reward / 10 for reward in rewards],
        extra_logs={name: [log[name] for log in logs] for name in logs[0]},
        status=["; ".join(f"{name}: {why}" for name, why in o.reward.void_reasons.items()) or OK for o in outcomes],
    )


def void_reward(sample: Sample, dimensions: Sequence[str], reason: Reason, detail: str, seconds: float = 0.0) -> Reward:
    """The reward of an answer whose scoring did not come to an end."""
    void = DimensionScore(score=None, status=str(reason), detail=detail)
    return Reward(id=sample.id, total=None, dimensions=dict.fromkeys(dimensions, void), seconds=seconds)


def _item(number: int, query: str, prompt: str, label_text: str, special: SpecialTokens, criteria: bool) -> Item:
    try:
        label = _GivenLabel.model_validate_json(label_text)
    except ValidationError as error:
        raise InputError(f"item {number}: labels: {_first(error)}; give JSON with context and query") from None
    answer = continuation(query, prompt)
    if answer is None:
        raise InputError(
            f"item {number}: the end of its prompt is not found in its query, which must be prompt and answer "
            "as one text"
        )
    context = _text(number, "context", label.context, prompt)
    question = _text(number, "query", label.query, prompt)
    try:
        wanted = criteria_of({"criteria": label.criteria or None}) if criteria else ()
    except ValueError as error:
        raise InputError(f"item {number}: labels: {error}") from None
    # Interned, because thousands of siblings in flight share a document, and each request brings its own copy.
    sample = Sample(
        id=label.id,
        context=sys.intern(context),
        query=question,
        answer=special.removed_from(answer),
        criteria=wanted,
        thinking=begins_thought(prompt),
    )
    return Item(sample, blake2b(prompt.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest())


def _text(number: int, name: str, given: str | Span, prompt: str) -> str:
    if isinstance(given, str):
        return given
    start, end = given
    if not 0 <= start <= end <= len(prompt):
        raise InputError(
            f"item {number}: labels: {name} [{start}, {end}] is not a span of its prompt of {len(prompt)} characters"
        )
    return prompt[start:end]


def _first(error: ValidationError) -> str:
    """The first mistake in words, without the input, which may be long."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
