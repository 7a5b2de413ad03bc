"""What goes in: an answer and what it is judged by."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Dimension = Literal["helpfulness", "logicality", "faithfulness", "completeness", "criteria"]
DIMENSIONS: tuple[Dimension, ...] = ("helpfulness", "logicality", "faithfulness", "completeness")
"""The paper's."""
EVERY_DIMENSION: tuple[Dimension, ...] = (*DIMENSIONS, "criteria")
"""With the one that asks for something in the data, and so has no weight by default."""
HumanPreference = Literal["a", "b", "tie"]
"""Which of two answers, a and b, a person prefers."""


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Criterion(Record):
    """What an answer should do; where `weight` is negative, what it should not do."""

    text: str
    weight: float = Field(1.0, ge=-1e6, le=1e6)

    @model_validator(mode="before")
    @classmethod
    def _may_be_text_alone(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @field_validator("text")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is empty; write what the answer should do, or leave the criterion out")
        return value.strip()

    @field_validator("weight")
    @classmethod
    def _counts(cls, value: float) -> float:
        if not value:
            raise ValueError("a criterion of weight 0 counts nothing; leave it out, or give it a weight")
        return value


class Sample(Record):
    """One answer to be scored: a question about a long document, and what the policy said."""

    id: str = ""
    context: str
    """The document."""
    query: str
    """The question."""
    answer: str
    """The policy's answer, without the prompt."""
    criteria: tuple[Criterion, ...] = ()
    """What the dimension `criteria` judges the answer by; at least one has a positive weight."""
    thinking: bool = Field(False, exclude=True)
    """Whether the prompt ends in the beginning of a thought, which the answer has to close."""
    truncated: bool = Field(False, exclude=True)
    """Whether the answer was cut at the most tokens that the policy may write."""
    siblings: tuple[str, ...] = Field((), exclude=True)
    """The texts of all answers to the same prompt, this one included, where `helpfulness.way` is `ranking`."""
    rated: bool = Field(False, exclude=True)
    """Rate its helpfulness where `helpfulness.way` is `ranking`, too: it has no siblings, or is compared with what is
    none."""

    @field_validator("id", mode="before")
    @classmethod
    def _id_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @field_validator("criteria")
    @classmethod
    def _criteria_can_be_met(cls, value: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        if value and not any(criterion.weight > 0 for criterion in value):
            raise ValueError("no criterion has a positive weight, so no answer could score; give one of them one")
        return value
