"""What a section of a configuration file is, and the sections about a model behind endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from longreward.base_url import HeaderName, tidy

VerdictForm = Literal["written", "constrained", "distribution"]
Way = Literal["chat", "yes_no", "score", "likelihood"]
NO_KEY = "-"
"""In place of the name of a key's variable: no key is sent, not even the default one."""
OF_ENDPOINTS = ("api_key_env", "api_key_header", "max_in_flight", "requests_per_minute", "tokens_per_minute")
"""Settings that each endpoint may have for itself."""
_VOTES_DIFFER = 0.3  # below this temperature most votes are alike


class ReplyForm(NamedTuple):
    """How a judge is asked to reply; the defaults are the paper's."""

    verdict: VerdictForm = "written"
    analysis: bool = True
    votes: int = 1
    way: Way = "chat"
    curve: tuple[float, float] = (0.0, 1.0)
    """`likelihood`: the mean log-likelihood at which the support is 0.5, and the step that multiplies its odds by e."""

    @property
    def parameters(self) -> dict[str, Any]:
        """What differs from the paper's: no key otherwise, so that verdicts and scores from before there was such a
        setting stay good. Without what is not asked but reckoned."""
        asked = self._replace(curve=self._field_defaults["curve"])._asdict()
        return {name: value for name, value in asked.items() if value != self._field_defaults[name]}


PAPER_FORM = ReplyForm()


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


class HedgeConfig(Section):
    quantile: float = Field(0.8, gt=0, lt=1)
    """A call that is out longer than this share of the calls of its kind and size take is asked a second time: at
    another endpoint, or by a fresh connection where there is none. The first valid reply is the verdict, and the other
    request is cancelled."""
    budget: float = Field(0.1, ge=0, le=1)
    """At most this share of the calls is asked a second time; both requests count towards `spend`. None is while an
    endpoint refuses (429) or is slow with all calls. 0: never."""


