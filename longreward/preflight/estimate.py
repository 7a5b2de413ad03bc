"""What judging will cost, before anything is spent: calls, tokens, money and time for a data set and a configuration.

The reward itself runs with a judge that counts (`counting.py`), so the calls are those that it makes, with the real
material. The lengths of the replies are not known before; each kind of question has a typical one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import Field

from longreward.config import JudgeConfig, RewardConfig
from longreward.dimensions.document import document_key
from longreward.judge.requests import REQUESTS
from longreward.preflight.counting import unwritten_answer, usage_by_kind
from longreward.reward import LongReward, Scoring
from longreward.schema import Record, Sample, Usage
from longreward.text.sentences import says_nothing
from longreward.text.tokens import ASCII_BYTES_PER_TOKEN, size_in

_IN_FLIGHT = "judge.max_in_flight"
_BY_KIND = {request.kind: request for request in REQUESTS}


class Estimate(Usage):
    """What judging will take, in all and for each dimension. `cost` is 0 where `judge.price` is not set."""

    answers: int = 0
    """Answers that cost something. Empty answers do not."""
    documents: int = 0
    """Documents, each with its question."""
    sampled: int = 0
    """Documents that were looked into. The others count in proportion to their size."""
    dimensions: dict[str, Usage] = Field(default_factory=dict)

    def scaled(self, factor: float) -> Estimate:
        """The estimate for `factor` times as much of the same: more steps, more epochs."""
        return Estimate(
            **self.times(factor).model_dump(),
            answers=round(self.answers * factor),
            documents=round(self.documents * factor),
            sampled=self.sampled,
            dimensions={name: usage.times(factor) for name, usage in self.dimensions.items()},
        )


class Throughput(Record):
    """How long the work of an estimate takes, by each setting that limits it, and what the judge must serve."""

    in_flight: int
    """Calls under way at the same time, at all endpoints together."""
    latency_s: float
    """Seconds of one call."""
    seconds_by: dict[str, float]
    """Setting -> seconds of the work if this setting were the only limit. `judge.max_in_flight` is always there."""
    calls_per_second: float
    """Calls that the judge must serve, or it is slower than the settings allow. The same holds for the tokens."""
    tokens_per_minute: float

    @property
    def binding(self) -> str:
        """The setting that limits the work most."""
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
    scoring: Scoring = LongReward.score,
) -> Estimate:
    """What scoring `items` will take. An item is an answer, or a prompt (context, query) without an answer yet.

    A prompt counts as `answers_per_prompt` answers (None: one) of `answer_tokens` tokens each. With
    `answers_per_prompt`, the answers among the items count as prompts too. A prompt that comes twice counts once.
    Verdicts from a cache and repeated attempts are not considered. `items` is read once and may be long: only `sample`
    documents, chosen at random but always the same, are kept in memory and looked into. `scoring`: how an answer is
    scored.

    It runs its own event loop. Inside a running event loop, call it in a thread (`asyncio.to_thread`).
    """
    documents = _DocumentSample(sample, answer_tokens)
    for item in items:
        context, query = (item.context, item.query) if isinstance(item, Sample) else item
        if isinstance(item, Sample) and answers_per_prompt is None:
            documents.add_answer(context, query, item.answer)
        else:
            documents.add_prompt(context, query, answers_per_prompt or 1)

    prompts = (document.material(answer_tokens) for document in documents.sample.values())
    found = asyncio.run(usage_by_kind(prompts, config, scoring))
    dimensions = {str(name): Usage() for name in config.needed}
    for kind, usage in found.items():
        usage = usage.times(documents.factor(kind))
        usage.cost = config.model_for(kind).price.cost(usage.prompt_tokens, usage.completion_tokens)
        dimensions[_BY_KIND[kind].dimension] += usage
    return Estimate(
        **sum(dimensions.values(), Usage()).model_dump(),
        answers=documents.whole["answers"],
        documents=documents.whole["documents"],
        sampled=len(documents.sample),
        dimensions=dimensions,
    )


def throughput(expected: Usage, judge: JudgeConfig, latency_s: float) -> Throughput:
    """How fast `expected` can go where a call takes `latency_s`."""
    endpoints = judge.resolved_endpoints
    in_flight = sum(endpoint.max_in_flight or 1 for endpoint in endpoints) or judge.max_in_flight
    # At least two calls in a row: the second ones need the replies of the first.
    seconds = max(2.0, expected.calls / in_flight) * latency_s if expected.calls else 0.0
    seconds_by = {_IN_FLIGHT: seconds}
    for name, amount in (("requests_per_minute", expected.calls), ("tokens_per_minute", expected.tokens)):
        limits = [getattr(endpoint, name) for endpoint in endpoints] or [getattr(judge, name)]
        if None not in limits:  # an endpoint without the limit can take what the others may not
            seconds_by[f"judge.{name}"] = 60 * amount / sum(limits)
    return Throughput(
        in_flight=in_flight,
        latency_s=latency_s,
        seconds_by=seconds_by,
        calls_per_second=expected.calls / seconds if seconds else 0.0,
        tokens_per_minute=60 * expected.tokens / seconds if seconds else 0.0,
    )


@dataclass
class _SampledDocument:
    """A document, a question about it, its answers, and the number of its answers that are not written yet."""

    context: str
    query: str
    answers: list[str] = field(default_factory=list)
    unwritten: int = 0
    size: Counter[str] = field(default_factory=Counter)
    """How much of each `RewardRequest.grows_with` there is: texts in bytes."""

    def material(self, answer_tokens: int) -> tuple[str, str, list[tuple[str, int]]]:
        """The prompt for `usage_by_kind`; what stands for an unwritten answer has `answer_tokens` tokens."""
        answers = [(answer, 1) for answer in self.answers]
        if self.unwritten:
            answers.append((unwritten_answer(self.context, answer_tokens), self.unwritten))
        return self.context, self.query, answers


class _DocumentSample:
    """Measures all documents and keeps a sample of them: those with the smallest hashes.

    So the order of the rows does not matter, and at its first row it is known whether a document is in the sample. A
    document that leaves the sample never comes back.
    """

    def __init__(self, most: int, answer_tokens: int) -> None:
        self._most = max(1, most)
        self._answer_bytes = answer_tokens * ASCII_BYTES_PER_TOKEN
        self.whole: Counter[str] = Counter()
        self.sample: dict[int, _SampledDocument] = {}
        self._seen: set[int] = set()
        self._prompts: set[int] = set()

    def add_answer(self, context: str, query: str, answer: str) -> None:
        if says_nothing(answer):
            return  # scored without a judge
        if document := self._measure(_key(context, query), context, query, 1, size_in(answer)):
            document.answers.append(answer)

    def add_prompt(self, context: str, query: str, answers: int) -> None:
        key = _key(context, query)
        if key in self._prompts:
            return
        self._prompts.add(key)
        if document := self._measure(key, context, query, answers, round(answers * self._answer_bytes)):
            document.unwritten += answers

    def factor(self, kind: str) -> float:
        """How many times as much of this kind of question all documents need as the sample does."""
        measure = _BY_KIND[kind].grows_with
        sampled = sum(document.size[measure] for document in self.sample.values())
        return self.whole[measure] / sampled if sampled else 0.0

    def _measure(self, key: int, context: str, query: str, answers: int, text: int) -> _SampledDocument | None:
        """Add to the sizes. Returns the document if it is in the sample."""
        new = key not in self._seen
        if new:
            self._seen.add(key)
            self.sample[key] = _SampledDocument(context, query)
            if len(self.sample) > self._most:
                del self.sample[max(self.sample)]
        document = self.sample.get(key)
        added = {"documents": int(new), "document_text": size_in(context) if new else 0}
        added |= {"answers": answers, "answer_text": text}
        self.whole.update(added)
        if document:
            document.size.update(added)
        return document


def _key(context: str, query: str) -> int:
    return int(document_key(context, query)[:16], 16)
