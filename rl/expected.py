"""What a training run will take, before anything is spent: steps, judge calls, disk space.

From its configuration, its prompt files and its model's folder.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from longreward.doctor import Finding, Level
from longreward.estimate import Estimate, estimate
from rl import prepare_data
from rl.config import RunConfig

_LOOKED_INTO = 50  # documents of a file, as for `longreward score`


def expected(config: RunConfig, flags: Mapping[str, Any]) -> Estimate:
    """Judge calls, tokens and cost of the whole run: training, and the held-out set before and after it.

    `flags` are OpenRLHF's. Answers are taken to be half as long as they may be.
    """
    return of_run(config, flags, of_episode(config, flags))


def of_episode(config: RunConfig, flags: Mapping[str, Any]) -> Estimate:
    """Judge calls, tokens and cost of training once on all prompts."""
    return _estimate(config, flags, config.data.train, flags["data.max_samples"], flags["rollout.n_samples_per_prompt"])


def of_run(config: RunConfig, flags: Mapping[str, Any], episode: Estimate) -> Estimate:
    """As `expected`, where what one episode takes is known already."""
    total = episode.scaled(flags["train.num_episodes"])
    if config.data.heldout is None:
        return total
    evaluation = config.evaluation
    once = _estimate(config, flags, config.data.heldout, evaluation.max_prompts, evaluation.n_samples_per_prompt)
    heldout = once.scaled(2 + _evaluations(flags, episode.documents))
    return Estimate(
        **(total + heldout).model_dump(),
        answers=total.answers + heldout.answers,
        documents=total.documents + heldout.documents,
        sampled=total.sampled + heldout.sampled,
        dimensions={name: usage + heldout.dimensions[name] for name, usage in total.dimensions.items()},
    )


def sentence(found: Estimate, *, priced: bool) -> str:
    cost = f", cost {found.cost:,.2f}" if priced else ""
    return f"expected: about {found.calls:,} judge calls, {found.tokens:,} tokens{cost} for {found.answers:,} answers"


def counts(flags: Mapping[str, Any], prompts: int) -> tuple[int, int]:
    """Prompts of a full step and steps of the whole run, where `prompts` are trained on in each episode."""
    batch = max(1, min(flags["rollout.batch_size"], generated(flags)))
    return batch, math.ceil(prompts / batch) * flags["train.num_episodes"]


def generated(flags: Mapping[str, Any]) -> int:
    """Prompts whose answers are generated at a time."""
    return int(flags["rollout.vllm_generate_batch_size"] or flags["rollout.batch_size"])


def disk(config: RunConfig, flags: Mapping[str, Any], prompts: int | None = None) -> list[Finding]:
    """The room that checkpoints and the trained model take, as far as the policy's folder tells, against what is free.

    `prompts` are trained on in each episode; None: they are counted, but only where that can decide.
    """
    model, folder = flags["actor.model_name_or_path"], _existing(config.directory)
    parameters = count_parameters(Path(model))
    if parameters is None:
        sentence = f"disk space was not checked: {model} is no local folder"
        action = "have 14 bytes per parameter free for each checkpoint (112 GB for 8 billion), and 2 for the model"
        return [Finding(Level.NOTE, "disk", sentence, action)]
    free = shutil.disk_usage(folder).free
    if config.resume and config.checkpoints.is_dir():
        free += sum(path.stat().st_size for path in config.checkpoints.rglob("*") if path.is_file())
    kept, needed, sizes = _needed(flags, parameters, math.inf)
    if needed > free and prompts is None:
        prompts = count_prompts(config, flags)
    if prompts is not None:
        kept, needed, sizes = _needed(flags, parameters, counts(flags, prompts)[1])
    sentence = (
        f"{kept} checkpoint{'s' * (kept != 1)} of {size(sizes[0])} ({parameters:,} parameters: weights 2 bytes each, "
        f"their fp32 copy and Adam's two moments 12) and the model, {size(sizes[1])}: {size(needed)} of {size(free)} "
        f"free in {folder}"
    )
    if needed > free:
        action = "free some, set run.dir to another disk, or lower openrlhf.ckpt.max_num"
        return [Finding(Level.PROBLEM, "disk", f"too little room for {sentence}", action)]
    return [Finding(Level.OK, "disk", sentence)]


def _needed(flags: Mapping[str, Any], parameters: int, in_steps: float) -> tuple[int, float, tuple[float, float]]:
    """Checkpoints kept at once, bytes in all, and of one checkpoint and the model."""
    every, most = flags["ckpt.save_steps"], flags["ckpt.max_num"]
    saved = in_steps / every if every > 0 else 0
    saved = math.floor(saved) if saved < math.inf else saved
    adapters = flags["ds.lora.rank"] > 0  # all weights are in a checkpoint, the few trained ones count for nothing here
    weights, optimizer = 2 * parameters, 0 if adapters else 12 * parameters
    kept = 0 if flags["ckpt.disable_ds"] else min(saved, max(1, most))
    # Before it saves, OpenRLHF deletes the oldest until the new one is `max_num`-th; the best one is kept besides.
    kept += bool(flags["eval.dataset"] and saved != 0)
    model = 0 if adapters else weights
    hugging_face = saved * model if flags["ckpt.save_hf"] and saved < math.inf else 0  # these are never deleted
    checkpoint = (weights + optimizer) * (2 if flags["algo.advantage.estimator"] == "gae" else 1)
    most_bytes = flags["ckpt.max_mem"] * 2**30 + checkpoint
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


def count_prompts(config: RunConfig, flags: Mapping[str, Any]) -> int:
    """Prompts that an episode trains on, read off data.train as prepare_data reads it."""
    return sum(1 for _ in islice(prepare_data.rows(config.data.train, []), flags["data.max_samples"]))


def size(number: float) -> str:
    """7.3 MB, 112 GB."""
    for unit, bytes_ in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= bytes_:
            return f"{number / bytes_:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"


def model_config(model: str) -> dict[str, Any]:
    """A model folder's config.json; empty for a hub name or where it cannot be read."""
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _evaluations(flags: Mapping[str, Any], prompts: int) -> int:
    """Of the held-out set, while the run trains."""
    if not flags.get("eval.dataset") or flags["eval.steps"] < 1:
        return 0
    return counts(flags, prompts)[1] // int(flags["eval.steps"])


def _estimate(
    config: RunConfig, flags: Mapping[str, Any], source: Path, max_prompts: int | None, answers: int
) -> Estimate:
    """Of so many answers to each of the prompts that prepare_data takes from a file."""
    prompts = ((context, query) for _, context, query in islice(prepare_data.rows(source, []), max_prompts))
    tokens = max(1, flags["rollout.max_new_tokens"] // 2)
    return estimate(prompts, config.reward, answers_per_prompt=answers, answer_tokens=tokens, sample=_LOOKED_INTO)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
