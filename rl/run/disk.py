"""Room on the disk for a run's checkpoints and its trained model, as far as the policy's folder tells."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from longreward.preflight.finding import Finding, Severity
from longreward.text.amounts import file_size
from rl.config import RunConfig
from rl.run import judge_estimate
from rl.trainer.openrlhf_flags import Flags


def findings(config: RunConfig, flags: Flags, prompts: int | None = None) -> list[Finding]:
    """The room that checkpoints and the trained model take, as far as the policy's folder tells, against what is free.

    `prompts` are trained on in each episode; None: they are counted, but only where that can decide.
    """
    if flags.ckpt_max_num < 2 and flags.ckpt_save_steps > 0 and not flags.ckpt_disable_ds:
        why = "openrlhf.ckpt.max_num=1: OpenRLHF deletes the only checkpoint before it writes the next"
        return [Finding(Severity.PROBLEM, "disk", why, "set it to 2 at least, or a kill at that moment leaves nothing")]
    model, folder = flags.policy, _existing(config.directory)
    parameters = count_parameters(Path(model))
    if parameters is None:
        sentence = f"disk space was not checked: {model} is no local folder"
        action = "have 14 bytes per parameter free for each checkpoint (112 GB for 8 billion), and 2 for the model"
        return [Finding(Severity.NOTE, "disk", sentence, action)]
    free = shutil.disk_usage(folder).free
    if config.resume and config.checkpoints.is_dir():
        free += sum(path.stat().st_size for path in config.checkpoints.rglob("*") if path.is_file())
    kept, needed, sizes = _needed(flags, parameters, math.inf)
    if needed > free and prompts is None:
        prompts = judge_estimate.count_prompts(config, flags)
    if prompts is not None:
        kept, needed, sizes = _needed(flags, parameters, flags.steps(prompts))
    one, model_size, in_all, there = map(file_size, (*sizes, needed, free))
    sentence = (
        f"{kept} checkpoint{'s' * (kept != 1)} of {one} ({parameters:,} parameters: weights 2 bytes each, "
        f"their fp32 copy and Adam's two moments 12) and the model, {model_size}: {in_all} of {there} free in {folder}"
    )
    if needed > free:
        action = "free some, set run.dir to another disk, or lower openrlhf.ckpt.max_num"
        return [Finding(Severity.PROBLEM, "disk", f"too little room for {sentence}", action)]
    return [Finding(Severity.OK, "disk", sentence)]


def _needed(flags: Flags, parameters: int, in_steps: float) -> tuple[int, float, tuple[float, float]]:
    """Checkpoints kept at once, bytes in all, and of one checkpoint and the model."""
    every, most = flags.ckpt_save_steps, flags.ckpt_max_num
    saved = in_steps / every if every > 0 else 0
    saved = math.floor(saved) if saved < math.inf else saved
    adapters = flags.ds_lora_rank > 0  # all weights are in a checkpoint, the few trained ones count for nothing here
    weights, optimizer = 2 * parameters, 0 if adapters else 12 * parameters
    kept = 0 if flags.ckpt_disable_ds else min(saved, max(1, most))
    # Before it saves, OpenRLHF deletes the oldest until the new one is `max_num`-th; the best one is kept besides.
    kept += bool(flags.eval_dataset and saved != 0)
    model = 0 if adapters else weights
    hugging_face = saved * model if flags.ckpt_save_hf and saved < math.inf else 0  # these are never deleted
    checkpoint = (weights + optimizer) * (2 if flags.algo_advantage_estimator == "gae" else 1)
    most_bytes = flags.ckpt_max_mem * 2**30 + checkpoint
    return int(kept), min(kept * checkpoint, most_bytes) + model + hugging_face, (checkpoint, model)


def count_parameters(model: Path) -> int | None:
    """Parameters of a model's folder, by its safetensors' headers or else by its config.json; None where neither
    tells."""
    try:
        index = model / "model.safetensors.index.json"
        files = ["model.safetensors"]
        if index.is_file():
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return sum(_parameters_in(model / name) for name in files)
    except (OSError, ValueError, LookupError, TypeError):
        pass  # no weights here, or in another format
    config = model_config(str(model))
    try:
        hidden, layers, vocabulary = (config[n] for n in ("hidden_size", "num_hidden_layers", "vocab_size"))
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or hidden // heads
        attention = 2 * hidden * head * (heads + (config.get("num_key_value_heads") or heads))
        experts = config.get("num_experts") or config.get("num_local_experts") or 1
        inner = (experts > 1 and config.get("moe_intermediate_size")) or config["intermediate_size"]
        embeddings = hidden * vocabulary * (1 if config.get("tie_word_embeddings") else 2)
        return int(layers * (attention + 3 * hidden * inner * experts + 2 * hidden) + embeddings + hidden)
    except (KeyError, TypeError):
        return None


def _parameters_in(path: Path) -> int:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def model_config(model: str) -> dict[str, Any]:
    """A model folder's config.json; empty for a hub name or where it cannot be read."""
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
