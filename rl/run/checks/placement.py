"""What OpenRLHF and vLLM would refuse after Ray has given them its GPUs, or only after hours."""

from __future__ import annotations

import os
from collections.abc import Iterator

from longreward.preflight.finding import Finding
from rl.trainer import model_folder
from rl.trainer.openrlhf_flags import Flags


def findings(flags: Flags) -> Iterator[Finding]:
    """Problems with how models and engines share GPUs."""
    yield from flags.never_zero("openrlhf")
    together = flags.gpus_per_answer
    for model in flags.models:
        if flags.gpus(model) % together:
            sentence = (
                f"the {flags.gpus(model)} GPUs of openrlhf.{model} cannot be divided into groups of {together} "
                "(openrlhf.ds.ring_attn_size x openrlhf.ds.tensor_parallel_size)"
            )
            yield Finding.problem("GPUs", sentence, f"set openrlhf.{model}.num_gpus_per_node to a multiple of it")
    shares = flags.train_colocate_all or flags.train_colocate_actor_ref
    if shares and "ref" in flags.models and flags.nodes_and_gpus("actor") != flags.nodes_and_gpus("ref"):
        share = "colocate_all" if flags.train_colocate_all else "colocate_actor_ref"
        sentence = (
            f"openrlhf.train.{share} puts ref on the actor's GPUs, but their num_nodes or num_gpus_per_node differ"
        )
        yield Finding.problem("GPUs", sentence, "give openrlhf.ref what openrlhf.actor has")
    if flags.train_colocate_all and "critic" in flags.models and flags.gpus("critic") > flags.gpus("actor"):
        sentence = "openrlhf.train.colocate_all puts the critic on the actor's GPUs, but the critic needs more"
        yield Finding.problem("GPUs", sentence, "set openrlhf.critic.num_gpus_per_node to the actor's")
    actor, engines = flags.gpus("actor"), flags.engine_gpus
    if flags.train_colocate_all and not flags.train_async_enable and actor != engines:
        sentence = f"openrlhf.train.colocate_all puts engines on the actor's {actor} GPUs, but they take {engines}"
        action = "make vllm.num_engines x vllm.tensor_parallel_size as many as actor.num_nodes x num_gpus_per_node"
        yield Finding.problem("GPUs", sentence, action)
    if not flags.train_async_enable:
        ahead = flags.prompts_at_once > flags.rollout_batch_size
        for flag, value, wrong in (
            ("train.partial_rollout_enable", True, flags.train_partial_rollout_enable),
            ("rollout.vllm_generate_batch_size", flags.rollout_vllm_generate_batch_size, ahead),
        ):
            if wrong:
                sentence = f"openrlhf.{flag}={value} works only in asynchronous training"
                yield Finding.problem("GPUs", sentence, "set openrlhf.train.async_enable=true, or leave it out")
    elif flags.train_colocate_all and flags.vllm_enable_sleep:
        sentence = "openrlhf.vllm.enable_sleep does not go with asynchronous training"
        yield Finding.problem("GPUs", sentence, "leave it out")
    yield from _engines(flags)


def _engines(flags: Flags) -> Iterator[Finding]:
    """vLLM's own conditions on the model, as far as its folder tells."""
    model = model_folder.model_config(flags.policy)
    heads, parallel = model.get("num_attention_heads"), flags.vllm_tensor_parallel_size
    if isinstance(heads, int) and heads % parallel:
        sentence = f"the policy has {heads} attention heads, which vllm.tensor_parallel_size={parallel} does not divide"
        yield Finding.problem("GPUs", sentence, "set openrlhf.vllm.tensor_parallel_size to a divisor")
    longest = model.get("max_position_embeddings")
    rope = model.get("rope_parameters") or model.get("rope_scaling") or {}
    # Scaled in one of many ways, or differently from layer to layer: left to vLLM.
    scaled = any(isinstance(value, dict) for value in rope.values()) or rope.get("rope_type", "default") != "default"
    allowed = scaled or os.environ.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1"
    if isinstance(longest, int) and flags.data_max_len > longest and not allowed:
        sentence = f"the policy reads {longest:,} tokens at most and openrlhf.data.max_len is {flags.data_max_len:,}"
        yield Finding.problem("GPUs", sentence, "lower openrlhf.data.max_len, or take a model for longer texts")
