"""The places where OpenRLHF, vLLM and DeepSpeed take CUDA for granted. cpu_backend.py says when they are applied.

Each is a seam: a small function below that says what it replaces, the shape that must have, and why. Importing this
module replaces nothing, and imports none of these packages.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rl.trainer.seams import Seam

SEAMS: list[Seam] = []
LATE = "openrlhf.utils.utils"
"""Its names are taken when they are needed: it may be imported before the seams are in place."""


def _seam(
    module: str, name: str, parameters: str, source: str = "", source_of: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as the replacement of a name; its docstring says why."""

    def register(replacement: Callable[..., Any]) -> Callable[..., Any]:
        why = inspect.getdoc(replacement) or ""
        SEAMS.append(Seam(module, name, parameters, why, replacement, source, source_of))
        return replacement

    return register


@_seam("torch.cuda", "current_device", "")
def _current_device(original: Any) -> Any:
    """It raises without CUDA, and openrlhf asks it where to put every tensor."""
    import torch

    return torch.device("cpu")


@_seam("torch.cuda", "synchronize", "device")
@_seam("torch.cuda", "set_device", "device")
@_seam("torch.cuda", "current_stream", "device")
def _nothing(original: Any, device: Any = None) -> None:
    """It raises without CUDA, and openrlhf calls it on every path."""


@_seam(
    "openrlhf.utils.distributed_util",
    "stateless_init_process_group",
    "master_address master_port rank world_size device",
    source="PyNcclCommunicator(",
)
def _gloo_weight_sync(
    original: Any, master_address: str, master_port: int, rank: int, world_size: int, device: Any
) -> _GlooGroup:
    """It builds an NCCL communicator to send weights from the learner to the engines."""
    from vllm.distributed.utils import stateless_init_torch_distributed_process_group as init

    return _GlooGroup(init(master_address, master_port, rank, world_size, backend="gloo"))


class _GlooGroup:
    """All that OpenRLHF uses of a PyNcclCommunicator."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def broadcast(self, tensor: Any, src: int, stream: Any = None) -> None:
        from torch.distributed import BroadcastOptions

        # The group is not registered with torch.distributed, whose functions therefore do not take it.
        options = BroadcastOptions()
        options.rootRank, options.rootTensor = src, 0
        self._group.broadcast([tensor], options).wait()


SEAMS += [
    Seam(
        "vllm.distributed.utils",
        "stateless_init_torch_distributed_process_group",
        "host port rank world_size backend group_name return_store listen_socket",
        "It makes the gloo group that replaces NCCL in the weight sync.",
    ),
    Seam(
        "openrlhf.trainer.ray.ppo_actor",
        "ActorPPOTrainer.broadcast_to_vllm",
        "self",
        "The group that replaces NCCL in the weight sync has just this method.",
        source="self._model_update_group.broadcast(param.data, src=0, stream=torch.cuda.current_stream())",
    ),
    Seam(
        "deepspeed.runtime.engine",
        "DeepSpeedEngine.get_optimizer_configuration",
        "self optimizer_parameters adam_w_mode allow_legacy_fallback",
        "Its torch_adam parameter keeps DeepSpeed from compiling an Adam of its own.",
        source="optimizer_parameters.pop(TORCH_ADAM_PARAM,",
    ),
]


@_seam(
    "openrlhf.trainer.ray.vllm_worker_wrap",
    "WorkerWrap.update_weight",
    "self name dtype shape empty_cache",
    source='weight = torch.empty(shape, dtype=dtype, device="cuda")',
)
def _update_weight(original: Any, self: Any, name: str, dtype: Any, shape: Any, empty_cache: bool = False) -> None:
    """It receives weights on cuda."""
    import torch

    if self._model_update_with_ray:
        raise RuntimeError("--vllm.sync_with_ray does not work without CUDA: leave it out.")
    if dtype != self.model_config.dtype:
        raise RuntimeError(f"Weight {name} is sent as {dtype}, but the engine holds {self.model_config.dtype}.")
    weight = torch.empty(shape, dtype=dtype)
    self._model_update_group.broadcast(weight, src=0)
    self.model_runner.model.load_weights(weights=[(name, weight)])


@_seam(
    "vllm.model_executor.layers.utils",
    "dispatch_cpu_unquantized_gemm",
    "layer remove_weight",
    source="return layer.cpu_linear(x, weight, bias)",
    source_of="cpu_unquantized_gemm",
)
def _plain_linear(original: Any, layer: Any, remove_weight: bool) -> None:
    """It packs weights into a form that cannot take new ones: the engine would keep the first policy."""
    import torch

    layer.cpu_linear = torch.nn.functional.linear


@_seam(LATE, "convert_to_torch_dtype", "param_dtype", source="return torch.bfloat16")
def _model_dtype(original: Any, param_dtype: str) -> Any:
    """A CPU without instructions for bfloat16 takes up to fifty times as long for it as for float32."""
    return _fast(original(param_dtype))


@_seam(
    "openrlhf.utils.deepspeed.deepspeed",
    "get_eval_ds_config",
    "offload stage param_dtype deepcompile tensor_parallel_size",
)
def _inference_dtype(original: Any, *args: Any, **kwargs: Any) -> Any:
    """It has the model in bfloat16, which `_model_dtype` replaces where it is slow."""
    return _in_fast_dtype(original(*args, **kwargs))


@_seam(
    "vllm.config.model",
    "_get_and_verify_dtype",
    "model_id config dtype is_pooling_model revision config_format",
    source="return torch_dtype",
)
def _engine_dtype(original: Any, *args: Any, **kwargs: Any) -> Any:
    """As for the learner's model: OpenRLHF asks for bfloat16, which may be slow."""
    return _fast(original(*args, **kwargs))