class ModelConfig(Section):
    """A model behind OpenAI-compatible endpoints, and how it is asked."""

    _prefix: ClassVar[str] = ""
    """How messages name a setting."""

    kind: Literal["openai", "vllm", "offline"] = "offline"
    """`openai`: a model behind OpenAI-compatible endpoints. `vllm`: a model that vLLM serves for as long as the run or
    the command lasts, which starts it and ends it. `offline`: rules that need no network, for trying things out; their
    scores do not measure quality."""
    base_url: str | None = None
    """URL of the endpoint, such as http://host:8000/v1. Short for `endpoints` with one entry."""
    endpoints: list[EndpointConfig] = Field(default_factory=list)
    """Several endpoints that serve the same model. All calls about one document prefer the same endpoint."""
    model: str | None = None
    """`openai`: name of the judge model at the endpoints. `vllm`: a folder or a name on the hub. Both need it."""
    tokenizer: Path | None = None
    """Folder of the judge's tokenizer.json. All of its added tokens are made inert in documents, questions and answers,
    beside the control tokens that are known without it. Null: `model`, where that is such a folder."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key. Null: OPENAI_API_KEY, if it is set."""
    api_key_header: HeaderName | None = None
    """Header that holds the key alone, such as `api-key` for Azure. Null: `Authorization: Bearer KEY`."""
    temperature: float | None = Field(0.01, ge=0, le=2)
    """Sampling temperature of the first attempt. Null: none is sent, as to an endpoint that refuses any."""
    retry_temperature: float = Field(0.7, ge=0, le=2)
    """Sampling temperature after a reply without a valid verdict. Not sent where `temperature` is not."""
    max_tokens: int = Field(2048, ge=1)
    """Longest reply in tokens. A reply that was cut is asked for once more with twice as many and twice
    `reasoning_tokens`, one that was cut in the reasoning before it twice more."""
    reasoning_tokens: int = Field(0, ge=0)
    """Room in tokens for the reasoning before a reply. The endpoint is sent the sum of `max_tokens` and this."""
    verdict: VerdictForm = "written"
    """`written`: the formats of the prompts, read from free text. `constrained`: the server holds each reply to a JSON
    object (`response_format`), for a judge that does not follow the reply formats. `distribution`: the same, and a
    rating or a support is the mean over the judge's probabilities of all that it could have said (`logprobs`)."""
    analysis: bool = True
    """Whether the judge writes an analysis before a rating or a support. Without one a reply has a few tokens."""
    examples: bool = True
    """Whether the prompts show worked examples, which are half of most prompts. In a text of your own they stand
    between a line `Example 1` (or `Example`) and a paragraph that begins with `Now your task`."""
    votes: int = Field(1, ge=1)
    """A rating or a support is the mean of so many replies, which one request asks for (`n`), for an endpoint that
    gives no `logprobs`. They must differ: `temperature` of about 0.7."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """The field that limits the reply's length. Null: `max_tokens`, or the other one where that is refused."""
    attempt_timeout_s: float = Field(60, gt=0)
    """Deadline of one attempt in seconds, from connecting to the last byte of the reply."""
    call_timeout_s: float = Field(180, gt=0)
    """Deadline of a judge call in seconds, with all its attempts and the waits between them. Waiting for a free place
    at a working endpoint does not count."""
    max_outage_s: float | None = Field(None, gt=0)
    """While no endpoint works at all, calls wait this many seconds beyond their own deadlines; then a training run
    stops. Null: not beyond their deadlines (in training: 600)."""
    max_attempts: int | None = Field(None, ge=1)
    """The most attempts per judge call, the first included. Null: temporary faults of the endpoint (rate limits, 5xx,
    broken connections, time-outs) are retried until `call_timeout_s`."""
    parse_attempts: int = Field(3, ge=1)
    """The most attempts to get a valid verdict. Each costs tokens."""
    retry_base_s: float = Field(0.5, ge=0)
    """Wait before the second attempt, in seconds. It doubles with each attempt, up to 20 s, and varies at random."""
    hedge: HedgeConfig = HedgeConfig()
    """Second requests for calls that are slow, so that a step does not wait for a few of them."""
    max_in_flight: int = Field(256, ge=1)
    """The most requests at once, per endpoint. Fewer are sent while the endpoint refuses or times out; the number grows
    back when it works."""
    requests_per_minute: float | None = Field(None, gt=0)
    """The most requests per minute, per endpoint. Null: no limit."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """The most prompt and completion tokens per minute, per endpoint. Null: no limit."""
    price: PriceConfig = PriceConfig()
    """What the judge's tokens cost."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the request body, sent as they are (for example chat_template_kwargs of vLLM). Null removes a
    field: `{max_tokens: null}`."""

    @model_validator(mode="after")
    def _endpoints_and_form(self) -> ModelConfig:
        at = self._prefix
        if self.base_url is not None:
            if self.endpoints:
                raise ValueError(f"give {at}base_url or {at}endpoints, not both")
            self.base_url = tidy(self.base_url)
        if self.tokenizer is None and self.model and Path(self.model, "tokenizer.json").is_file():
            self.tokenizer = Path(self.model)
        urls = [endpoint.base_url for endpoint in self.endpoints]
        if len(set(urls)) < len(urls):
            raise ValueError(f"{at}endpoints names the same base_url twice: {', '.join(urls)}")
        sends = {"verdict": {"response_format"}} if self.verdict != "written" else {}
        sends |= {"votes": {"n"}} if self.votes > 1 else {}
        for setting, fields in sends.items():
            if taken := fields & self.extra_body.keys():
                given = f"{at}{setting}={getattr(self, setting)}"
                raise ValueError(f"{given} sends {', '.join(taken)}; take it out of {at}extra_body")
        if self.votes > 1 and self.verdict == "distribution":
            raise ValueError(
                f"{at}votes={self.votes} and {at}verdict=distribution are two ways to a mean; take one of them out"
            )
        if self.votes > 1 and self.temperature is not None and self.temperature < _VOTES_DIFFER:
            raise ValueError(
                f"{at}votes={self.votes} with {at}temperature={self.temperature:g} would be the same reply each time; "
                f"set {at}temperature to about 0.7"
            )
        return self

    @property
    def form(self) -> ReplyForm:
        """How it is asked to reply."""
        return ReplyForm(self.verdict, self.analysis, self.votes)

    @property
    def resolved_endpoints(self) -> list[EndpointConfig]:
        """All endpoints. A setting that an endpoint does not have is taken from the model."""
        given = self.endpoints or ([EndpointConfig(base_url=self.base_url)] if self.base_url else [])
        return [
            e.model_copy(update={name: getattr(self, name) for name in OF_ENDPOINTS if getattr(e, name) is None})
            for e in given
        ]
