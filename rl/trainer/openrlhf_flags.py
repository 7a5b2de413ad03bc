"""A run's configuration as the arguments of OpenRLHF's `train_ppo_ray`. Pure: its source is read, not imported."""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.util
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from longreward.errors import ConfigError
from rl.config import RunConfig

MODULE = "openrlhf.cli.train_ppo_ray"

AGENT = Path(__file__).parents[1] / "rollout" / "agent.py"

OWNED_BY_EVERY_RUN = {
    "data.apply_chat_template": "prompts are rendered when data.train is prepared",
    "data.input_template": "prompts are rendered when data.train is prepared",
    "ckpt.path": "checkpoints are kept in the run directory; set run.dir",
    "ckpt.load_enable": "set resume=true",
    "ckpt.output_dir": "the model is kept in the run directory; set run.dir",
    "logger.tensorboard_dir": "TensorBoard files are kept in the run directory; set run.dir",
    "logger.wandb.key": "export WANDB_API_KEY and set wandb.mode",
    "logger.wandb.project": "set wandb.project",
    "logger.wandb.org": "set wandb.entity",
    "logger.wandb.group": "set wandb.group",
    "logger.wandb.run_name": "set run.name",
}
"""Flags of all of OpenRLHF's programs that a run sets itself, and what to set instead."""

OWNED = OWNED_BY_EVERY_RUN | {
    "train.agent_func_path": "the reward comes from the reward: section",
    "reward.remote_url": "set reward.name=remote and reward.remote.url",
    "reward.model_name_or_path": "set reward.name=openrlhf and reward.openrlhf.model_name_or_path",
    "data.prompt_dataset": "set data.train",
    "data.input_key": "prompts are prepared from data.train",
    "data.label_key": "prompts are prepared from data.train",
    "eval.dataset": "set data.heldout and evaluation.every",
    "eval.steps": "set evaluation.every",
    "eval.n_samples_per_prompt": "set evaluation.n_samples_per_prompt",
    "eval.temperature": "set evaluation.temperature",
}
"""Those of train_ppo_ray."""

DEFAULTS: dict[str, Any] = {
    "ckpt.save_steps": 20,  # OpenRLHF's own is never
    "ckpt.max_num": 3,
}
"""Where our default is another than OpenRLHF's."""

WANDB_KEY_PLACEHOLDER = "the-key-is-in-WANDB_API_KEY"  # OpenRLHF starts its W&B logger only if this is not empty


class _Parser(argparse.ArgumentParser):
    module = MODULE

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"openrlhf: {message}; see `python -m {self.module} --help`")


@cache
def parser(module: str = MODULE) -> argparse.ArgumentParser:
    """An OpenRLHF program's own argument parser, built from its own source without importing torch, ray or vllm.

    ConfigError when openrlhf is not installed or its source has another shape than the version this was written for.
    """
    spec = importlib.util.find_spec(module) if importlib.util.find_spec("openrlhf") else None
    if spec is None or spec.origin is None:
        raise ConfigError("openrlhf is not installed; run ./launch/install.sh (CPU), or see README.md for GPUs")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    main = next((n for n in tree.body if isinstance(n, ast.If) and "__main__" in ast.unparse(n.test)), None)
    body = main.body if main else []
    end = next((i for i, n in enumerate(body) if "parser.parse_args()" in ast.unparse(n)), None)
    if end is None:
        raise ConfigError(f"{module} has no argument parser where openrlhf 0.11.2 has it; install openrlhf==0.11.2")
    names: dict[str, Any] = {"argparse": _ArgparseWithOurErrors, "datetime": datetime}
    exec(compile(ast.Module(body=body[:end], type_ignores=[]), spec.origin, "exec"), names)
    names["parser"].module = module
    return names["parser"]


class _ArgparseWithOurErrors:
    ArgumentParser = _Parser


def build(config: RunConfig, defaults: Mapping[str, Any]) -> list[str]:
    """The argument list. `defaults` are flags of the machine (see cpu_backend) that the configuration may override.

    ConfigError for an unknown flag (with the nearest known one), a flag that the run owns, or a value OpenRLHF's parser
    does not take.
    """
    for flag in config.openrlhf:
        if flag in OWNED:
            raise ConfigError(f"openrlhf.{flag} is set by the run itself: {OWNED[flag]}")
    argv = to_argv({**DEFAULTS, **defaults, **config.openrlhf, **_owned(config)})
    parser().parse_args(argv)
    return argv


def parse(argv: list[str]) -> argparse.Namespace:
    """The flat namespace of OpenRLHF's parser, defaults included: `vars(parse(argv))["actor.num_nodes"]`."""
    return parser().parse_args(argv)


def to_argv(flags: Mapping[str, Any], module: str = MODULE, section: str = "openrlhf") -> list[str]:
    """`{"actor.adam.lr": 1e-6, "vllm.enforce_eager": True}` -> the words of a command line; null leaves a flag out.

    `section` is where the configuration has them.
    """
    actions = parser(module)._actions
    known = {option[2:]: action for action in actions for option in action.option_strings if option[:2] == "--"}
    argv: list[str] = []
    for flag, value in flags.items():
        action = known.get(flag)
        if action is None or flag == "help":
            close = difflib.get_close_matches(flag, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"see `python -m {module} --help`"
            raise ConfigError(f"{section}.{flag} is no flag of OpenRLHF; {hint}")
        if value is None:
            continue
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise ConfigError(f"{section}.{flag} is a switch: true or false, got {value!r}")
            argv += [f"--{flag}"] * value
        else:
            values = value if isinstance(value, list | tuple) else [value]
            argv += [f"--{flag}", *map(str, values)]
    return argv


def _owned(config: RunConfig) -> dict[str, Any]:
    directory = config.directory
    flags: dict[str, Any] = {
        "train.agent_func_path": AGENT,
        "data.prompt_dataset": config.prompts("train"),
        "data.input_key": "input",
        "data.label_key": "label",
        "ckpt.path": config.checkpoints,
        "ckpt.output_dir": directory / "model",
        "logger.tensorboard_dir": directory / "tensorboard",
        "logger.wandb.run_name": config.run.name,
    }
    if config.resume:
        flags["ckpt.load_enable"] = True
    if config.evaluation.every is not None and config.data.heldout is not None:
        flags["eval.dataset"] = config.prompts("heldout")
        flags["eval.steps"] = config.evaluation.every
        flags["eval.n_samples_per_prompt"] = config.evaluation.n_samples_per_prompt
        flags["eval.temperature"] = config.evaluation.temperature
    return flags | wandb_flags(config)


def wandb_flags(config: RunConfig) -> dict[str, Any]:
    """What all of OpenRLHF's programs are told of W&B."""
    if config.wandb.mode == "disabled":
        return {}
    return {
        "logger.wandb.key": WANDB_KEY_PLACEHOLDER,
        "logger.wandb.project": config.wandb.project,
        "logger.wandb.org": config.wandb.entity,
        "logger.wandb.group": config.wandb.group,
    }
