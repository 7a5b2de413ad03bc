"""The prompt files OpenRLHF reads: `input` is the rendered prompt, `label` tells where document and question lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import msgspec
from pydantic import Field

from longreward.files.nesting import from_json
from longreward.schema import Sample
from longreward.text.thoughts import begins_thought

SEPARATOR = "\n\n"
"""Between context and question in the user's turn."""


class TrainingSample(Sample):
    """An answer to be scored, with what training knows of it beside the document, the question and the answer."""

    prompt: str = ""
    """The rendered prompt."""
    label: str = ""
    """What travels beside it, as `Label` writes it."""
    reference: list[str] = Field(default_factory=list)
    """Reference answers, where the task has them."""
    tokens: int = 0
    """Length of the answer."""
    truncated: bool = False
    """Whether it was cut at max_new_tokens."""


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
    """The run's own seed, used with `rollouts`."""
    scored: bool = True
    """False: the answer is handed back as it is."""
    reference: tuple[str, ...] = ()
    """Reference answers, where the task has them."""
    document: str = ""
    """`document_hash` of the whole document, of which the prompt may show less; empty in files of before."""
    answered: tuple[str, ...] = ()
    """Where answers are ranked, those to the same prompt that are there already."""

    @classmethod
    def of_text(cls, identity: str, split: str, context: str, query: str) -> tuple[str, Label]:
        """A document and a question that no prompt was rendered for: as a plain prompt with its label."""
        start = len(context) + len(SEPARATOR)
        spans = (0, len(context)), (start, start + len(query))
        return context + SEPARATOR + query, cls(identity, split, *spans, document=document_hash(context))

    def sample(
        self, prompt: str, answer: str, *, tokens: int = 0, truncated: bool = False, siblings: Sequence[str] = ()
    ) -> TrainingSample:
        """An answer to the prompt that this is the label of. Only training answers are ranked with `siblings`."""
        return TrainingSample(
            id=self.id,
            context=prompt[slice(*self.context)],
            query=prompt[slice(*self.query)],
            answer=answer,
            thinking=begins_thought(prompt),
            prompt=prompt,
            label=self.to_json(),
            reference=list(self.reference),
            tokens=tokens,
            truncated=truncated,
            siblings=tuple(siblings),
            rated=self.split != "train",
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Label:
        """ValueError where `text` is not what `to_json` writes."""
        return msgspec.convert(from_json(text), cls)


def document_hash(context: str) -> str:
    """What tells documents apart, whatever ids they have."""
    return hashlib.sha256(context.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def rollout_id(prompt: str, number: int) -> str:
    """The identity in the store of a prompt's answer that has a number."""
    return f"{prompt}/{number}"
