"""OpenRLHF's remote reward: lists of texts in, lists of numbers out.

`query` is prompt and answer as one text, decoded with special tokens; `prompts` the rendered prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from longreward import openrlhf_logs
from longreward.errors import InputError
from longreward.openrlhf_logs import AnswerFigures
from longreward.server.protocols.labels import LabelledProtocol
from longreward.server.protocols.protocol import Asked, Item, Outcome, validated_json
from longreward.text.continuation import continuation

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

    rewards: list[float]
    """0..10; for a void one what stands for it."""
    scores: list[float]
    """rewards / 10."""
    extra_logs: dict[str, list[float]]
    """Always the same keys, all with the prefix `longreward/`."""
    status: list[str]
    """`ok`, or why it is void: `dimension: reason; ...`. Not read by OpenRLHF."""


class OpenRLHF(LabelledProtocol):
    """OpenRLHF's `--reward.remote_url`."""

    paths: ClassVar = ("/get_reward", "/")
    summary: ClassVar = "Score answers for OpenRLHF"
    request: ClassVar = RewardRequest
    reply_type: ClassVar = RewardReply

    def read(self, body: bytes) -> Asked:
        request = validated_json(RewardRequest, body)
        lengths = {name: len(getattr(request, name)) for name in RewardRequest.model_fields}
        if len(set(lengths.values())) > 1:
            raise InputError(f"query, prompts and labels must be of the same length, got {lengths}")
        self.check_count(len(request.query))
        for name in RewardRequest.model_fields:
            for number, text in enumerate(getattr(request, name)):
                self.check_texts(f"item {number}: ", **{name: text})
        return Asked(self.items(request.query, request.prompts, request.labels))

    def items(self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> list[Item]:
        """The answers in their order. InputError names the item that cannot be read."""
        rows = enumerate(zip(queries, prompts, labels, strict=True))
        return [self._item(number, *row) for number, row in rows]

    def _item(self, number: int, query: str, prompt: str, label: str) -> Item:
        answer = continuation(query, prompt)
        if answer is None:
            raise InputError(
                f"item {number}: the end of its prompt is not found in its query, which must be prompt and answer "
                "as one text"
            )
        return self.labelled(f"item {number}: ", prompt, answer, label)

    def reply(self, asked: Asked, outcomes: Sequence[Outcome], judge: Mapping[str, float]) -> RewardReply:
        names = ["total", *self.config.needed]
        rewards = [outcome.number for outcome in outcomes]
        logs = [openrlhf_logs.logs(AnswerFigures.of(o.reward, judge), o.numbers, names) for o in outcomes]
        return RewardReply(
            rewards=rewards,
            scores=[reward / 10 for reward in rewards],
            extra_logs={name: [log[name] for log in logs] for name in logs[0]},
            status=[outcome.status for outcome in outcomes],
        )
