"""The prompt files OpenRLHF reads: `input` is the rendered prompt, `label` tells where document and question lie."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Label:
    """What travels beside a prompt. The spans are characters of the prompt, so the document is stored once."""

    id: str
    split: str
    """`train` or `heldout`."""
    context: tuple[int, int]
    query: tuple[int, int]
    rollouts: tuple[int, ...] | None = None
    """Which of the prompt's answers are to be generated, by number, each with a random seed of its own; None where they
    are generated once and nobody asks which is which."""
    seed: int = 0
    """Of the whole run, with `rollouts`."""
    scored: bool = True
    """False: the answer is handed back as it is."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Label:
        """ValueError where `text` is not what `to_json` writes."""
        fields = json.loads(text)
        rollouts = fields.get("rollouts")
        spans = tuple(fields["context"]), tuple(fields["query"])
        return cls(
            fields["id"],
            fields["split"],
            *spans,
            rollouts=None if rollouts is None else tuple(rollouts),
            seed=fields.get("seed", 0),
            scored=fields.get("scored", True),
        )


def rollout_id(prompt: str, number: int) -> str:
    """The identity of a prompt's answer in the store, where it is told by number."""
    return f"{prompt}/{number}"
