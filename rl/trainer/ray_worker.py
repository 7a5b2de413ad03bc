"""What every Ray worker process of a run does first, by Ray's `worker_process_setup_hook`."""

from __future__ import annotations

from rl.trainer import cpu_backend, masking


def set_up() -> None:
    """Seams for a machine without CUDA where that is so, and the one that keeps void answers out of the gradient."""
    cpu_backend.apply()
    masking.apply()
