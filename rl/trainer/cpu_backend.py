"""What OpenRLHF, vLLM and DeepSpeed need on a machine without CUDA. On one with CUDA this module does nothing.

A few places in these packages take CUDA for granted. seams/cpu.py has a seam for each, seams/ puts them in place;
here is when.

It has to be applied in three kinds of processes:
  driver              apply(), before anything of openrlhf is imported
  every Ray worker    ray.init(runtime_env={"worker_process_setup_hook": "rl.trainer.ray_worker.set_up", ...})
  vLLM's subprocesses entry point `longreward_cpu` of the group `vllm.general_plugins`: apply_in_vllm()
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import select
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec
from typing import Any, NoReturn

from rl.trainer import seams
from rl.trainer.seams import WRITTEN_FOR, SeamError, installed_version
from rl.trainer.seams.cpu import LATE, SEAMS

DEVICE_VARIABLE = "LONGREWARD_DEVICE"

UNSUPPORTED_FLAGS = {
    "ds.packing_samples": "unpadding is a flash attention kernel",
    "train.dynamic_batch_enable": "it switches ds.packing_samples on",
    "ds.ring_attn_size": "it is built on flash attention: leave it at 1",
    "ds.adam_offload": "DeepSpeed takes only its own compiled Adam for it, and nothing is on a GPU anyway",
    "ds.use_liger_kernel": "its kernels are Triton",
    "vllm.enable_sleep": "vLLM refuses it on CPU",
    "vllm.sync_with_ray": "only the direct process group is replaced",
}
"""OpenRLHF's flags that cannot work here whatever is replaced, with the reason."""

FLASH_ATTN_USER = "openrlhf.models.ring_attn_utils"

logger = logging.getLogger(__name__)


def is_needed() -> bool:
    """Whether this process has no CUDA device. `LONGREWARD_DEVICE=cpu` or `=gpu` decides without importing torch.

    Ask on the driver, and hand the answer to the workers with `environment()`: Ray hides the GPUs of a machine from
    actors that reserved none, so a worker cannot tell. On a head node without a GPU, set `LONGREWARD_DEVICE=gpu`.
    Raises ValueError for any other value.
    """
    requested = _requested_device()
    if requested:
        return requested == "cpu"
    import torch

    return not torch.cuda.is_available()


def apply() -> None:
    """Make this process ready to run without CUDA; nothing at all where `is_needed()` is false. Safe to repeat.

    Raises RuntimeError if openrlhf was imported before, and SeamError if an installed package does not have the shape
    this was written for: at once for what is already imported, otherwise when it is.
    """
    if not is_needed():
        return
    if os.environ.get(DEVICE_VARIABLE) != "cpu":  # the first process of a run: those it starts inherit the decision
        os.environ[DEVICE_VARIABLE] = "cpu"
        for line in version_differences():
            logger.warning(line)
    _install()


def apply_in_vllm() -> None:
    """Entry point of the group `vllm.general_plugins`: vLLM calls it in each of its processes, wherever this
    package is installed.

    So it acts only where `LONGREWARD_DEVICE=cpu` is set, by the user or by `apply()` in the process that started the
    engine, and otherwise returns without importing anything.
    """
    if _requested_device() == "cpu":
        _install()
        # vLLM's EngineCore does not notice that its parent was killed. Ray ends it along with an actor that Ray itself
        # kills, but after an actor was killed from outside, for example by the system when memory is short, it would
        # stay for good.
        if (parent := multiprocessing.parent_process()) is not None and parent.pid is not None:
            end_with(parent.pid)


