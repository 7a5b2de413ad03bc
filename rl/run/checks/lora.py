"""What a LoRA adapter needs of the policy and of the other flags; without these checks it is told after minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from longreward.preflight.finding import Finding
from rl.trainer import model_folder
from rl.trainer.openrlhf_flags import Flags

_TIED = ("lm_head", "embed_tokens")
"""Modules that share one weight in a model with `tie_word_embeddings`."""


def findings(flags: Flags) -> Iterator[Finding]:
    """Problems of an online training with `ds.lora.rank`, and of 4-bit weights, which nothing else is for."""
    if flags.ds_load_in_4bit:
        sentence = (
            "openrlhf.ds.load_in_4bit does not work online: vLLM holds the weights in bfloat16 and takes no 4-bit ones"
        )
        yield Finding.problem("LoRA", sentence, "leave it out; openrlhf.ds.lora.rank works without it")
    if flags.ds_lora_rank < 0:
        sentence = f"openrlhf.ds.lora.rank is {flags.ds_lora_rank}"
        yield Finding.problem("LoRA", sentence, "set a rank such as 16, or 0 to train all weights")
    if flags.ds_lora_rank <= 0:
        return
    if flags.ds_lora_alpha <= 0:
        sentence = f"openrlhf.ds.lora.alpha is {flags.ds_lora_alpha}, and the adapter is scaled by alpha / rank"
        yield Finding.problem("LoRA", sentence, "set it to the rank or twice the rank")
    if not 0 <= flags.ds_lora_dropout < 1:
        sentence = f"openrlhf.ds.lora.dropout is {flags.ds_lora_dropout}"
        yield Finding.problem("LoRA", sentence, "set it to at least 0 and below 1")
    for name, wrong, why in (
        ("ds.tensor_parallel_size", flags.ds_tensor_parallel_size > 1, "DeepSpeed does not split adapters"),
        ("train.enable_ema", flags.train_enable_ema, "OpenRLHF's averaged model has no adapter"),
    ):
        if wrong:
            yield Finding.problem(
                "LoRA", f"openrlhf.{name} does not go with openrlhf.ds.lora.rank: {why}", "leave it out"
            )
    yield from _targets(flags)


def _targets(flags: Flags) -> Iterator[Finding]:
    """Whether there is what `ds.lora.target_modules` names, as far as the policy's folder tells."""
    targets = flags.ds_lora_target_modules
    if isinstance(targets, str):
        return  # OpenRLHF's default: all linear layers
    setting = f"openrlhf.ds.lora.target_modules={','.join(targets)}"
    modules = model_folder.module_names(Path(flags.policy))
    tied = [target for target in targets if target.rpartition(".")[2] in _TIED]
    if tied and model_folder.model_config(flags.policy).get("tie_word_embeddings"):
        sentence = f"{setting}: the policy's {' and '.join(_TIED)} are one weight, which an adapter would split"
        yield Finding.problem("LoRA", sentence, f"leave out {', '.join(tied)}")
    known = sorted({name.rpartition(".")[2] for name in modules})
    missing = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in modules)]
    critic, head = flags.algo_advantage_estimator == "gae", flags.ds_value_head_prefix
    if critic and head in missing:
        missing.remove(head)  # the critic has it
    if not targets or (modules and missing):
        which = f": the policy has no {', '.join(missing)}" if targets else " names none"
        action = f"take some of {', '.join(known)}" if known else "name some"
        yield Finding.problem("LoRA", setting + which, f"{action}, or leave it out for all linear layers")
    if critic and head not in targets:
        sentence = f"{setting}: the critic's value head, {head}, would stay at its random beginning"
        yield Finding.note("LoRA", sentence, "add it to the list, or leave the list out")
