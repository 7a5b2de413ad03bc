"""What can be checked before anything heavy starts. Every problem is one ConfigError sentence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longreward.config import JudgeConfig
from longreward.errors import ConfigError
from longreward.judge import make_judge
from longreward.judge.requests import RateHelpfulness
from rl import cpu_backend, openrlhf_args
from rl.config import RunConfig

_JUDGE_CHECK_S = 12  # seconds; the whole preflight has to answer within 20


def choose_device(config: RunConfig) -> str:
    """`cpu` or `gpu` for this run, told to this process and all it starts by LONGREWARD_DEVICE."""
    if config.run.device != "auto":
        os.environ[cpu_backend.DEVICE_VARIABLE] = config.run.device
    try:
        device = "cpu" if cpu_backend.is_needed() else "gpu"
    except ValueError as error:
        raise ConfigError(str(error)) from None
    os.environ[cpu_backend.DEVICE_VARIABLE] = device
    return device


def flags(config: RunConfig, device: str, prompts: Path) -> list[str]:
    """OpenRLHF's argument list for this run and machine; ConfigError for flags that cannot work."""
    defaults = cpu_backend.openrlhf_defaults() if device == "cpu" else {}
    for name in ("actor.model_name_or_path", "critic.model_name_or_path", "reward.model_name_or_path"):
        model = config.openrlhf.get(name)
        if isinstance(model, str) and Path(model).is_dir():
            # Workers may have another working directory.
            config.openrlhf[name] = str(Path(model).absolute())
    argv = openrlhf_args.build(config, prompts, defaults)
    parsed = vars(openrlhf_args.parse(argv))
    for name in ("actor.model_name_or_path", "rollout.max_new_tokens", "vllm.num_engines"):
        if not parsed[name]:
            raise ConfigError(f"openrlhf.{name} is not set")
    if parsed["data.max_len"] <= parsed["rollout.max_new_tokens"]:
        raise ConfigError(
            f"openrlhf.data.max_len ({parsed['data.max_len']}) leaves no room for a prompt beside "
            f"openrlhf.rollout.max_new_tokens ({parsed['rollout.max_new_tokens']})"
        )
    if device == "cpu":
        for name, why in cpu_backend.UNSUPPORTED_FLAGS.items():
            if parsed[name] is True or (parsed[name] or 0) > 1:
                raise ConfigError(
                    f"openrlhf.{name} does not run without a GPU ({why}); leave it out, or set run.device=gpu"
                )
    return argv


def files(config: RunConfig, parsed: Mapping[str, Any]) -> list[str]:
    """Problems with files that the run reads: one sentence each, empty if all is well."""
    problems = []
    for key, path in (("data.train", config.data.train), ("data.heldout", config.data.heldout)):
        if path is not None and not path.is_file():
            problems.append(f"{key} {path} does not exist; give a JSON-lines file with idx, context, query")
    model = parsed["actor.model_name_or_path"]
    # A hub name has the form owner/name; whatever else looks like a path is one.
    looks_local = model.startswith((".", "/", "~")) or model.count("/") != 1 or Path(model.split("/")[0]).exists()
    if looks_local and not (Path(model) / "config.json").is_file():
        problems.append(
            f"openrlhf.actor.model_name_or_path {model} holds no model (no config.json); give a model's folder"
        )
    return problems


def tracking(config: RunConfig) -> None:
    """ConfigError where W&B would ask for a key on a terminal that the trainer does not have."""
    # On a cluster that runs already, the trainer's environment is the node's: it cannot be looked at from here.
    has_key = os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").is_file()
    if config.wandb.mode == "online" and config.needs_own_cluster and not has_key:
        raise ConfigError("wandb.mode is online but WANDB_API_KEY is not set; export it, or set wandb.mode=offline")


def judge(config: RunConfig) -> None:
    """One real judge call to each endpoint; ConfigError says why one cannot be used."""
    asyncio.run(_ask_each(config.reward.judge))


async def _ask_each(config: JudgeConfig) -> None:
    quick: dict[str, Any] = {
        "max_attempts": min(2, config.max_attempts or 2),
        "attempt_timeout_s": min(_JUDGE_CHECK_S, config.attempt_timeout_s),
        "call_timeout_s": min(_JUDGE_CHECK_S, config.call_timeout_s),
    }
    alone = [quick | {"base_url": None, "endpoints": [endpoint]} for endpoint in config.resolved_endpoints] or [quick]
    await asyncio.gather(*(_ask(config.model_copy(update=changes)) for changes in alone))


async def _ask(config: JudgeConfig) -> None:
    asking = make_judge(config)
    try:
        request = RateHelpfulness("en", "What is the capital of France?", "Paris is the capital of France.")
        verdict = await asking.ask(request)
    finally:
        await asking.aclose()
    if not verdict.ok:
        call, where = verdict.call, config.resolved_endpoints[0].base_url
        raise ConfigError(
            f"the judge {config.model} at {where} did not answer: {call.status} ({call.detail}); "
            "check reward.judge.base_url, reward.judge.model and the key"
        )
