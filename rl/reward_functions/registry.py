"""Reward functions by name: `reward.name` in a run's configuration picks one.

longreward, reference, remote, python, openrlhf and composite are here. A package adds its own as an entry point of the
group `longreward.rewards`: a function as for `python`, under the name that `reward.name` gives.
"""

from __future__ import annotations

import inspect
import os
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from longreward import LongReward
from longreward.errors import ConfigError, Reason
from longreward.judge import Judge
from longreward.text.chunking import TokenSpans
from rl.reward_functions import python
from rl.reward_functions.base import RewardFunction
from rl.reward_functions.composite import Composite
from rl.reward_functions.config import RewardSection
from rl.reward_functions.reference import ReferenceReward
from rl.reward_functions.remote import RemoteReward
from rl.trainer.seams.advantages import ADVANTAGE, MIN_SPREAD

GROUP = "longreward.rewards"
"""Entry points of packages that bring a reward function."""
RESERVED = frozenset(
    "total void no_spread length_correlation judge_seconds statements judge_calls free_calls judge_p50_s judge_p95_s "
    "judge_cost left_out alone n no thought_chars copied".split()
) | {f"void_{reason}" for reason in Reason}
"""Names that rl/rollout/reward_client.py logs beside what the reward consists of."""
OURS = ("longreward", "reference", "remote", "python", "openrlhf", "composite")


def check(config: RewardSection) -> None:
    """ConfigError where a reward function that is asked for is not known or lacks what it needs, as far as that can be
    told without loading a model or running code."""
    for name in dict.fromkeys([config.name, *config.parts]):
        if name not in OURS and name not in _installed():
            where = "reward.name" if name == config.name else "reward.composite.parts:"
            raise ConfigError(f"{where} {name!r} is unknown; known: {', '.join([*OURS, *sorted(_installed())])}")
    if config.name == "composite" and not config.parts:
        raise ConfigError("reward.name is composite but reward.composite.parts is empty; name some, with their weights")
    if "python" in config.parts:
        python.split(config.python)
    for name, key in (("remote", "url"), ("openrlhf", "model_name_or_path")):
        if name in config.parts and getattr(getattr(config, name), key) is None:
            raise ConfigError(f"reward {name} is asked for but reward.{name}.{key} is not set")
    token = config.remote.token_env
    if "remote" in config.parts and token and not os.environ.get(token):
        raise ConfigError(f"reward.remote.token_env names {token}, which is not set; export it, or leave token_env out")


def make(config: RewardSection, token_spans: TokenSpans, judge: Judge | None = None) -> RewardFunction:
    """The reward function that `config.name` names. ConfigError as from `check`, or where it cannot be loaded.

    `judge`: the judge that longreward asks. None: longreward makes one from `config.judge`.
    """
    check(config)
    if config.name == "composite":
        return Composite({name: _make(name, config, token_spans, judge) for name in config.parts}, config.composite)
    return _make(config.name, config, token_spans, judge)


def dimensions(config: RewardSection) -> list[str]:
    """What the reward consists of beside its total, by name: what is logged and stored, the same for every answer.

    ConfigError where two parts have the same name, or one has a name that the logs use for something else.
    """
    names: list[str] = []
    for part in config.parts:
        own = _dimensions(part, config)
        names += own
        if config.name == "composite" and part not in own:
            names.append(part)
    for name in names:
        if names.count(name) > 1 or name in RESERVED or not name or _is_a_figure(name):
            why = "is the name of two parts" if names.count(name) > 1 else "has another meaning in the logs"
            raise ConfigError(f"reward {config.name}: {name!r} {why}; give the part another name in `dimensions`")
    return names


def _is_a_figure(name: str) -> bool:
    return name.endswith("_spread") or name.startswith((ADVANTAGE, MIN_SPREAD))


def _make(name: str, config: RewardSection, token_spans: TokenSpans, judge: Judge | None) -> RewardFunction:
    match name:
        case "longreward":
            return LongReward(config, judge, token_spans)
        case "reference":
            return ReferenceReward(config.reference)
        case "remote":
            return RemoteReward(config.remote)
        case "python":
            section = config.python
            return python.PythonReward("python", _function(name, config), section.options, section.range)
        case "openrlhf":
            from rl.reward_functions.reward_model import RewardModel

            return RewardModel(config.openrlhf)
    options = config.composite.parts[name].options if config.name == "composite" else config.options
    return python.PythonReward(name, _function(name, config), options, (0.0, 10.0))


def _dimensions(name: str, config: RewardSection) -> list[str]:
    if name == "longreward":
        return list(config.needed)
    if name in OURS and name != "python":
        return [name]
    return python.parts(_function(name, config), name)


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _function(name: str, config: RewardSection) -> python.Function:
    """The user's function, of the file that `reward.python` names or of a package."""
    if name == "python":
        return python.load(*python.split(config.python))
    point = _installed()[name]
    try:
        function: Any = point.load()
    except Exception as error:
        raise ConfigError(f"reward.name {name!r}: {point.value} cannot be loaded: {error}") from error
    if not callable(function) or inspect.isclass(function):
        raise ConfigError(f"reward.name {name!r}: {point.value} is not a function; see docs/rewards.md")
    return function
