"""What a section of a configuration file is, and the sections about one endpoint: its address, prices, spend."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from longreward.base_url import HeaderName, tidy


class Section(BaseModel):
    """A section of a configuration file."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class PriceConfig(Section):
    prompt_per_million: float = Field(0.0, ge=0)
    """Price of a million prompt tokens, in the same currency as `spend.max_cost`."""
    cached_prompt_per_million: float | None = Field(None, ge=0)
    """Price of a million prompt tokens that the endpoint reports as cached. Null: the same as `prompt_per_million`."""
    completion_per_million: float = Field(0.0, ge=0)
    """Price of a million completion tokens; tokens of the judge's reasoning count as well."""

    @property
    def known(self) -> bool:
        """Whether any price is set, so that costs can be counted."""
        return self.prompt_per_million > 0 or self.completion_per_million > 0

    def cost(self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0) -> float:
        """The price of these tokens, in the currency of the prices. `cached_tokens` are a part of `prompt_tokens`."""
        cached = self.prompt_per_million if self.cached_prompt_per_million is None else self.cached_prompt_per_million
        fresh = (prompt_tokens - cached_tokens) * self.prompt_per_million
        return (fresh + cached_tokens * cached + completion_tokens * self.completion_per_million) / 1e6


class SpendConfig(Section):
    max_cost: float | None = Field(None, gt=0)
    """The most money to spend, by `judge.price`. No call begins that could exceed it. Null: no cap."""
    max_tokens: int | None = Field(None, gt=0)
    """The most prompt and completion tokens to use, together. No call begins that could exceed it. Null: no cap."""


class EndpointConfig(Section):
    base_url: str
    """URL of the endpoint, such as http://host:8000/v1. A query such as `?api-version=...` is kept."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the endpoint's key. Null: `judge.api_key_env`."""
    api_key_header: HeaderName | None = None
    """Header that the endpoint wants its key in. Null: `judge.api_key_header`."""
    max_in_flight: int | None = Field(None, ge=1)
    """The most requests at once at this endpoint. Null: `judge.max_in_flight`."""
    requests_per_minute: float | None = Field(None, gt=0)
    """The most requests per minute at this endpoint. Null: `judge.requests_per_minute`."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """The most prompt and completion tokens per minute at this endpoint. Null: `judge.tokens_per_minute`."""

    @field_validator("base_url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        return tidy(value)