def _fast(dtype: Any) -> Any:
    """float32 in place of half precision where the CPU has no instructions for bfloat16."""
    import torch

    half = dtype in (torch.bfloat16, torch.float16)
    return torch.float32 if half and not torch.ops.mkldnn._is_mkldnn_bf16_supported() else dtype


def _in_fast_dtype(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of DeepSpeed for models as `_model_dtype` has them."""
    import torch

    if _fast(torch.bfloat16) is torch.float32:
        config["bf16"]["enabled"] = config["fp16"]["enabled"] = False
    return config


@_seam(
    "vllm.v1.worker.gpu_model_runner",
    "GPUModelRunner._sample",
    "self logits spec_decode_metadata",
)
def _keep_random_state(original: Any, self: Any, *args: Any) -> Any:
    """A request with a seed draws a token too many for each part of its prompt, which only CUDA's generators undo."""
    discarded = _discarded(self)
    before = {index: generator.get_state() for index, generator in discarded.items()}
    output = original(self, *args)
    for index, state in before.items():
        discarded[index].set_state(state)
    return output


@_seam(
    "vllm.v1.worker.gpu_model_runner",
    "GPUModelRunner._bookkeeping_sync",
    "self scheduler_output sampler_output logits hidden_states num_scheduled_tokens",
    source="gen.set_offset(gen.get_offset() - 4)",
)
def _no_offset(original: Any, self: Any, *args: Any) -> Any:
    """It takes back a generator's offset, which those of the CPU do not have; `_keep_random_state` has done it."""
    generators, discarded = self.input_batch.generators, _discarded(self)
    self.input_batch.generators = {index: g for index, g in generators.items() if index not in discarded}
    try:
        return original(self, *args)
    finally:
        self.input_batch.generators = generators


def _discarded(runner: Any) -> dict[int, Any]:
    """The generators of requests whose prompt is not read to its end yet, by their place in the batch."""
    mask = runner.discard_request_mask.np
    return {index: generator for index, generator in runner.input_batch.generators.items() if mask[index]}


@_seam(
    "openrlhf.utils.deepspeed.deepspeed",
    "init_device_mesh",
    "device_type mesh_shape mesh_dim_names backend_override",
    source='init_device_mesh("cuda",',
    source_of="DeepspeedStrategy.setup_distributed",
)
def _cpu_mesh(original: Any, device_type: str, *args: Any, **kwargs: Any) -> Any:
    """The mesh is made for cuda."""
    return original("cpu", *args, **kwargs)


@_seam(
    "openrlhf.utils.deepspeed.deepspeed",
    "get_train_ds_config",
    "offload adam_offload stage param_dtype max_norm zpg grad_accum_dtype overlap_comm use_ds_universal_ckpt "
    "deepcompile tensor_parallel_size optim_config",
    source='ds_config["optimizer"] = optim_config',
)
def _torch_adam(original: Any, *args: Any, **kwargs: Any) -> Any:
    """DeepSpeed would compile an Adam of its own at the first step, and bfloat16 may be slow."""
    config = _in_fast_dtype(original(*args, **kwargs))
    if "optimizer" in config:
        config["optimizer"]["params"]["torch_adam"] = True
    return config


@_seam("openrlhf.utils.deepspeed.deepspeed", "DeepspeedStrategy.moving_average", "self model model_ema beta device")
def _cpu_moving_average(original: Any, self: Any, model: Any, model_ema: Any, beta: float, device: str) -> None:
    """The actor passes the device as the literal cuda (--train.enable_ema)."""
    original(self, model, model_ema, beta, "cpu")


@_seam(
    "openrlhf.trainer.ppo_utils.replay_buffer",
    "NaiveReplayBuffer.__init__",
    "self sample_batch_size limit cpu_offload packing_samples dynamic_batch",
    source='self.target_device = torch.device(f"cuda:{torch.cuda.current_device()}")',
)
def _cpu_replay_buffer(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
    """It names a cuda device."""
    import torch

    current_device = torch.cuda.current_device
    torch.cuda.current_device = lambda: 0  # any number makes a valid name, until it is overwritten below
    try:
        original(self, *args, **kwargs)
    finally:
        torch.cuda.current_device = current_device
    self.target_device = torch.device("cpu")


@_seam(
    "deepspeed.comm.torch", "build_shm_op", "", source="if self.shm_comm_op != None:", source_of="TorchBackend.__init__"
)
def _no_shm_op(original: Any) -> None:
    """It compiles C++ at start. Without it DeepSpeed uses gloo throughout."""
