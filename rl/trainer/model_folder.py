"""What a model's folder tells without loading the model: whether it can be one, its configuration, its size."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from longreward.preflight.finding import Finding


def missing_model(setting: str, model: str) -> list[Finding]:
    """A problem where `model`, the value of `setting`, cannot be a model; empty where it can, or is a hub's name, which
    is not looked up."""
    if not looks_local(model):
        return []
    folder = Path(model)
    if not (folder / "config.json").is_file():
        lacking = "no model (no config.json)"
    elif not any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")):
        lacking = "no weights (a config.json, but neither .safetensors nor .bin files)"
    else:
        return []
    return [Finding.problem("files", f"{setting} {model} holds {lacking}", "give a model's folder")]


def looks_local(model: str) -> bool:
    """Whether it is a path. A hub's name has the form owner/name; whatever else looks like a path is one."""
    return model.startswith((".", "/", "~")) or model.count("/") != 1 or Path(model.split("/")[0]).exists()


def count_parameters(model: Path) -> int | None:
    """Parameters of a model's folder, by its safetensors' headers or else by its config.json; None where neither
    tells."""
    if (tensors := _tensors(model)) is not None:
        return sum(math.prod(shape) for shape in tensors.values())
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


def module_names(model: Path) -> set[str]:
    """The modules of a model's folder that have weights, dotted, by its safetensors' headers; empty where they do not
    tell."""
    return {name.rpartition(".")[0] for name in _tensors(model) or {}}


def _tensors(model: Path) -> dict[str, list[int]] | None:
    """The shape of each tensor in a model's safetensors; None where there are none, or they cannot be read."""
    found: dict[str, list[int]] = {}
    try:
        index = model / "model.safetensors.index.json"
        files = ["model.safetensors"]
        if index.is_file():
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        for path in (model / name for name in files):
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            found |= {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return found


def model_config(model: str) -> dict[str, Any]:
    """A model folder's config.json; empty for a hub name or where it cannot be read."""
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
