"""The sections about how a dimension is scored, and about what copies lose."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from longreward.config.model import Section

MOST_RANKED = 16
"""The most answers that a judge is shown at once."""


class HelpfulnessConfig(Section):
    way: Literal["rating", "ranking"] = "rating"
    """`rating`: the judge rates each answer, as in the paper. `ranking`: it is shown all answers to a prompt at once,
    at most 16, and ranks them, in both orders; an answer's helpfulness is then 10 times the share of the others that it
    beats. Only in training and collecting: held-out answers and canaries are rated, and commands that do not know which
    answers are siblings refuse it."""


class FaithfulnessConfig(Section):
    without_statements: float = Field(5.0, ge=0, le=10)
    """Faithfulness of an answer without any statement, such as a refusal or a mere yes: it says nothing false, and
    nothing true. 0 where a policy learns to refuse."""
    statements_per_call: int = Field(1, ge=1, le=20)
    """Statements verified in one judge call. The paper asks about one at a time; 3 to 5 need far fewer calls."""
    skip_verbatim: bool = False
    """Take a statement that is word for word a sentence of the document as supported, without asking the judge."""
    first: str | None = None
    """Name of the route in `judge.routes` that is asked about each statement first, such as a small checker. Its
    support stands where it is sure; only the other statements are asked of the judge, or of the route `verify`. Null:
    the judge is asked about all."""
    unsure: tuple[float, float] = (0.1, 0.9)
    """`first` is unsure where its support lies between these. `longreward agree` on labelled claims helps to choose."""

    @property
    def used(self) -> dict[str, Any]:
        """What can change a score."""
        return self.model_dump(exclude={"first", "unsure"} if self.first is None else None)

    @field_validator("unsure")
    @classmethod
    def _unsure_is_a_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] <= 1:
            raise ValueError(f"faithfulness.unsure is [lowest, highest], from 0 to 1; got {list(value)}")
        return value


class CompletenessConfig(Section):
    way: Literal["rating", "key_points"] = "rating"
    """How completeness is judged. `rating`: the judge rates the answer against what was extracted from the document,
    0 to 10, the paper's way. `key_points`: what was extracted is made into at most 20 points, once for all answers; of
    each answer the judge says which of them it covers (docs/rewards.md)."""

    @property
    def used(self) -> dict[str, Any]:
        """What changes a score of the paper's way; empty where nothing does."""
        return {} if self.way == "rating" else self.model_dump()


class CopyingConfig(Section):
    loss: float = Field(0.8, ge=0, le=1)
    """What an answer loses of its total that is copied as a whole and does not answer the question; one that is copied
    in part loses its share of that. To copy is the surest way to be supported, so a policy learns it. 0: nothing, as in
    the paper."""
    answered: float | None = Field(8.0, gt=0, le=10)
    """A copy with this helpfulness and completeness (and criteria, where they have a weight) answers the question, and
    loses nothing. Their product counts: one can make up for the other, and the smaller it is, the more a copy loses. A
    place among siblings says nothing of it: where helpfulness is ranked, it does not count. Null: every copy loses, for
    a judge that finds each passage helpful."""
    row: int = Field(16, ge=4)
    """So many words in a row that stand in the document are copied (in Chinese and Japanese five pairs of characters
    for three words). Fewer are a name, a phrase or a short exact answer. Lower it where answers are short: a policy of
    answers of one sentence learns to copy that sentence."""

    @property
    def used(self) -> dict[str, Any]:
        """What can change a score; empty where copies lose nothing."""
        return self.model_dump(mode="json") if self.loss else {}
