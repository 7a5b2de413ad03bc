"""What every Ray worker process of a run does first, by Ray's `worker_process_setup_hook`."""

from __future__ import annotations

from rl import cpu_backend, left_out


def set_up() -> None:
    """Seams for a machine without CUDA where that is so, and the one that keeps void answers out of the gradient."""
    cpu_backend.apply()
    left_out.apply()
