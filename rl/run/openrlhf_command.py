"""What a run tells OpenRLHF: the configuration's own flags, and those that the run sets itself."""

from __future__ import annotations

from typing import Any

from rl.config import RunConfig
from rl.trainer import cpu_backend, openrlhf_flags


def command_line(config: RunConfig, device: str) -> list[str]:
    """The arguments of train_ppo_ray for this run and machine. What the run sets itself goes before the configuration's
    flags, and those before the machine's defaults.

    ConfigError for an unknown flag (with the nearest known one), a flag that the run sets itself, or a value that
    OpenRLHF's parser does not take.
    """
    openrlhf_flags.refuse_owned("openrlhf", config.openrlhf, openrlhf_flags.OWNED)
    machine = cpu_backend.openrlhf_defaults() if device == "cpu" else {}
    return openrlhf_flags.to_argv({**openrlhf_flags.DEFAULTS, **machine, **config.openrlhf, **_owned(config)})


def directories_and_tracking(config: RunConfig) -> dict[str, Any]:
    """The flags that a run sets for every program of OpenRLHF: where its files go, and W&B."""
    flags: dict[str, Any] = {
        "ckpt.path": config.checkpoints,
        "ckpt.output_dir": config.directory / "model",
        "logger.tensorboard_dir": config.directory / "tensorboard",
        "logger.wandb.run_name": config.run.name,
    }
    if config.wandb.mode != "disabled":
        flags |= {
            "logger.wandb.key": openrlhf_flags.WANDB_KEY_PLACEHOLDER,
            "logger.wandb.project": config.wandb.project,
            "logger.wandb.org": config.wandb.entity,
            "logger.wandb.group": config.wandb.group,
        }
    return flags


def _owned(config: RunConfig) -> dict[str, Any]:
    """What the run sets for train_ppo_ray."""
    flags = directories_and_tracking(config) | {
        "train.agent_func_path": openrlhf_flags.AGENT,
        "data.prompt_dataset": config.prompts("train"),
        "data.input_key": "input",
        "data.label_key": "label",
    }
    if config.resume:
        flags["ckpt.load_enable"] = True
    if config.evaluation.every is not None and config.data.heldout is not None:
        flags["eval.dataset"] = config.prompts("heldout")
        flags["eval.steps"] = config.evaluation.every
        flags["eval.n_samples_per_prompt"] = config.evaluation.n_samples_per_prompt
        flags["eval.temperature"] = config.evaluation.temperature
    return flags
