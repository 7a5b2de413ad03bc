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

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Label:
        """ValueError where `text` is not what `to_json` writes."""
        fields = json.loads(text)
        return cls(fields["id"], fields["split"], tuple(fields["context"]), tuple(fields["query"]))
