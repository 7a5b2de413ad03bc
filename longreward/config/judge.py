"""The section about the judge: its model, other models for some of its questions, and what may be spent."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from longreward.config.model import NO_KEY, OF_ENDPOINTS, ModelConfig, ReplyForm, Section, Way

QUESTIONS = (
    *("helpfulness", "rank", "logicality", "statements", "verify", "extract", "completeness", "points", "coverage"),
    *("criteria", "write"),
)
"""What a route may be named after. `verify` is also for several statements at once, `write` for all that
`longreward instruct` has written."""
_OURS = {"model", "served-model-name", "host", "port", "uds", "api-key", "middleware", "tensor-parallel-size"}
"""Flags of vLLM's server that other settings give."""
_ENDPOINTS = ("base_url", "endpoints")
_OF_CALLS = ("attempt_timeout_s", "call_timeout_s", "max_outage_s", "hedge", "max_tokens_field")
_OF_MODEL = ("price", "tokenizer", "extra_body", "max_tokens_field")


class SpendConfig(Section):
    max_cost: float | None = Field(None, gt=0)
    """The most money to spend, by `judge.price`. No call begins that could exceed it. Null: no cap."""
    max_tokens: int | None = Field(None, gt=0)
    """The most prompt and completion tokens to use, together. No call begins that could exceed it. Null: no cap."""


class LikelihoodConfig(Section):
    middle: float = -2.0
    """The mean log-likelihood of a statement's tokens at which its support is 0.5."""
    width: float = Field(0.5, gt=0)
    """How much more of it makes the odds of being supported 2.7 times as high."""


class RouteConfig(ModelConfig):
    kind: Literal["openai", "offline"] = "openai"
    """`openai`: a model behind endpoints. `offline`: the rules, which cost nothing."""
    way: Way = "chat"
    """How a statement is verified. `chat`: by the prompt of the reward, as the judge does. `yes_no`: a checker says Yes
    or No to a document and a claim, and its probability of Yes is the support (MiniCheck and every chat model with
    `logprobs`). `score`: a cross-encoder behind vLLM's /score. `likelihood`: how likely the statement is after its
    evidence (vLLM's `prompt_logprobs`). All but `chat` are for `verify` and for `faithfulness.first` alone."""
    likelihood: LikelihoodConfig = LikelihoodConfig()
    """`likelihood`: how a mean log-likelihood becomes a support."""

    @property
    def elsewhere(self) -> bool:
        """Whether it has endpoints of its own."""
        return bool(self.base_url or self.endpoints)

    @model_validator(mode="after")
    def _a_checker_has_no_form(self) -> Self:
        if self.way != "chat" and self.kind == "offline":
            raise ValueError(f"way={self.way} asks a model, and kind is offline; take one of them out")
        return self

    @property
    def form(self) -> ReplyForm:
        if self.way == "chat":
            return super().form
        return ReplyForm(way=self.way, curve=(self.likelihood.middle, self.likelihood.width))


