"""What the document says on the question, before any answer is looked at (paper, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from longreward.judge import constrained, verdicts
from longreward.judge.constrained import Shape
from longreward.judge.requests.base import Measure, RewardRequest
from longreward.model_config import ReplyForm
from longreward.schema import Dimension
from longreward.text.shorten import without_middle
from longreward.text.tokens import text_of, tokens_in


@dataclass(frozen=True, slots=True)
class ExtractRelevant(RewardRequest[str | None]):
    """What one chunk of the document says on the question; None where it says nothing."""

    kind: ClassVar[str] = "extract"
    dimension: ClassVar[Dimension] = "completeness"
    label: ClassVar[str] = "extraction"
    grows_with: ClassVar[Measure] = "document_text"
    goes_first: ClassVar[bool] = True
    query: str
    chunk: str

    def parse(self, text: str) -> str | None:
        return verdicts.parse_extraction(text)

    def shape(self, form: ReplyForm) -> Shape[str | None]:
        return constrained.passages()

    def typical(self) -> tuple[str | None, float]:
        # On average a few sentences: most chunks hold nothing on the question, and some hold a page.
        tokens = min(150, tokens_in(self.chunk))
        return text_of(tokens, like=self.chunk), tokens

    def shrunk(self) -> ExtractRelevant | None:
        chunk = without_middle(self.chunk)
        return replace(self, chunk=chunk) if len(chunk) < len(self.chunk) else None