def environment() -> dict[str, str]:
    """Variables for every process of a run without CUDA: Ray's `runtime_env["env_vars"]`, and the driver's own."""
    return {
        # The driver's decision, so that no worker imports torch to repeat it. It also switches the vLLM plugin on.
        DEVICE_VARIABLE: "cpu",
        # GiB of KV cache per engine. Without it vLLM takes gpu_memory_utilization as a share of the host's memory.
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # One subprocess per engine instead of two: EngineCore runs the worker itself, and vLLM is imported once less.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # For the case of two: by default each engine binds a thread to every core, whatever else runs there.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # Learners, engines and reference share the cores. Alone, twelve steps of the quickstart took 100 s with two
        # threads and 117 s with one on two cores. Threads that spin while they wait take the cores of the others: two
        # runs at once took 244 s with them, 189 s without. Export either to change it.
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive",
        # vLLM's sampler compiles C++ at the first request, enforce_eager or not: 20 to 40 s, and it needs a compiler.
        "TORCH_COMPILE_DISABLE": "1",
        # DeepSpeed otherwise tries one accelerator after the other and takes what it finds, such as XPU.
        "DS_ACCELERATOR": "cpu",
        # Ray's logical GPUs: keep its hands off CUDA_VISIBLE_DEVICES in actors without one, and its warning away.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def openrlhf_defaults() -> dict[str, object]:
    """OpenRLHF flags, dotted as its parser spells them, that a run without CUDA needs."""
    return {
        "ds.attn_implementation": "sdpa",  # the default is flash_attention_2
        "vllm.enforce_eager": True,  # nothing to capture, and compiling takes minutes
        "vllm.sync_backend": "gloo",  # with nccl, colocate_all would hand over weights by CUDA IPC
        "vllm.gpu_memory_utilization": 0.05,  # share of the host's memory that must be free when an engine starts
    }


def version_differences() -> list[str]:
    """A sentence for each package whose installed version is not the one the seams were written for."""
    return [
        f"{package} {found or '(none)'} is installed; rl/trainer/cpu_backend.py was written for {wanted}."
        for package, wanted in WRITTEN_FOR.items()
        if (found := installed_version(package)) != wanted
    ]


def _requested_device() -> str:
    value = os.environ.get(DEVICE_VARIABLE, "")
    if value not in ("", "cpu", "gpu"):
        raise ValueError(f"{DEVICE_VARIABLE}={value!r} is not known: set it to cpu or gpu, or unset it to detect.")
    return value


@cache
def _install() -> None:
    modules = {FLASH_ATTN_USER, *(seam.module for seam in SEAMS)}
    early = sorted(name for name in modules & sys.modules.keys() - {LATE} if name.startswith("openrlhf."))
    if early:  # other modules may already hold copies of what would be replaced
        raise RuntimeError(
            f"{', '.join(early)} came before rl.trainer.cpu_backend.apply(): call apply() before that import."
        )
    seams.install(SEAMS, {FLASH_ATTN_USER: flash_attn_stub})


@contextmanager
def flash_attn_stub() -> Iterator[None]:
    """Lets `ring_attn_utils` import flash_attn, and is gone afterwards: transformers and vLLM look for the package."""

    def unusable(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            "flash attention does not run without CUDA. Leave out --ds.packing_samples, --train.dynamic_batch_enable "
            "and --ds.ring_attn_size, and use --ds.attn_implementation sdpa."
        )

    from einops import rearrange

    contents: dict[str, dict[str, Any]] = {
        "flash_attn": {},
        "flash_attn.bert_padding": dict.fromkeys(("index_first_axis", "pad_input", "unpad_input"), unusable)
        | {"rearrange": rearrange},
        "flash_attn.utils": {},
        "flash_attn.utils.distributed": {"all_gather": unusable},
    }
    before = {name: sys.modules[name] for name in contents if name in sys.modules}
    for name, attributes in contents.items():
        sys.modules[name] = stub = types.ModuleType(name)
        stub.__spec__ = ModuleSpec(name, None)
        stub.__dict__.update(attributes)
    try:
        yield
    except ImportError as error:
        raise SeamError(
            f"openrlhf {installed_version('openrlhf')}: {FLASH_ATTN_USER} cannot be imported ({error}). The stub of "
            f"flash_attn in rl/trainer/cpu_backend.py was written for openrlhf {WRITTEN_FOR['openrlhf']}. Install "
            f"openrlhf=={WRITTEN_FOR['openrlhf']}, or add the name to the stub."
        ) from error
    finally:
        for name in contents:
            del sys.modules[name]
        sys.modules.update(before)


def end_with(process: int) -> None:
    """End this process when the one with that id has ended, at once if it has ended already."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=wait, name="longreward-end-with", daemon=True).start()
