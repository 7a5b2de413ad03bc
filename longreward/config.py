"""The reward's configuration: one model per section of the YAML file. An unknown key is an error.

The docstring under a field is its text in docs/config.md (written by docs/make_config.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from longreward.base_url import HeaderName, redis_url, tidy
from longreward.judge_config import (
    JudgeConfig,
    Section,
)
from longreward.schema import DIMENSIONS, EVERY_DIMENSION, Dimension


class CacheConfig(Section):
    path: Path | None = None
    """SQLite file that keeps good verdicts between runs. All processes of a machine may share it; it must not be on a
    network file system. A file of another user, or one that anyone may write to, is not used. Use another file when the
    model behind `judge.model` changes. Null: `cache.url`; without it a training run keeps its verdicts in its own
    directory, and the commands keep none."""
    url: str | None = None
    """Redis or Valkey server that keeps good verdicts for any number of machines: redis://HOST:6379/0, or rediss://
    with TLS (`?ssl_ca_certs=FILE` names its authority). Whoever can write there can make up verdicts."""
    password_env: str | None = None
    """Name of the environment variable that holds the server's password. Null: REDIS_PASSWORD, if it is set."""
    prefix: str = "longreward:"
    """Begins each key on the server. Use another one when the model behind `judge.model` changes."""
    expire_days: float | None = Field(None, gt=0)
    """Days after which the server forgets a verdict. Null: never; a server with `maxmemory-policy allkeys-lru` drops
    the ones that were not used for long when it is full."""

    @property
    def password_variable(self) -> str | None:
        """The environment variable that holds the server's password; None without a server."""
        return None if self.url is None else self.password_env or "REDIS_PASSWORD"

    @field_validator("url")
    @classmethod
    def _url_is_a_server(cls, value: str | None) -> str | None:
        return value and redis_url(value)

    @model_validator(mode="after")
    def _one_is_used(self) -> Self:
        if self.path is not None and self.url is not None:
            raise ValueError(f"cache.path={self.path} and cache.url={self.url} are both set; take one of them out")
        return self


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
    evidence_tokens: int = Field(128, ge=8)
    """Size in tokens of the chunks that are retrieved as evidence (paper: 128)."""
    extraction_tokens: int = Field(4096, ge=8)
    """Size in tokens of the chunks from which relevant passages are extracted (paper: 4096)."""


class FaithfulnessConfig(Section):
    without_statements: float = Field(5.0, ge=0, le=10)
    """Faithfulness of an answer without any statement, such as a refusal or a mere yes: it says nothing false, and
    nothing true. 0 where a policy learns to refuse."""
    statements_per_call: int = Field(1, ge=1, le=20)
    """Statements verified in one judge call. The paper asks about one at a time; 3 to 5 need far fewer calls."""
    skip_verbatim: bool = False
    """Take a statement that is word for word a sentence of the document as supported, without asking the judge."""


class CopyingConfig(Section):
    loss: float = Field(0.8, ge=0, le=1)
    """What an answer loses of its total that is copied as a whole and does not answer the question; one that is copied
    in part loses its share of that. To copy is the surest way to be supported, so a policy learns it. 0: nothing, as in
    the paper."""
    answered: float | None = Field(8.0, gt=0, le=10)
    """A copy with this helpfulness and completeness (and criteria, where they have a weight) answers the question, and
    loses nothing. Their product counts: one can make up for the other, and the smaller it is, the more a copy loses.
    Null: every copy loses, for a judge that finds each passage helpful."""
    row: int = Field(16, ge=4)
    """So many words in a row that stand in the document are copied (in Chinese and Japanese five pairs of characters
    for three words). Fewer are a name, a phrase or a short exact answer. Lower it where answers are short: a policy of
    answers of one sentence learns to copy that sentence."""

    @property
    def used(self) -> dict[str, Any]:
        """What can change a score; empty where copies lose nothing."""
        return self.model_dump(mode="json") if self.loss else {}


