"""The reward's configuration as other trainers hand it over, and a process's part of its limits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longreward.config import EndpointConfig, RewardConfig, load_yaml, validate
from longreward.errors import ConfigError

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

    ConfigError where that leaves nothing.
    """
    if processes < 1:
        raise ConfigError(f"processes is {processes}; give how many processes score, 1 or more")
    if processes == 1:
        return config
    judge = config.judge
    cost, tokens = judge.spend.max_cost, judge.spend.max_tokens
    part = {
        "base_url": None,
        "endpoints": [_endpoint(endpoint, processes) for endpoint in judge.resolved_endpoints],
        "spend": judge.spend.model_copy(
            update={
                "max_cost": None if cost is None else cost / processes,
                "max_tokens": None if tokens is None else _whole("judge.spend.max_tokens", tokens, processes),
            }
        ),
    }
    return config.model_copy(update={"judge": judge.model_copy(update=part)})


def _endpoint(endpoint: EndpointConfig, processes: int) -> EndpointConfig:
    requests, tokens = endpoint.requests_per_minute, endpoint.tokens_per_minute
    assert endpoint.max_in_flight is not None, "a resolved endpoint has it from the judge"
    part = {
        "max_in_flight": _whole("judge.max_in_flight", endpoint.max_in_flight, processes),
        "requests_per_minute": None if requests is None else requests / processes,
        "tokens_per_minute": None if tokens is None else tokens / processes,
    }
    return endpoint.model_copy(update=part)


def _whole(name: str, limit: int, processes: int) -> int:
    if limit < processes:
        raise ConfigError(f"{name} is {limit}, too little for {processes} processes; raise it or score in fewer")
    return limit // processes


def _plain(value: Any) -> Any:
    """Other libraries' mappings and lists (OmegaConf's, say) as Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    return value
