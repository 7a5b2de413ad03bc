"""The reward's configuration. Every field says what it does; an unknown key is an error, not a default."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from longreward.errors import ConfigError
from longreward.schema import DIMENSIONS, Dimension


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JudgeConfig(Section):
    kind: Literal["openai", "offline"] = "offline"
    """`openai`: any OpenAI-compatible endpoint. `offline`: rules without a network, a stand-in to try things out."""
    base_url: str | None = None
    """The endpoint, such as http://host:8000/v1. Needed for `openai`."""
    model: str | None = None
    """The judge model's name at that endpoint. Needed for `openai`."""
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
    """Deadline of a judge call in seconds, all attempts and waits together."""
    max_attempts: int = Field(4, ge=1)
    """Attempts per judge call, the first included."""
    retry_base_s: float = Field(0.5, ge=0)
    """First back-off in seconds; it doubles with each attempt and is jittered."""
    max_in_flight: int = Field(256, ge=1)
    """Most requests under way at once, per process."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, passed as they are (for example chat_template_kwargs of vLLM)."""

    @model_validator(mode="after")
    def _endpoint_is_named(self) -> JudgeConfig:
        missing = [name for name in ("base_url", "model") if not getattr(self, name)]
        if self.kind == "openai" and missing:
            raise ValueError(f"judge.kind is openai but {' and '.join(f'judge.{m}' for m in missing)} is not set")
        return self

    @field_validator("base_url")
    @classmethod
    def _url_is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} is no URL; write it as http://host:port/v1")
        return value


class CacheConfig(Section):
    path: Path | None = None
    """Where judged verdicts are kept between runs; off when null."""

    @field_validator("path")
    @classmethod
    def _not_yet(cls, value: Path | None) -> Path | None:
        if value is not None:
            raise ValueError("this version has no persistent cache; leave cache.path null")
        return value


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


class RewardConfig(Section):
    judge: JudgeConfig = JudgeConfig()
    """Who judges."""
    cache: CacheConfig = CacheConfig()
    """Verdicts kept between runs."""
    retrieval: RetrievalConfig = RetrievalConfig()
    """How evidence is found in the document."""
    chunking: ChunkingConfig = ChunkingConfig()
    """How the document is cut."""
    weights: dict[Dimension, float] = Field(default_factory=lambda: dict.fromkeys(DIMENSIONS, 1.0))
    """Weight of each dimension in the mean; a dimension left out or at 0 is not asked for. Paper: all equal."""
    faithfulness_without_statements: float = Field(5.0, ge=0, le=10)
    """Faithfulness of an answer that states no fact (a refusal, say): nothing false was said, nothing shown either."""

    @field_validator("weights")
    @classmethod
    def _weights_make_a_mean(cls, value: dict[Dimension, float]) -> dict[Dimension, float]:
        if any(not 0 <= weight < float("inf") for weight in value.values()) or not sum(value.values()) > 0:
            raise ValueError(f"weights must be finite, not negative, and at least one above 0; got {value}")
        return value

    @property
    def needed(self) -> list[Dimension]:
        """The dimensions that count, in their usual order."""
        return [name for name in DIMENSIONS if self.weights.get(name, 0) > 0]


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
        field = model.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return sorted(model.model_fields)
