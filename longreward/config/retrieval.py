"""The sections about evidence: how it is found in the document, and how the document is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from longreward.base_url import HeaderName, tidy
from longreward.config.model import Section


class EmbeddingsConfig(Section):
    model: str | None = None
    """Name of the embedding model at the endpoint. `embeddings` and `hybrid` need it."""
    base_url: str | None = None
    """URL of an endpoint with /embeddings, such as http://host:8000/v1. Null: the judge's endpoints and keys."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key for `base_url`. Null: OPENAI_API_KEY, if it is set."""
    api_key_header: HeaderName | None = None
    """Header that holds the key alone. Null: `Authorization: Bearer KEY`."""
    price_per_million: float = Field(0.0, ge=0)
    """Price of a million tokens, in the same currency as `judge.price`. It counts towards `judge.spend`."""
    batch_size: int = Field(32, ge=1)
    """Texts in one request."""
    query_prefix: str = ""
    """Put before a statement, where the model was trained so: `"query: "` (E5)."""
    document_prefix: str = ""
    """Put before a chunk of the document, where the model was trained so: `"passage: "` (E5)."""

    @field_validator("base_url")
    @classmethod
    def _url_is_http(cls, value: str | None) -> str | None:
        return value and tidy(value)


class RetrievalConfig(Section):
    kind: Literal["bm25", "embeddings", "hybrid"] = "bm25"
    """How the evidence for a statement is found: by its words (`bm25`), by its meaning (`embeddings`, the paper's way),
    or by both (`hybrid`, reciprocal rank fusion)."""
    top_k: int = Field(5, ge=1)
    """Number of chunks that the judge is shown for a statement (paper, section 3.3: 5)."""
    embeddings: EmbeddingsConfig = EmbeddingsConfig()
    """The model for `embeddings` and `hybrid`. Its calls have the judge's deadlines, attempts and limits; the limits
    count for themselves. Vectors are kept in `cache.path`."""

    @model_validator(mode="after")
    def _model_is_named(self) -> RetrievalConfig:
        if self.kind != "bm25" and not self.embeddings.model:
            raise ValueError(
                f"retrieval.kind is {self.kind} but retrieval.embeddings.model is not set; name the model, or set "
                "retrieval.kind=bm25"
            )
        return self

    @property
    def embedder(self) -> EmbeddingsConfig | None:
        """The embedding model's settings, where one is used."""
        return None if self.kind == "bm25" else self.embeddings


class ChunkingConfig(Section):
    tokenizer: Path | None = None
    """A folder with a tokenizer.json, in whose tokens `score`, `agree`, `estimate`, `audit`, `rejudge` and `serve`
    count the sizes; the paper's sizes are tokens. Null: words; in `serve` the tokens of `serve.tokenizer`, in `rejudge`
    those of the run's policy. In training `reward.tokenizer` says what is counted, and this is refused."""
    evidence_tokens: int = Field(128, ge=8)
    """Size in tokens of the chunks that are retrieved as evidence (paper: 128)."""
    extraction_tokens: int = Field(4096, ge=8)
    """Size in tokens of the chunks from which relevant passages are extracted (paper: 4096)."""
