"""The reward's configuration: one model per section of the YAML file. An unknown key is an error.

The docstring under a field is its text in docs/config.md (written by docs/make_config.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from longreward.base_url import HeaderName, redis_url, tidy
from longreward.errors import ConfigError
from longreward.judge_config import QUESTIONS, JudgeConfig
from longreward.model_config import ModelConfig, Section
from longreward.schema import DIMENSIONS, Dimension


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
    """A copy with this helpfulness and completeness answers the question, and loses nothing. Their product counts: one
    can make up for the other, and the smaller it is, the more a copy loses. A place among siblings says nothing of it:
    where helpfulness is ranked, completeness alone counts. Null: every copy loses, for a judge that finds each passage
    helpful."""
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
    helpfulness: HelpfulnessConfig = HelpfulnessConfig()
    """How helpfulness is found."""
    faithfulness: FaithfulnessConfig = FaithfulnessConfig()
    """How statements are verified."""
    completeness: CompletenessConfig = CompletenessConfig()
    """How completeness is judged."""
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
    """Weight of each dimension in the mean. The judge is not asked about a dimension that is missing or 0, unless it
    has a gate. Paper: all equal."""
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
    def _a_gate_needs_a_rating(self) -> Self:
        if self.helpfulness.way == "ranking" and "helpfulness" in self.gates:
            raise ValueError(
                f"gates.helpfulness is {self.gates['helpfulness']:g} and helpfulness.way is ranking, where half of all "
                "answers are below 5, good or bad; take the gate out, or set helpfulness.way=rating"
            )
        return self

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

    @model_validator(mode="after")
    def _routes_are_used(self) -> Self:
        first, routes = self.faithfulness.first, self.judge.routes
        if first is not None and first not in routes:
            raise ValueError(
                f"faithfulness.first is {first}, and judge.routes has no {first}; put its model and endpoint there"
            )
        for name, route in routes.items():
            if name != first and name not in QUESTIONS:
                known = ", ".join(QUESTIONS)
                raise ValueError(
                    f"judge.routes.{name} is asked nothing: name it after a question ({known}), or set "
                    f"faithfulness.first={name}"
                )
            if route.way == "chat":
                continue
            if name not in ("verify", first):
                raise ValueError(
                    f"judge.routes.{name}.way={route.way} verifies statements and nothing else; take it out"
                )
            if name == "verify" and self.faithfulness.statements_per_call > 1:
                raise ValueError(
                    f"judge.routes.verify.way={route.way} takes one statement at a time; set "
                    "faithfulness.statements_per_call=1"
                )
        return self

    def route_of(self, kind: str) -> str | None:
        """The name of the route that a kind of question (`JudgeRequest.kind`) takes; None for the judge itself."""
        name = {"check": self.faithfulness.first, "verify_many": "verify"}.get(kind, kind)
        return name if name in self.judge.routes else None

    def model_for(self, kind: str) -> ModelConfig:
        """The settings of the model that a kind of question is asked of."""
        name = self.route_of(kind)
        return self.judge if name is None else self.judge.route(name)

    @property
    def needed(self) -> list[Dimension]:
        """The dimensions with a weight or a gate, in the order of `DIMENSIONS`."""
        return [name for name in DIMENSIONS if self.weights.get(name, 0) > 0 or name in self.gates]

    @property
    def ranks(self) -> bool:
        """Whether the judge ranks the answers to a prompt, so that each has to come with its siblings."""
        return self.helpfulness.way == "ranking" and "helpfulness" in self.needed

    def refuse_ranking(self, whose: str) -> None:
        """ConfigError where answers are ranked, for a caller of this name that does not know which are siblings."""
        if self.ranks:
            raise ConfigError(
                f"helpfulness.way is ranking, and {whose} does not know all answers to a prompt; set "
                "helpfulness.way=rating"
            )