class RewardConfig(Section):
    judge: JudgeConfig = JudgeConfig()
    """The judge and its limits."""
    cache: CacheConfig = CacheConfig()
    """The cache of verdicts."""
    retrieval: RetrievalConfig = RetrievalConfig()
    """How evidence is found in the document."""
    chunking: ChunkingConfig = ChunkingConfig()
    """How the document is cut into chunks."""
    faithfulness: FaithfulnessConfig = FaithfulnessConfig()
    """How statements are verified."""
    copying: CopyingConfig = CopyingConfig()
    """What answers lose that are copied from the document."""
    truncated_loss: float = Field(0.0, ge=0, le=1)
    """What an answer loses of its total that was cut at `openrlhf.rollout.max_new_tokens`; training knows that, the
    commands do not. OpenRLHF's own reward.stop_properly_penalty_coef trains alike, but the held-out rewards do not show
    it. 0: nothing, as in the paper."""
    prompts: Path | None = None
    """A folder with your own texts of the reward's prompts: en/NAME.txt and zh/NAME.txt (docs/how-to/your-prompts.md).
    Null: ours."""
    strip_thoughts: bool = True
    """Judge an answer without the thoughts of a reasoning policy: what stands in <think>...</think>, [THINK], channels
    and the like, or before a </think> whose beginning is in the prompt. An answer that never closes its first thought
    is empty. False: thoughts are judged as part of the answer."""
    weights: dict[Dimension, float] = Field(default_factory=lambda: dict.fromkeys(DIMENSIONS, 1.0))
    """Weight of each dimension in the mean: helpfulness, logicality, faithfulness, completeness, and criteria, which
    every row must then have (docs/rewards.md). The judge is not asked about a dimension that is missing or 0, unless it
    has a gate. Paper: its four, all equal."""
    gates: dict[Dimension, float] = Field(default_factory=dict)
    """The lowest allowed score per dimension. An answer below it gets a total of 0: `logicality: 3` against answers
    that contradict themselves, `faithfulness: 5` against answers that contradict the document."""

    @field_validator("gates")
    @classmethod
    def _gates_are_on_the_scale(cls, value: dict[Dimension, float]) -> dict[Dimension, float]:
        if any(not 0 <= gate <= 10 for gate in value.values()):
            raise ValueError(f"a gate is a score from 0 to 10; got {value}")
        return value

    @field_validator("weights")
    @classmethod
    def _weights_make_a_mean(cls, value: dict[Dimension, float]) -> dict[Dimension, float]:
        if any(not 0 <= weight < float("inf") for weight in value.values()) or not sum(value.values()) > 0:
            raise ValueError(f"weights must be finite, not negative, and at least one above 0; got {value}")
        return value

    @model_validator(mode="after")
    def _embeddings_have_an_endpoint(self) -> Self:
        if self.retrieval.embedder and self.judge.kind == "offline":
            raise ValueError(
                f"retrieval.kind is {self.retrieval.kind}, which asks an endpoint, and judge.kind is offline; set "
                "judge.kind=openai, or retrieval.kind=bm25"
            )
        if self.retrieval.embedder and self.judge.kind == "vllm" and not self.retrieval.embeddings.base_url:
            raise ValueError(
                f"retrieval.kind is {self.retrieval.kind}, and the judge of judge.kind=vllm has no embeddings; set "
                "retrieval.embeddings.base_url, or retrieval.kind=bm25"
            )
        return self

    @property
    def needed(self) -> list[Dimension]:
        """The dimensions with a weight or a gate, in the order of `EVERY_DIMENSION`."""
        return [name for name in EVERY_DIMENSION if self.weights.get(name, 0) > 0 or name in self.gates]

    @property
    def uses_criteria(self) -> bool:
        """Whether each row needs criteria of its own."""
        return "criteria" in self.needed
