"""slime's `--rm-type remote_rm --rm-url URL`: one object in, the reward out. A list of objects gets a list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from longreward.server.protocols.labels import LabelledProtocol
from longreward.server.protocols.protocol import Asked, Item, Outcome, parsed, validated

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


class Slime(LabelledProtocol):
    """slime's `--rm-type remote_rm`. The reply is the reward alone, for it is what slime trains on: 0..10, for a void
    answer what stands for it."""

    paths: ClassVar = ("/slime",)
    summary: ClassVar = "Score an answer, or a list of them, for slime"
    request: ClassVar = SlimeRequest | list[SlimeRequest]
    reply_type: ClassVar = float | list[float]
    longest_s: ClassVar = 110.0  # slime gives up after 120 s

    def read(self, body: bytes) -> Asked:
        read = parsed(body)
        many = read if isinstance(read, list) else [read]
        self.check_count(len(many))
        return Asked([self._item(number, one) for number, one in enumerate(many)], read is many)

    def _item(self, number: int, one: Any) -> Item:
        where = f"item {number}: "
        request = validated(SlimeRequest, one, where)
        prompt, label = (
            text if isinstance(text, str) else json.dumps(text) for text in (request.prompt, request.label)
        )
        self.check_texts(where, prompt=prompt, label=label, answer=request.response)
        return self.labelled(where, prompt, request.response, label, rendered=isinstance(request.prompt, str))

    def reply(self, asked: Asked, outcomes: Sequence[Outcome], judge: Mapping[str, float]) -> float | list[float]:
        rewards = [outcome.number for outcome in outcomes]
        return rewards if asked.body else rewards[0]
