"""One model at its endpoints: what all calls to it share."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Any

from longreward.config import JudgeConfig
from longreward.errors import ConfigError
from longreward.judge.distribution import MOST_ALTERNATIVES
from longreward.judge.engine.endpoint import Endpoint
from longreward.judge.engine.endpoints import Endpoints
from longreward.judge.engine.hedging import Hedging
from longreward.judge.engine.spend_cap import Spend, TokenEstimate
from longreward.judge.protocol.client import CHAT, EndpointClient, allow_open_files
from longreward.judge.protocol.request_form import RequestForm
from longreward.judge.requests import JudgeRequest
from longreward.prompts import OURS, Prompts

_LATENCIES_KEPT = 1000


class Caller:
    """`config.model` at its endpoints, and how the calls to it go: `Call` is one of them."""

    api = CHAT

    def __init__(self, config: JudgeConfig, spend: Spend, prompts: Prompts = OURS) -> None:
        """ConfigError as for `OpenAIJudge.of`."""
        self.config, self.prompts = config, prompts
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
        self.hedging = Hedging(config.hedge)
        self.endpoints = Endpoints(endpoints, spend, config.call_timeout_s, config.max_outage_s, self.hedging)
        self.tokens = TokenEstimate()
        self.counts: Counter[str] = Counter()
        self.latencies: deque[float] = deque(maxlen=_LATENCIES_KEPT)
        self.slowest: dict[tuple[str, str], float] = {}
        """Of the answered calls, seconds by kind and endpoint. Whoever takes note of them clears them."""

    def material(self, request: JudgeRequest[Any], prompt: str) -> dict[str, Any]:
        """The fields of the body that hold the question, and the form of its reply where the server is to keep it."""
        asked: dict[str, Any] = {"messages": messages(prompt)}
        form = request.form(self.config.form)
        if form.verdict != "written":
            asked["response_format"] = request.shape(form).response_format
        if form.verdict == "distribution":
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
        return {
            "judge/p50_s": latencies[len(latencies) // 2],
            "judge/p95_s": latencies[len(latencies) * 95 // 100],
            **{f"judge/{name}": float(count) for name, count in self.counts.items()},
            "judge/hedged": float(self.hedging.hedges),
            "judge/hedges_won": float(self.hedging.won),
            "judge/in_flight": sum(e.concurrency.in_flight for e in self.endpoints),
            "judge/waiting": sum(e.waiting for e in self.endpoints),
            "judge/limit": sum(e.concurrency.limit for e in self.endpoints),
            "judge/tokens": used.tokens,
            "judge/cost": used.cost,
            "judge/run_cost": used.cost,
        }

    async def aclose(self) -> None:
        self.endpoints.aclose()
        for endpoint in self.endpoints:
            await endpoint.client.aclose()


def messages(prompt: str) -> list[dict[str, str]]:
    """The prompt as the messages of a chat completion."""
    return [{"role": "user", "content": prompt}]
