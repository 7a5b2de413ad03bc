"""One model at its endpoints: what all calls to it share."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Any

from longreward.config import ModelConfig, Way
from longreward.errors import ConfigError
from longreward.judge.distribution import MOST_ALTERNATIVES
from longreward.judge.engine.endpoint import Endpoint
from longreward.judge.engine.endpoints import Endpoints
from longreward.judge.engine.hedging import Hedging
from longreward.judge.engine.spend_cap import Spend, TokenEstimate
from longreward.judge.protocol.client import (
    CHAT,
    FIRST_WORD,
    LIKELIHOOD,
    SCORE,
    Api,
    EndpointClient,
    allow_open_files,
)
from longreward.judge.protocol.request_form import RequestForm
from longreward.judge.requests import JudgeRequest, VerifyStatement
from longreward.prompts import OURS, Prompts

_LATENCIES_KEPT = 1000
_APIS: dict[Way, Api] = {"chat": CHAT, "yes_no": FIRST_WORD, "score": SCORE, "likelihood": LIKELIHOOD}
_WORD = 4  # tokens: white space may stand before it
_NO_LIMITS = {"max_tokens": None, "max_completion_tokens": None}
"""In `extra_body`: no field for a reply's length is sent."""
WITHOUT_REPLY: dict[str, Any] = {
    **{"max_tokens": 0, "reasoning_tokens": 0, "temperature": None, "verdict": "written"},
    "extra_body": _NO_LIMITS,
}
"""Settings of a model that writes nothing."""
_OF_WAYS: dict[Way, dict[str, Any]] = {
    "yes_no": {"max_tokens": _WORD, "reasoning_tokens": 0},
    "likelihood": {"max_tokens": 1, "reasoning_tokens": 0},
    "score": WITHOUT_REPLY,
}


def _as_asked(config: ModelConfig) -> ModelConfig:
    """The settings with which a model is asked in its way."""
    own = _OF_WAYS.get(config.form.way)
    if own is None:
        return config
    # The reward's limits are for replies of another length.
    body = {name: value for name, value in config.extra_body.items() if name not in _NO_LIMITS}
    return config.model_copy(update=own | {"extra_body": body | own.get("extra_body", {})})


class Caller:
    """`config.model` at its endpoints, and how the calls to it go: `Call` is one of them."""

    def __init__(
        self, config: ModelConfig, spend: Spend, prompts: Prompts = OURS, beside: Caller | None = None
    ) -> None:
        """`beside`: another one that has the same model at the same endpoints; they share their limits. ConfigError as
        for `OpenAIJudge.of`."""
        config = _as_asked(config)
        self.config, self.prompts, self.api = config, prompts, self.api_of(config)
        self.tokens = TokenEstimate()
        self.counts: Counter[str] = Counter()
        self.latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)
        self.slowest: dict[tuple[str, str], float] = {}
        """Of the answered calls, seconds by kind and endpoint. Whoever takes note of them clears them."""
        self.owns_endpoints = beside is None
        self.hedging: Hedging = Hedging(config.hedge) if beside is None else beside.hedging
        self.endpoints: Endpoints = self._open(spend) if beside is None else beside.endpoints

    def _open(self, spend: Spend) -> Endpoints:
        config = self.config
        form, given = RequestForm(config.max_tokens_field), config.resolved_endpoints
        writes = config.max_tokens > 0  # an embedding model does not
        if writes and min(spend.cap) < math.inf and not form.limits(form.fields(None, 1, config.extra_body)):
            raise ConfigError(
                f"judge.extra_body={config.extra_body} sends no limit of a reply's length, which judge.spend needs; "
                "put max_tokens or max_completion_tokens there, or take judge.spend out"
            )
        allow_open_files(sum(endpoint.max_in_flight or 1 for endpoint in given))
        endpoints = [
            Endpoint(
                each, EndpointClient(each, config.attempt_timeout_s, self.api), RequestForm(config.max_tokens_field)
            )
            for each in given
        ]
        return Endpoints(endpoints, spend, config.call_timeout_s, config.max_outage_s, self.hedging)

    def api_of(self, config: ModelConfig) -> Api:
        """What is asked of the endpoints."""
        return _APIS[config.form.way]

    def material(self, request: JudgeRequest[Any], prompt: str) -> dict[str, Any]:
        """The fields of the body that hold the question, and the form of its reply where the server is to keep it."""
        form = request.form(self.config.form)
        if form.way in ("score", "likelihood"):
            assert isinstance(request, VerifyStatement)
            shown, statement = request.texts(self.prompts, form)
            if form.way == "score":
                return {"text_1": shown, "text_2": statement}
            continued = [*messages(shown), {"role": "assistant", "content": statement}]
            return {
                "messages": continued,
                "add_generation_prompt": False,
                "continue_final_message": True,
                "prompt_logprobs": 0,
            }
        asked: dict[str, Any] = {"messages": messages(prompt)}
        if form.verdict != "written":
            asked["response_format"] = request.shape(form).response_format
        if form.verdict == "distribution" or form.way == "yes_no":
            asked |= {"logprobs": True, "top_logprobs": MOST_ALTERNATIVES}
        if form.votes > 1:
            asked["n"] = form.votes
        return asked

    def stats(self) -> dict[str, float]:
        """Counts of requests sent (`judge/requests`), of second ones among them (`judge/hedged`), of those that were
        first (`judge/hedges_won`) and of failed attempts by reason (`judge/failed/...`), what is under way and waiting,
        tokens and cost so far (`judge/run_cost` too: parts of the run before this process are in both), the latest
        replies' latency in seconds (`judge/p50_s`, `judge/p95_s`)."""
        used, latencies = self.endpoints.spend.used, sorted(self.latencies) or [0.0]
        gauges = {
            "judge/hedged": float(self.hedging.hedges),
            "judge/hedges_won": float(self.hedging.won),
            "judge/in_flight": sum(e.concurrency.in_flight for e in self.endpoints),
            "judge/waiting": sum(e.waiting for e in self.endpoints),
            "judge/limit": sum(e.concurrency.limit for e in self.endpoints),
        }
        return {
            "judge/p50_s": latencies[len(latencies) // 2],
            "judge/p95_s": latencies[len(latencies) * 95 // 100],
            **{f"judge/{name}": float(count) for name, count in self.counts.items()},
            **(gauges if self.owns_endpoints else {}),  # who shares them does not count them again
            "judge/tokens": used.tokens,
            "judge/cost": used.cost,
            "judge/run_cost": used.cost,
        }

    async def aclose(self) -> None:
        if not self.owns_endpoints:
            return
        self.endpoints.aclose()
        for endpoint in self.endpoints:
            await endpoint.client.aclose()


def messages(prompt: str) -> list[dict[str, str]]:
    """The prompt as the messages of a chat completion."""
    return [{"role": "user", "content": prompt}]
