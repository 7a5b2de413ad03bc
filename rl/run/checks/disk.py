"""Room on the disk for a run's checkpoints and its trained model, and how often it saves."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from longreward.preflight.finding import Finding
from longreward.text.amounts import file_size
from rl.config import RunConfig
from rl.trainer import model_folder
from rl.trainer.openrlhf_flags import Flags


def findings(config: RunConfig, flags: Flags, prompts: int | None, count: Callable[[], int | None]) -> list[Finding]:
    """The room that a run takes against what is free, and whether it saves anything before a crash could cost it all.

    `prompts` are trained on in each episode; None: `count` counts them, but is asked only where that can decide.
    """
    found = [_room(config, flags, prompts, count)]
    every, steps = flags.ckpt_save_steps, flags.steps(prompts) if prompts else None
    if every < 0 or flags.ckpt_disable_ds:
        sentence = "no checkpoint is saved: a crash loses everything"
        found.append(Finding.note("disk", sentence, "set openrlhf.ckpt.save_steps=20"))
    elif steps is not None and every > steps:
        sentence = f"a checkpoint is saved every {every} steps and the run has {steps}: a crash loses everything"
        found.append(Finding.note("disk", sentence, "lower openrlhf.ckpt.save_steps"))
    return found


def _room(config: RunConfig, flags: Flags, prompts: int | None, count: Callable[[], int | None]) -> Finding:
    """What checkpoints and the trained model take, as far as the policy's folder tells, against what is free."""
    if flags.ckpt_max_num < 2 and flags.ckpt_save_steps > 0 and not flags.ckpt_disable_ds:
        why = "openrlhf.ckpt.max_num=1: OpenRLHF deletes the only checkpoint before it writes the next"
        return Finding.problem("disk", why, "set it to 2 at least, or a kill at that moment leaves nothing")
    model, above = flags.policy, (config.directory, *config.directory.parents)
    folder = next(path for path in above if path.exists())
    parameters = model_folder.count_parameters(Path(model))
    if parameters is None:
        sentence = f"disk space was not checked: {model} is not a local folder"
        each = 2 if flags.ds_lora_rank else 14
        room = f"{each} bytes per parameter free for each checkpoint ({8 * each} GB for 8 billion)"
        return Finding.note("disk", sentence, f"have {room}, and 2 for the model")
    free = shutil.disk_usage(folder).free
    if config.resume and config.checkpoints.is_dir():
        free += sum(path.stat().st_size for path in config.checkpoints.rglob("*") if path.is_file())
    kept, needed, sizes = _needed(flags, parameters, math.inf)
    if needed > free and prompts is None:
        prompts = count()
    if prompts is not None:
        kept, needed, sizes = _needed(flags, parameters, flags.steps(prompts))
    one, model_size, in_all, there = map(file_size, (*sizes, needed, free))
    optimizer = "" if flags.ds_lora_rank else ", their fp32 copy and Adam's two moments 12"
    sentence = (
        f"{kept} checkpoint{'s' * (kept != 1)} of {one} ({parameters:,} parameters: weights 2 bytes each"
        f"{optimizer}) and the model, {model_size}: {in_all} of {there} free in {folder}"
    )
    if needed > free:
        action = "free some, set run.dir to another disk, or lower openrlhf.ckpt.max_num"
        return Finding.problem("disk", f"too little room for {sentence}", action)
    return Finding.ok("disk", sentence)


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
    saves_weights = flags.ckpt_save_hf and not adapters and saved < math.inf
    hugging_face = saved * weights if saves_weights else 0  # these are never deleted
    checkpoint = (weights + optimizer) * (2 if flags.algo_advantage_estimator == "gae" else 1)
    most_bytes = flags.ckpt_max_mem * 2**30 + checkpoint
    return int(kept), min(kept * checkpoint, most_bytes) + weights + hugging_face, (checkpoint, weights)
