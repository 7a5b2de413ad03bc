"""What judging will cost, before anything is spent: calls, tokens, money and time for a data set and a configuration.

The reward itself runs, over a judge that counts (`counting.py`): the calls are those that it makes, with the real
material. How long the replies are nobody knows beforehand; each kind of question has a typical length.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import Field

from longreward.config import JudgeConfig, RewardConfig
from longreward.dimensions.document import document_key
from longreward.judge.requests import REQUESTS
from longreward.preflight.counting import times_as_much, unwritten_answer, usage_by_kind
from longreward.schema import Record, Sample, Usage
from longreward.text.sentences import says_nothing
from longreward.text.tokens import ASCII_BYTES_PER_TOKEN, size_in

_IN_FLIGHT = "judge.max_in_flight"
_BY_KIND = {request.kind: request for request in REQUESTS}


class Estimate(Usage):
    """What judging will take in all and per dimension. `cost` is 0 where `judge.price` is unset."""

    answers: int = 0
    """Answers that cost something; empty ones do not."""
    documents: int = 0
    """Documents, each with its question."""
    sampled: int = 0
    """Documents that were looked into; the others are taken to be like them, by their size."""
    dimensions: dict[str, Usage] = Field(default_factory=dict)

    def scaled(self, factor: float) -> Estimate:
        """The estimate for `factor` times as much of the same: more steps, more epochs."""
        return Estimate(
            **times_as_much(self, factor).model_dump(),
            answers=round(self.answers * factor),
            documents=round(self.documents * factor),
            sampled=self.sampled,
            dimensions={name: times_as_much(usage, factor) for name, usage in self.dimensions.items()},
        )


class Throughput(Record):
    """How long an estimate takes, by each setting that bounds it, and what the judge must serve for that."""

    in_flight: int
    """Calls under way at once, over all endpoints."""
    latency_s: float
    """Seconds that a call takes."""
    seconds_by: dict[str, float]
    """Setting -> seconds that it allows the work in; `judge.max_in_flight` is always there."""
    calls_per_second: float
    """What the judge must serve for `max_in_flight` to be all that bounds it."""
    tokens_per_minute: float

    @property
    def binding(self) -> str:
        """The setting that decides."""
        return max(self.seconds_by, key=lambda name: self.seconds_by[name])

    @property
    def seconds(self) -> float:
        """A lower bound: a judge under load is slower than in a check."""
        return self.seconds_by[self.binding]

    @property
    def limit(self) -> str:
        """What decides, in words."""
        if self.binding != _IN_FLIGHT:
            return self.binding
        if self.seconds <= 2 * self.latency_s:
            return "two calls in a row, of which the second needs the first one's reply"
        return f"{_IN_FLIGHT}, {self.in_flight:,} calls at once"


def estimate(
    items: Iterable[Sample | tuple[str, str]],
    config: RewardConfig,
    *,
    answers_per_prompt: int | None = None,
    answer_tokens: int = 300,
    sample: int = 200,
) -> Estimate:
    """What scoring `items` will take: answers, or prompts (context, query) whose answers are not written yet.

    A prompt gets `answers_per_prompt` answers (None: one) of `answer_tokens` tokens; if it is given, answers among the
    items are left out and count as prompts. The same prompt twice is one. Nothing is taken to be in a cache or to be
    retried. `items` is read once and may be long: only `sample` documents, evenly spread, are kept and looked into.

    Runs an event loop of its own: where one runs already, call it in a thread (`asyncio.to_thread`).
    """
    documents = _Documents(sample, answer_tokens)
    for item in items:
        context, query = (item.context, item.query) if isinstance(item, Sample) else item
        if isinstance(item, Sample) and answers_per_prompt is None:
            documents.add_answer(context, query, item.answer)
        else:
            documents.add_prompt(context, query, answers_per_prompt or 1)

    found = asyncio.run(_usage_of(documents.sample, config, answer_tokens))
    dimensions = {str(name): Usage() for name in config.needed}
    for kind, usage in found.items():
        usage = times_as_much(usage, documents.factor(kind))
        usage.cost = config.judge.price.cost(usage.prompt_tokens, usage.completion_tokens)
        dimensions[_BY_KIND[kind].dimension] += usage
    return Estimate(
        **sum(dimensions.values(), Usage()).model_dump(),
        answers=documents.whole.answers,
        documents=documents.whole.documents,
        sampled=len(documents.sample),
        dimensions=dimensions,
    )


def throughput(expected: Usage, judge: JudgeConfig, latency_s: float) -> Throughput:
    """How fast `expected` can go where a call takes `latency_s`."""
    endpoints = judge.resolved_endpoints
    in_flight = sum(endpoint.max_in_flight or 1 for endpoint in endpoints) or judge.max_in_flight
    # Never under two latencies, the reward's critical path: the second calls need the replies of the first.
    seconds = max(2.0, expected.calls / in_flight) * latency_s if expected.calls else 0.0
    seconds_by = {_IN_FLIGHT: seconds}
    for name, amount in (("requests_per_minute", expected.calls), ("tokens_per_minute", expected.tokens)):
        limits = [getattr(endpoint, name) for endpoint in endpoints] or [getattr(judge, name)]
        if None not in limits:  # an endpoint without the limit takes over what the others may not
            seconds_by[f"judge.{name}"] = 60 * amount / sum(limits)
    return Throughput(
        in_flight=in_flight,
        latency_s=latency_s,
        seconds_by=seconds_by,
        calls_per_second=expected.calls / seconds if seconds else 0.0,
        tokens_per_minute=60 * expected.tokens / seconds if seconds else 0.0,
    )


async def _usage_of(documents: Iterable[_Kept], config: RewardConfig, answer_tokens: int) -> dict[str, Usage]:
    """Kind of question -> what these documents need of it."""
    found: defaultdict[str, Usage] = defaultdict(Usage)
    for document in documents:
        answers = [(answer, 1) for answer in document.answers]
        if document.unwritten:
            answers.append((unwritten_answer(document.context, answer_tokens), document.unwritten))
        for kind, usage in (await usage_by_kind(document.context, document.query, answers, config)).items():
            found[kind] += usage
    return found


@dataclass
class _Size:
    """How much there is, in all or in one document."""

    documents: int = 0
    document_text: int = 0
    """Bytes."""
    answers: int = 0
    answer_text: float = 0
    """Bytes."""


@dataclass
class _Kept:
    """A document, a question about it and the answers; those not written yet only by their number."""

    context: str
    query: str
    answers: list[str] = field(default_factory=list)
    unwritten: int = 0
    size: _Size = field(default_factory=_Size)


class _Documents:
    """Counts all documents and keeps a sample: those with the smallest hashes, so that the order does not matter and
    each is known at its first row. One that is pushed out never comes back."""

    def __init__(self, most: int, answer_tokens: int) -> None:
        self._most = max(1, most)
        self._answer_bytes = answer_tokens * ASCII_BYTES_PER_TOKEN
        self.whole = _Size()
        self._seen: set[int] = set()
        self._prompts: set[int] = set()
        self._kept: dict[int, _Kept] = {}
        self._largest: list[int] = []  # a heap of the kept ones' negated hashes

    @property
    def sample(self) -> list[_Kept]:
        return list(self._kept.values())

    def add_answer(self, context: str, query: str, answer: str) -> None:
        if says_nothing(answer):
            return  # scored without a judge
        material = self._at(_key(context, query), context, query, 1, size_in(answer))
        if material:
            material.answers.append(answer)

    def add_prompt(self, context: str, query: str, answers: int) -> None:
        key = _key(context, query)
        if key in self._prompts:
            return
        self._prompts.add(key)
        material = self._at(key, context, query, answers, answers * self._answer_bytes)
        if material:
            material.unwritten += answers

    def factor(self, kind: str) -> float:
        """By what to multiply what the sample needs of a kind of call, to get to the whole."""
        measure = _BY_KIND[kind].grows_with
        sampled = sum(getattr(material.size, measure) for material in self._kept.values())
        return getattr(self.whole, measure) / sampled if sampled else 0.0

    def _at(self, key: int, context: str, query: str, answers: int, text: float) -> _Kept | None:
        """Take the size in; the document to add to, if it is in the sample."""
        new = key not in self._seen
        if new:
            self._seen.add(key)
            if len(self._kept) < self._most or key < -self._largest[0]:
                self._keep(key, _Kept(context, query))
        material = self._kept.get(key)
        for size in (self.whole, material.size if material else _Size()):
            size.documents += new
            size.document_text += size_in(context) if new else 0
            size.answers += answers
            size.answer_text += text
        return material

    def _keep(self, key: int, material: _Kept) -> None:
        self._kept[key] = material
        heapq.heappush(self._largest, -key)
        if len(self._kept) > self._most:
            del self._kept[-heapq.heappop(self._largest)]


def _key(context: str, query: str) -> int:
    return int(document_key(context, query)[:16], 16)
