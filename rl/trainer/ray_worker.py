"""What every Ray worker process of a run does first, by Ray's `worker_process_setup_hook`."""

from __future__ import annotations

from rl.trainer import cpu_backend
from rl.trainer.seams import lora, masking, remote_code


def set_up() -> None:
    """Seams for a machine without CUDA where that is so, and those that keep void answers out of the gradient, a
    model's own code from running and LoRA's names from vLLM."""
    cpu_backend.apply()
    masking.apply()
    remote_code.apply()
    lora.apply()