class JudgeConfig(ModelConfig):
    _prefix: ClassVar[str] = "judge."

    replicas: int = Field(1, ge=1)
    """`vllm`: copies of the judge in a training run, each a server of its own. Commands of `longreward` start one."""
    gpus: int = Field(1, ge=1)
    """`vllm`: GPUs of each replica, which share the model (tensor parallel). Without a GPU they are logical ones."""
    args: dict[str, Any] = Field(default_factory=dict)
    """`vllm`: further flags of vLLM's server by name, such as `{max-model-len: 8192, dtype: float32}`. True gives a
    flag alone, false its `--no-` form."""
    start_timeout_s: float = Field(600, gt=0)
    """`vllm`: longest wait in seconds for all replicas to have loaded the model."""
    spend: SpendConfig = SpendConfig()
    """What may be spent: by one command, or by a whole training run."""
    routes: dict[str, RouteConfig] = Field(default_factory=dict)
    """Other judges for some questions: `{verify: {base_url: ..., model: ...}}`. Named after a kind of question (verify,
    extract, helpfulness, ...; the error about a wrong name lists them), `write` (who writes for `longreward instruct`),
    or as `faithfulness.first` says. What a route does not set is the judge's. One with an endpoint of its own names its
    model, and its key if it wants one: no key goes there otherwise. One with another model has its own price,
    tokenizer, `extra_body` and `max_tokens_field`. All routes spend from `judge.spend`."""

    @model_validator(mode="before")
    @classmethod
    def _routes_inherit(cls, data: Any) -> Any:
        routes = data.get("routes") if isinstance(data, dict) else None
        if not isinstance(routes, dict):
            return data
        return data | {"routes": {name: _with_defaults(route, data) for name, route in routes.items()}}

    @model_validator(mode="after")
    def _endpoint_is_named(self) -> Self:
        missing = [] if self.base_url or self.endpoints else ["judge.base_url"]
        missing += [] if self.model else ["judge.model"]
        if self.kind == "openai" and missing:
            raise ValueError(f"judge.kind is openai but {' and '.join(missing)} is not set")
        if self.kind == "vllm":
            self._check_own_server()
        free = "price" in self.model_fields_set and any(route.price.known for route in self.routes.values())
        if self.spend.max_cost is not None and not self.price.known and self.kind != "offline" and not free:
            raise ValueError("judge.spend.max_cost needs judge.price; without prices no cost is counted")
        for name, route in self.routes.items():
            self._check_route(name, route)
        return self

    def _check_route(self, name: str, route: RouteConfig) -> None:
        at = f"judge.routes.{name}"
        if route.kind == "offline":
            return
        own = route.elsewhere
        if not route.model:
            named = "an endpoint and no model" if own else "no model"
            raise ValueError(f"{at} names {named}; set {at}.model")
        if not own and self.kind == "offline":
            raise ValueError(f"{at} names no endpoint, and judge.kind is offline; set {at}.base_url")
        if not own and self.kind == "vllm" and route.model != self.model:
            raise ValueError(
                f"{at}.model is {route.model}, and the run serves {self.model} alone; set {at}.base_url to where it is "
                "served"
            )
        if self.spend.max_cost is not None and "price" not in route.model_fields_set:
            raise ValueError(
                f"judge.spend.max_cost needs {at}.price: it is another model; set it, to {{}} where it costs nothing"
            )

    def _check_own_server(self) -> None:
        if not self.model:
            raise ValueError("judge.kind is vllm but judge.model is not set; name a folder or a model of the hub")
        if self.base_url or self.endpoints:
            raise ValueError(
                "judge.kind is vllm, which starts its own server: take out judge.base_url and judge.endpoints, or set "
                "judge.kind=openai to ask the server there"
            )
        if taken := sorted({name.lstrip("-").replace("_", "-") for name in self.args} & _OURS):
            raise ValueError(f"judge.args.{taken[0]} is set by the run itself; take it out")

    def route(self, name: str) -> RouteConfig:
        """The route of that name, with the judge's endpoints where it names none of its own."""
        route = self.routes[name]
        if route.kind == "offline" or route.elsewhere:
            return route
        return route.model_copy(update={"base_url": self.base_url, "endpoints": self.endpoints})

    def shares_endpoints(self, name: str) -> bool:
        """Whether a route asks the judge's own model at its endpoints, with the same limits and deadlines, so that one
        limit goes for both."""
        route = self.routes[name]
        alike = all(
            getattr(route, setting) == getattr(self, setting) for setting in ("model", *OF_ENDPOINTS, *_OF_CALLS)
        )
        return alike and not route.elsewhere and route.kind == self.kind and route.way == "chat"

    @property
    def models(self) -> dict[str | None, ModelConfig]:
        """All models that are asked: the judge itself (None), and each route by its name."""
        return {None: self} | {name: self.route(name) for name in self.routes}

    @property
    def asks_endpoints(self) -> bool:
        """Whether any question leaves this process."""
        return any(model.kind != "offline" for model in self.models.values())

    @property
    def knows_prices(self) -> bool:
        """Whether any price is set, so that costs can be counted."""
        return any(model.price.known for model in self.models.values())


def _with_defaults(route: Any, judge: dict[str, Any]) -> Any:
    """What a route's mapping does not say, from the judge's."""
    if not isinstance(route, dict):
        return route
    left_out = {*_ENDPOINTS, "kind"}
    elsewhere = any(route.get(name) for name in _ENDPOINTS)
    left_out |= set(OF_ENDPOINTS) if elsewhere else set()
    left_out |= set(_OF_MODEL) if elsewhere or route.get("model", judge.get("model")) != judge.get("model") else set()
    left_out |= {"model"} if elsewhere else set()  # by one name two servers may have two models
    given = {name: judge[name] for name in ModelConfig.model_fields if name in judge and name not in left_out}
    return ({"api_key_env": NO_KEY} if elsewhere else {}) | given | route
