"""What a protocol is: a trainer's requests to answers to be scored, and scored answers to its replies. No network here.

A protocol is a class with a row in `longreward/server/protocols/__init__.py`; tests/adapters/ has the behaviours that
each of them must show.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from longreward.errors import InputError
from longreward.schema import OK, Reward, Sample
from longreward.server.config import ServerConfig
from longreward.voids import Scores

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Item:
    """An answer to be scored. Answers with the same `prompt`, a hash, are siblings."""

    sample: Sample
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scored answer."""

    reward: Reward
    scores: Scores | None
    """Those to reply with, 0..10: its own, or what stands for them. None: it is void, and the protocol can say so."""

    @property
    def numbers(self) -> Scores:
        """The scores to reply with where the protocol needs numbers."""
        assert self.scores is not None, "a neutral protocol has what stands for a void one"
        return self.scores

    @property
    def number(self) -> float:
        """The reward to reply with, 0..10, where the protocol needs a number."""
        return float(self.numbers["total"])

    @property
    def status(self) -> str:
        """`ok`, or why it is void."""
        return "; ".join(f"{name}: {why}" for name, why in self.reward.void_reasons.items()) or OK


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read."""

    items: Sequence[Item]
    body: Any = None
    """What the reply needs of the request beside the scores."""
    stream: bool = False
    """Whether each result is sent as it comes."""


@dataclass(frozen=True, slots=True)
class SideRoute:
    """What a trainer's tools ask beside rewards. It is answered without the judge, and before that is ready."""

    summary: str
    answer: Callable[[bytes], Any]
    """The reply to a body, of `reply_type`; InputError where the body is malformed. Called in a thread of its own."""
    reply_type: Any
    request: Any = None
    """The type of the body, which is asked with POST. None: there is none, and it is asked with GET."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the reply."""


class Protocol(ABC):
    """One trainer's way to ask for rewards."""

    paths: ClassVar[tuple[str, ...]]
    """Where it is asked, with POST. A part in braces is any part; /openapi.json does not list such a path."""
    summary: ClassVar[str]
    """For /openapi.json."""
    request: ClassVar[Any]
    """The type of the request's body, for /openapi.json."""
    reply_type: ClassVar[Any]
    """The type of the reply's body."""
    beside: ClassVar[Mapping[str, SideRoute]] = {}
    """By its path, what the trainer's tools ask beside rewards."""
    neutral: ClassVar[bool] = True
    """Whether a void answer is replied with what stands for its score: the mean of its siblings. Where the protocol can
    say that there is no score, this is False."""
    streams: ClassVar[bool] = False
    """Whether a request may ask for each result as it comes."""
    longest_s: ClassVar[float] = math.inf
    """Seconds after which a request must be replied to, because the trainer's client gives up soon after."""

    def __init__(self, config: ServerConfig) -> None:
        """ConfigError where a file that the configuration names cannot be read."""
        self.config = config
        self.deadline_s = min(config.serve.deadline_s, self.longest_s)

    @abstractmethod
    def read(self, body: bytes) -> Asked:
        """The answers of a request. InputError where it is malformed or too large; it names the item."""

    @abstractmethod
    def reply(self, asked: Asked, outcomes: Sequence[Outcome], judge: Mapping[str, float]) -> Any:
        """The reply to a request whose answers these are, in its order: of `reply_type`. `judge`: its figures."""

    def check_count(self, items: int) -> None:
        """InputError for more items than `serve.max_items`, or none."""
        if not items:
            raise InputError("there is no item; send at least one")
        if items > (most := self.config.serve.max_items):
            raise InputError(f"{items} items are more than serve.max_items={most}; send fewer at once")

    def check_texts(self, where: str, **texts: str) -> None:
        """InputError, which begins with `where`, for a text that is longer than `serve.max_chars`."""
        most = self.config.serve.max_chars
        for name, text in texts.items():
            if len(text) > most:
                raise InputError(f"{where}{name} has {len(text)} characters, more than serve.max_chars={most}")

    def result(self, asked: Asked, number: int, outcome: Outcome) -> BaseModel:
        """One line of a stream: the result of item `number`."""
        raise NotImplementedError(f"{type(self).__name__} has no streams")


def parsed(body: bytes) -> Any:
    """JSON as Python's own objects. InputError where it is none."""
    try:
        return from_json(body)
    except ValueError as error:
        raise InputError(f"Invalid JSON: {error}") from None


def validated(kind: type[M], value: Any, where: str = "") -> M:
    """A part of a request. InputError names its first mistake; `where` is what comes before the mistake's own place."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{where}{first_mistake(error)}") from None


def validated_json(kind: type[M], body: bytes) -> M:
    """A whole body. InputError names its first mistake."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise InputError(first_mistake(error)) from None


def first_mistake(error: ValidationError) -> str:
    """The first mistake in words, without the input, which may be long."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])
