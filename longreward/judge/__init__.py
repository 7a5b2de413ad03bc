"""The judge: `openai` asks an endpoint, `offline` applies rules. Both answer the same typed requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longreward.config import JudgeConfig, ModelConfig, RewardConfig
from longreward.errors import ConfigError
from longreward.judge.base import Judge, JudgeStatus, Verdict
from longreward.judge.cache import VerdictCache
from longreward.judge.requests import REQUESTS
from longreward.judge.requests.writing import WRITING
from longreward.judge.routed import RoutedJudge
from longreward.prompts import OURS, Prompts

if TYPE_CHECKING:
    from longreward.judge.engine.spend_cap import Spend


def make_judge(
    config: ModelConfig, cache: VerdictCache | None = None, prompts: Prompts = OURS, spend: Spend | None = None
) -> Judge:
    """One model, without routes and embeddings. `cache` is its to close; the offline judge needs none. `spend`: where
    its cost is counted; None: from 0 up to the config's own cap.

    What talks to endpoints is imported only when it is used. ConfigError for `vllm`, whose server nobody has started.
    """
    if config.kind == "offline":
        from longreward.judge.offline import OfflineJudge

        return OfflineJudge()
    if config.kind == "vllm":
        raise ConfigError(
            "judge.kind=vllm: a training run or a longreward command starts that judge; elsewhere start "
            "launch/judge_server.sh and set judge.kind=openai and judge.base_url"
        )
    from longreward.judge.engine.openai_judge import OpenAIJudge
    from longreward.judge.engine.spend_cap import Amount, Spend, cap_of

    if spend is None:
        spend = Spend(cap_of(config)) if isinstance(config, JudgeConfig) else Spend(Amount.unlimited())
    return OpenAIJudge.of(config, spend, cache, prompts)


def judge_of(config: RewardConfig, cache: VerdictCache | None = None, spend: Spend | None = None) -> Judge:
    """The judge of a reward, with its routes and its embedding model, under one cap on spending. As `make_judge`."""
    judge, routes = config.judge, config.judge.routes
    if judge.kind == "vllm" or not judge.asks_endpoints:
        return make_judge(judge, cache, Prompts.of(config))
    from longreward.judge.engine.embedder import Embedder
    from longreward.judge.engine.openai_judge import OpenAIJudge
    from longreward.judge.engine.spend_cap import Spend, cap_of

    spend = spend or Spend(cap_of(judge))
    owner: OpenAIJudge | None = None
    if judge.kind == "openai":
        settings = config.retrieval.embedder
        embedder = None if settings is None else Embedder(settings, judge, spend, cache)
        owner = OpenAIJudge.of(judge, spend, cache, Prompts.of(config), embedder)
    main = owner or make_judge(judge)
    others: dict[str, Judge] = {}
    for name in routes:
        route = judge.route(name)
        prompts = Prompts.of(config, route)
        if route.kind == "offline":
            others[name] = make_judge(route)
        elif owner is None:  # the cache is closed, and its counts are told, by one of them
            others[name] = owner = OpenAIJudge.of(route, spend, cache, prompts)
        else:
            others[name] = owner.beside(route, spend, prompts, shares=judge.shares_endpoints(name))
    kinds = {request.kind: config.route_of(request.kind) for request in (*REQUESTS, *WRITING)}
    asked = {kind: others[name] for kind, name in kinds.items() if name}
    return RoutedJudge(main, asked, list(others.values())) if others else main


__all__ = ["Judge", "JudgeStatus", "Verdict", "judge_of", "make_judge"]
