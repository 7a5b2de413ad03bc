"""LoRA online: OpenRLHF sends a PEFT model's parameters to vLLM under PEFT's names (OpenRLHF issue 1349).

vLLM has neither `base_model.model...` nor `lora_A`, so the first update of an engine's weights would end the run. Here
OpenRLHF sends what the adapter makes of the model instead: each adapted weight with the adapter's product added, all
others as they are, under the names of the model without the adapter. The learner's own weights stay as they are, and
how a weight is sent (NCCL, CUDA IPC, gloo) is left to OpenRLHF.

`apply()` in every Ray worker of a run; it acts only in the policy's learners, and only with `ds.lora.rank` above 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from rl.trainer import seams


def broadcast_to_vllm(original: Any, self: Any) -> None:
    """It sends LoRA weights under names that vLLM does not have (OpenRLHF issue 1349)."""
    from peft import PeftModel

    actor, model = self.actor, self.actor.model.module
    if not isinstance(model, PeftModel):
        original(self)
        return
    try:
        # One by one, so that merged weights take next to no memory beside the learner's own.
        for weights in merged_weights(model, sharded=self.strategy.args.ds.zero_stage == 3):
            sent = SimpleNamespace(named_parameters=weights.items)
            self.actor = SimpleNamespace(model=SimpleNamespace(module=sent), is_vlm=getattr(actor, "is_vlm", False))
            original(self)
    finally:
        self.actor = actor


def merged_weights(model: Any, *, sharded: bool = False) -> Iterator[dict[str, Any]]:
    """The parameters that a PEFT model has once its adapter is merged, by the plain model's names: first those that
    have no adapter, as they are; then each of the others, as a new one.

    `sharded`: the parameters lie in parts on all learners (ZeRO-3). Then all of them must come here together, and what
    is given first is still in parts.
    """
    import deepspeed
    import torch
    from peft.tuners.lora import LoraLayer

    plain = model.get_base_model()
    layers: dict[str, Any] = {name: layer for name, layer in plain.named_modules() if isinstance(layer, LoraLayer)}
    inside = {id(parameter) for layer in layers.values() for parameter in _adapted(layer)}
    others = {name: value for name, value in plain.named_parameters() if id(value) not in inside}
    yield {name.replace(".base_layer.", "."): value for name, value in others.items()}
    for name, layer in layers.items():
        weight = layer.get_base_layer().weight
        with torch.no_grad(), deepspeed.zero.GatheredParameters(_adapted(layer), enabled=sharded):
            total = weight.detach().clone()
            for adapter in layer.active_adapters:
                total += layer.get_delta_weight(adapter)
        merged = torch.nn.Parameter(total)
        merged.ds_shape = total.shape  # OpenRLHF asks for it under ZeRO-3
        yield {f"{name}.weight": merged}


def _adapted(layer: Any) -> list[Any]:
    """The parameters that merging a layer needs: its weight and the adapter's."""
    bias = getattr(layer.get_base_layer(), "bias", None)
    return [parameter for parameter in layer.parameters() if parameter is not bias]


_RELIES_ON = {
    "model = self.actor.model.module": "The weights to send are put where it looks for the model.",
    '(n, p) for n, p in model.named_parameters() if p.requires_grad or not getattr(self.actor, "is_vlm", False)': (
        "The weights to send are given to it as the model's parameters."
    ),
    "shape = param.shape if self.strategy.args.ds.zero_stage != 3 else param.ds_shape": (
        "A merged weight is no parameter of DeepSpeed's and has just what it asks for."
    ),
}
_seam = partial(seams.Seam, file="rl/trainer/seams/lora.py", purpose="to train with LoRA")
_broadcast = partial(_seam, "openrlhf.trainer.ray.ppo_actor", "ActorPPOTrainer.broadcast_to_vllm", "self")

SEAMS = [
    *(_broadcast(why, source=source) for source, why in _RELIES_ON.items()),
    _broadcast("It sends LoRA weights under names that vLLM does not have (OpenRLHF issue 1349).", broadcast_to_vllm),
    _seam(
        "peft.tuners.lora.layer",
        "Linear.get_delta_weight",
        "self adapter",
        "It is what the adapter adds to a weight.",
        source="* self.scaling[adapter]",
    ),
]


def apply() -> None:
    """Put it in place for when OpenRLHF is imported. Raises `seams.SeamError` where OpenRLHF has another shape."""
    seams.install(SEAMS)
