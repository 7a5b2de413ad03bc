"""The reward's configuration. Every field says what it does; an unknown key is an error, not a default."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from longreward.errors import ConfigError
from longreward.schema import DIMENSIONS, Dimension


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class PriceConfig(Section):
    prompt_per_million: float = Field(0.0, ge=0)
    """Price of a million prompt tokens, in whatever currency `spend.max_cost` is meant."""
    cached_prompt_per_million: float | None = Field(None, ge=0)
    """Price of a million prompt tokens that the endpoint reports as cached; that of the others when null."""
    completion_per_million: float = Field(0.0, ge=0)
    """Price of a million completion tokens, reasoning included."""

    @property
    def known(self) -> bool:
        return self.prompt_per_million > 0 or self.completion_per_million > 0

    def cost(self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0) -> float:
        """The price of so many tokens; `cached_tokens` are among `prompt_tokens`."""
        cached = self.prompt_per_million if self.cached_prompt_per_million is None else self.cached_prompt_per_million
        fresh = (prompt_tokens - cached_tokens) * self.prompt_per_million
        return (fresh + cached_tokens * cached + completion_tokens * self.completion_per_million) / 1e6


class SpendConfig(Section):
    max_cost: float | None = Field(None, gt=0)
    """Most money to spend, by `judge.price`; no call is begun that could exceed it."""
    max_tokens: int | None = Field(None, gt=0)
    """Most prompt and completion tokens together; no call is begun that could exceed it."""


class EndpointConfig(Section):
    base_url: str
    """The endpoint, such as http://host:8000/v1."""
    api_key_env: str | None = None
    """Name of the environment variable that holds its key; `judge.api_key_env` when null."""
    max_in_flight: int | None = Field(None, ge=1)
    """Most requests under way here at once; `judge.max_in_flight` when null."""
    requests_per_minute: float | None = Field(None, gt=0)
    """Most requests a minute here; `judge.requests_per_minute` when null."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """Most tokens a minute here, prompt and completion; `judge.tokens_per_minute` when null."""

    @field_validator("base_url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no URL; write it as http://host:port/v1")
        return value.rstrip("/")


class JudgeConfig(Section):
    kind: Literal["openai", "offline"] = "offline"
    """`openai`: OpenAI-compatible endpoints. `offline`: rules without a network, a stand-in to try things out."""
    base_url: str | None = None
    """The endpoint, such as http://host:8000/v1. Short for `endpoints` with this one entry."""
    endpoints: list[EndpointConfig] = Field(default_factory=list)
    """Several endpoints that serve the same model. All calls on one document prefer the same one."""
    model: str | None = None
    """The judge model's name at the endpoints. Needed for `openai`."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; OPENAI_API_KEY, if set, when this is null."""
    temperature: float = Field(0.01, ge=0, le=2)
    """Sampling temperature of the first try; a reply that cannot be parsed is asked again at `retry_temperature`."""
    retry_temperature: float = Field(0.7, ge=0, le=2)
    """Sampling temperature after a reply that could not be parsed."""
    max_tokens: int = Field(2048, ge=1)
    """Longest reply in tokens; doubled once for a reply that was cut."""
    attempt_timeout_s: float = Field(60, gt=0)
    """Deadline of one attempt in seconds, from connecting to the last byte."""
    call_timeout_s: float = Field(180, gt=0)
    """Deadline of a judge call in seconds, all attempts and waits together; waiting for a free place in front of a
    working endpoint does not count."""
    max_outage_s: float | None = Field(None, gt=0)
    """How long calls wait, beyond their own deadlines, while no endpoint works at all; in training the run stops after
    it. Null: not beyond their deadlines (in training: 600)."""
    max_attempts: int | None = Field(None, ge=1)
    """Attempts per judge call, the first included. Null: passing faults of the endpoint (rate limits, 5xx, broken
    connections, time-outs) are retried until `call_timeout_s`."""
    parse_attempts: int = Field(3, ge=1)
    """Attempts at a reply that holds a valid verdict; they cost tokens."""
    retry_base_s: float = Field(0.5, ge=0)
    """First back-off in seconds; it doubles with each attempt, up to 20 s, and is jittered."""
    max_in_flight: int = Field(256, ge=1)
    """Most requests under way at once, per endpoint; in training the judge workers share it. Cut when the endpoint
    refuses or times out, and grown back."""
    requests_per_minute: float | None = Field(None, gt=0)
    """Most requests a minute, per endpoint; in training the judge workers share it."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """Most tokens a minute, prompt and completion, per endpoint; in training the judge workers share it."""
    price: PriceConfig = PriceConfig()
    """What tokens cost."""
    spend: SpendConfig = SpendConfig()
    """What may be spent; in training by the whole run."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, passed as they are (for example chat_template_kwargs of vLLM)."""

    @model_validator(mode="after")
    def _endpoint_is_named(self) -> JudgeConfig:
        if self.base_url is not None:
            if self.endpoints:
                raise ValueError("give judge.base_url or judge.endpoints, not both")
            # Checked and tidied as an entry of `endpoints`.
            self.base_url = EndpointConfig(base_url=self.base_url).base_url
        missing = [] if self.base_url or self.endpoints else ["judge.base_url"]
        missing += [] if self.model else ["judge.model"]
        if self.kind == "openai" and missing:
            raise ValueError(f"judge.kind is openai but {' and '.join(missing)} is not set")
        urls = [endpoint.base_url for endpoint in self.endpoints]
        if len(set(urls)) < len(urls):
            raise ValueError(f"judge.endpoints names the same base_url twice: {', '.join(urls)}")
        if self.spend.max_cost is not None and not self.price.known:
            raise ValueError("judge.spend.max_cost needs judge.price, or nothing would ever count")
        return self

    @property
    def resolved_endpoints(self) -> list[EndpointConfig]:
        """The endpoints with the judge's own settings filled in where they have none."""
        given = self.endpoints or ([EndpointConfig(base_url=self.base_url)] if self.base_url else [])
        names = ("api_key_env", "max_in_flight", "requests_per_minute", "tokens_per_minute")
        return [
            e.model_copy(update={name: getattr(self, name) for name in names if getattr(e, name) is None})
            for e in given
        ]


