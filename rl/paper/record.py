"""What each step of a reproduction was made of, so that a step is not taken for one with other settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from longreward.errors import ConfigError
from longreward.files import jsonlines
from rl.config import RunConfig

_FILE = "steps.json"
_CHANGES_NO_POLICY = re.compile(
    r"^(vllm|ckpt|logger)\.|num_nodes|num_gpus|micro_batch_size|enable_sleep|gradient_checkpointing|offload"
)
"""Flags of OpenRLHF that say where and how fast something is computed, and what is kept of it."""
_OF_REWARD = ("advantage", "shuffle", "min_group_spread", "late")
_OF_COLLECTING = ("seed", "stores", "pairs", "responses")


def deciding(config: RunConfig) -> dict[str, Any]:
    """The settings that decide what comes out of a training, as JSON: not the judge's address and limits, say, nor the
    engines' memory."""
    dumped = config.model_dump(mode="json")
    found: dict[str, Any] = {"data": dumped["data"], "reward": config.reward.scored_by() | {"judge": config.scoring}}
    found["reward"] |= {name: dumped["reward"][name] for name in _OF_REWARD}
    for section in ("openrlhf", "train_dpo", "train_sft"):
        flags = dumped.get(section) or {}
        found[section] = {name: value for name, value in flags.items() if not _CHANGES_NO_POLICY.search(name)}
    found |= {section: dumped[section] for section in ("pair", "short") if section in dumped}
    found["collect"] = {name: dumped.get("collect", {}).get(name) for name in _OF_COLLECTING}
    return as_json(found)


def as_json(found: Any) -> Any:
    return json.loads(json.dumps(found, default=str))


def check(directory: Path, name: str, made_of: dict[str, Any], *, done: bool) -> None:
    """ConfigError where the step of that name was made with other settings than it has now; where it is not done, with
    other rows than it builds on now, as its own command looks at its settings when it goes on."""
    before = _read(directory).get(name)
    if before is None or not (directory / name).is_dir():
        return
    if not done:
        before, made_of = ({key: one.get(key) for key in ("of", "against")} for one in (before, made_of))
    if before != made_of:
        raise ConfigError(
            f"{directory / name} was made with other settings ({_difference(before, made_of)}); set them back, or "
            "remove that directory and those that build on it, or set name"
        )


def write(directory: Path, name: str, made_of: dict[str, Any]) -> None:
    """For a step that begins or goes on."""
    jsonlines.write_json(directory / _FILE, _read(directory) | {name: made_of})


def _read(directory: Path) -> dict[str, dict[str, Any]]:
    """ConfigError where it cannot be read."""
    try:
        found = jsonlines.read_json(directory / _FILE) or {}
        if isinstance(found, dict) and all(isinstance(each, dict) for each in found.values()):
            return found
    except ValueError:
        pass
    raise ConfigError(f"{directory / _FILE} is damaged; remove it, and the runs that other settings may have made")


def _difference(before: Any, now: Any, at: str = "") -> str:
    """The first place where two settings differ, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                return _difference(before.get(key), now.get(key), f"{at}.{key}" if at else key)
    return f"{at} was {before!r} and is {now!r}"
