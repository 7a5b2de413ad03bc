"""The reward's configuration as other trainers hand it over, and a process's part of its limits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from longreward.config import RewardConfig
from longreward.config_file import load_yaml, validate
from longreward.errors import ConfigError
from longreward.model_config import ModelConfig

M = TypeVar("M", bound=ModelConfig)

VARIABLE = "LONGREWARD_CONFIG"
"""The environment variable that names a reward YAML, for trainers that cannot hand a configuration over."""
Config = RewardConfig | Mapping[str, Any] | str | Path
"""A reward configuration: itself, a mapping with its sections, or the path of a reward YAML."""


def resolve(config: Config | None = None) -> RewardConfig:
    """The configuration that is meant; None: the reward YAML that `LONGREWARD_CONFIG` names. ConfigError otherwise."""
    if config is None:
        config = os.environ.get(VARIABLE)
        if not config:
            raise ConfigError(f"no reward configuration; give config=..., or set {VARIABLE} to the path of a YAML file")
    if isinstance(config, RewardConfig):
        return config
    if isinstance(config, str | Path):
        return validate(RewardConfig, load_yaml(Path(config)), str(config))
    return validate(RewardConfig, _plain(config), "reward config")


def divided(config: RewardConfig, processes: int) -> RewardConfig:
    """One process's part of the judge's limits and of the spend cap, so that `processes` of them together keep to them.

    ConfigError where that leaves nothing, and for a reward that needs all answers to a prompt at once: trainers deal
    them to several processes.
    """
    config.refuse_ranking("a process of the trainer")
    if processes < 1:
        raise ConfigError(f"processes is {processes}; give how many processes score, 1 or more")
    if processes == 1:
        return config

    def rate(limit: float | None) -> float | None:
        return None if limit is None else limit / processes

    def whole(name: str, limit: int | None) -> int | None:
        if limit is not None and limit < processes:
            raise ConfigError(f"{name} is {limit}, too little for {processes} processes; raise it or score in fewer")
        return None if limit is None else limit // processes

    def of_model(name: str, model: M) -> M:
        endpoints = [
            endpoint.model_copy(
                update={
                    "max_in_flight": whole(f"{name}.max_in_flight", endpoint.max_in_flight),
                    "requests_per_minute": rate(endpoint.requests_per_minute),
                    "tokens_per_minute": rate(endpoint.tokens_per_minute),
                }
            )
            for endpoint in model.resolved_endpoints
        ]
        return model.model_copy(update={"base_url": None, "endpoints": endpoints})

    judge = config.judge
    routes = {name: of_model(f"judge.routes.{name}", route) for name, route in judge.routes.items()}
    tokens = whole("judge.spend.max_tokens", judge.spend.max_tokens)
    spend = judge.spend.model_copy(update={"max_cost": rate(judge.spend.max_cost), "max_tokens": tokens})
    part = of_model("judge", judge).model_copy(update={"spend": spend, "routes": routes})
    return config.model_copy(update={"judge": part})


def _plain(value: Any) -> Any:
    """Mappings and lists of other libraries (for example OmegaConf's) as Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    return value