class CacheConfig(Section):
    path: Path | None = None
    """SQLite file that keeps good verdicts between runs, shared by all processes of a machine; off when null. Not on a
    network file system, and another file when the model behind `judge.model` changes."""


class RetrievalConfig(Section):
    kind: Literal["bm25"] = "bm25"
    """How evidence for a statement is found."""
    top_k: int = Field(5, ge=1)
    """Chunks shown to the judge per statement (paper, section 3.3: 5)."""


class ChunkingConfig(Section):
    evidence_tokens: int = Field(128, ge=8)
    """Size of the chunks that are retrieved as evidence, in tokens (paper: 128)."""
    extraction_tokens: int = Field(4096, ge=8)
    """Size of the chunks from which relevant passages are extracted, in tokens (paper: 4096)."""


class FaithfulnessConfig(Section):
    without_statements: float = Field(5.0, ge=0, le=10)
    """Faithfulness of an answer that states no fact (a refusal, say): nothing false was said, nothing shown either."""
    statements_per_call: int = Field(1, ge=1, le=20)
    """Statements verified in one judge call. The paper asks one by one; 3 to 5 cost far fewer calls."""
    skip_verbatim: bool = False
    """A statement that is word for word a sentence of the document counts as supported without asking the judge."""


class RewardConfig(Section):
    judge: JudgeConfig = JudgeConfig()
    """Who judges."""
    cache: CacheConfig = CacheConfig()
    """Verdicts kept between runs."""
    retrieval: RetrievalConfig = RetrievalConfig()
    """How evidence is found in the document."""
    chunking: ChunkingConfig = ChunkingConfig()
    """How the document is cut."""
    faithfulness: FaithfulnessConfig = FaithfulnessConfig()
    """How statements are verified."""
    weights: dict[Dimension, float] = Field(default_factory=lambda: dict.fromkeys(DIMENSIONS, 1.0))
    """Weight of each dimension in the mean; a dimension left out or at 0 is not asked for. Paper: all equal."""

    gates: dict[Dimension, float] = Field(default_factory=dict)
    """An answer with less than this in a dimension gets a total of 0, whatever the others say: `logicality: 3` for one
    that contradicts itself, `faithfulness: 5` for one that goes against the document."""

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

    @property
    def needed(self) -> list[Dimension]:
        """The dimensions that count, in their usual order."""
        return [name for name in DIMENSIONS if self.weights.get(name, 0) > 0 or name in self.gates]


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def validate(model: type[ConfigT], data: Mapping[str, Any], where: str = "config") -> ConfigT:
    """Build `model` from `data`; ConfigError with one line per mistake, naming the key, the value and a likely name."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_sentence(model, e) for e in error.errors())) from None


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; ConfigError where the file is missing or is not one."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"config file {path} does not exist; give the path of a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"config file {path} must hold `key: value` pairs, found {type(data).__name__}")
    return data


def apply_overrides(data: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Set `section.key=value` pairs in nested `data` (changed in place and returned); values are read as YAML."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key or any(not part for part in key.split(".")):
            raise ConfigError(f"{override!r} is no override; write section.key=value")
        node = data
        *parents, last = key.split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if child is None:
                child = node[parent] = {}
            if not isinstance(child, dict):
                raise ConfigError(f"{override!r}: {parent!r} holds {child!r}, not a section")
            node = child
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            node[last] = text
    return data


def _sentence(model: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path) or "the whole"
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
        return f"unknown key {key!r}; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    value = error["input"]
    shown = "" if isinstance(value, dict | list | BaseModel) else f" (got {value!r})"
    return f"{key}: {message}{shown}"


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        if part.isdigit():
            continue  # a place in a list, whose type was looked at already
        field = model.model_fields.get(part)
        kinds = [field.annotation, *get_args(field.annotation)] if field is not None else []
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return sorted(model.model_fields)
