"""slime's `--rm-type remote_rm --rm-url URL`: one object in, the reward out. A list of objects gets a list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from longreward.server.config import ServerConfig
from longreward.server.protocols.labels import SpecialTokens, labelled
from longreward.server.protocols.protocol import Asked, Item, Outcome, Protocol, parsed, validated

_EXAMPLE: dict[str, Any] = {
    "prompt": "Ada met Bob. It rained.\n\nWho met Bob?\n\n",
    "response": "Ada met Bob.",
    "label": {"id": "1", "context": [0, 23], "query": [25, 37]},
}


class SlimeRequest(BaseModel):
    """One answer, as slime's `remote_rm` sends it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})
    prompt: str | list[dict[str, Any]]
    """The rendered prompt, or its messages."""
    response: str
    label: str | dict[str, Any]
    """`context` and `query`, each as text or as [start, end] in characters of a rendered prompt; `criteria`, where
    these have a weight; `id` optional. Or all that as JSON text."""


class Slime(Protocol):
    """slime's `--rm-type remote_rm`. The reply is the reward alone, for it is what slime trains on: 0..10, for a void
    answer what stands for it."""

    paths: ClassVar = ("/slime",)
    summary: ClassVar = "Score an answer, or a list of them, for slime"
    request: ClassVar = SlimeRequest | list[SlimeRequest]
    reply_type: ClassVar = float | list[float]
    longest_s: ClassVar = 110.0  # slime gives up after 120 s

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(config)
        self._special = SpecialTokens(config.serve.tokenizer)

    def read(self, body: bytes) -> Asked:
        read = parsed(body)
        many = read if isinstance(read, list) else [read]
        self.limits.check_count(len(many))
        return Asked([self._item(number, one) for number, one in enumerate(many)], read is many)

    def _item(self, number: int, one: Any) -> Item:
        request = validated(SlimeRequest, one, f"item {number}: ")
        rendered = isinstance(request.prompt, str)
        prompt = request.prompt if isinstance(request.prompt, str) else json.dumps(request.prompt)
        label = request.label if isinstance(request.label, str) else json.dumps(request.label)
        for name, text in (("prompt", prompt), ("response", request.response), ("label", label)):
            self.limits.check_text(number, name, text)
        answer = self._special.removed_from(request.response)
        return labelled(number, prompt, answer, label, criteria=self.config.uses_criteria, rendered=rendered)

    def reply(self, asked: Asked, outcomes: Sequence[Outcome], judge: Mapping[str, float]) -> float | list[float]:
        rewards = []
        for outcome in outcomes:
            assert outcome.scores is not None, "what stands for a void one"
            rewards.append(float(outcome.scores["total"]))
        return rewards if asked.body else rewards[0]
