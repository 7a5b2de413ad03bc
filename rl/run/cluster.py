"""Ray: connecting to a cluster or starting one, and whether it has what the run needs."""

from __future__ import annotations

import math
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from longreward.errors import ConfigError
from rl.config import RunConfig
from rl.errors import last_line
from rl.plan import Resources

_REACH_S = 5  # seconds to connect to a cluster's head


def require_token() -> None:
    """Let a cluster of our own ask for a token, which only its processes have; what the user has set for it stays.

    Ray's processes listen on the network, and who can use one of them can run commands. Ray reads the variables when
    it is imported; where it has been, they come too late, and a cluster would not start with them.
    """
    if "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def connect(config: RunConfig, resources: Resources, device: str, env_vars: Mapping[str, str]) -> None:
    """Join the cluster that `ray.address` or RAY_ADDRESS names, or start one of our own.

    ConfigError when it does not start, does not answer or has fewer GPUs or CPUs than the run needs.
    """
    import ray

    runtime_env: dict[str, Any] = {
        "env_vars": dict(env_vars),
        "worker_process_setup_hook": "rl.trainer.ray_worker.set_up",
    }
    common: dict[str, Any] = {"namespace": f"longreward-{config.run.name}", "runtime_env": runtime_env}
    common |= {"log_to_driver": True, "logging_level": "WARNING"}
    if config.needs_own_cluster:
        # Logical GPUs stand for whatever the machine computes on; with real ones Ray counts them itself.
        logical = {"num_gpus": resources.gpus} if device == "cpu" else {}
        try:
            ray.init(
                address="local",
                num_cpus=max(resources.cpus, os.cpu_count() or 1),
                object_store_memory=math.ceil(config.ray.object_store_gb * 1e9),
                include_dashboard=False,
                **logical,
                **common,
            )
        except Exception as error:  # what Ray raises where a part of it is too slow has no class of its own
            raise ConfigError(
                f"Ray did not start on this machine: {last_line(error)} Try again when it has less to do, or start Ray "
                "with `ray start --head` and set ray.address=auto"
            ) from error
    else:
        address = config.ray.address or os.environ["RAY_ADDRESS"]
        _reach(address)
        try:
            ray.init(address=address, **common)
        except (ray.exceptions.AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
            refused = ray.exceptions.AuthenticationError
            if isinstance(error, refused) or refused.__name__ in str(error.__cause__):  # Ray quotes it
                raise ConfigError(
                    f"the Ray cluster at {address} wants another token; export RAY_AUTH_MODE=token and the "
                    "RAY_AUTH_TOKEN with which it was started"
                ) from None
            raise ConfigError(
                f"no Ray cluster answers at {address}: {last_line(error)}; is `ray start` done?"
            ) from None
    _compare(resources, ray.cluster_resources())


def _reach(address: str) -> None:
    """ConfigError where nothing listens at host:port; `ray.init` would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # `auto`, or a form that only Ray understands
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster answers at {address}: {error}; is `ray start` done?") from None


def _compare(resources: Resources, there: dict[str, float]) -> None:
    for kind, needed, each in (("GPU", resources.gpus, ""), ("CPU", resources.cpus - 1, "one per GPU, ")):
        if (found := int(there.get(kind, 0))) < needed:
            raise ConfigError(
                f"the run needs {needed} {kind}s ({each}{resources.parts}) and Ray has {found}; give Ray more (ray "
                f"start --num-{kind.lower()}s=N) or need fewer (openrlhf.train.colocate_all, *.num_gpus_per_node)"
            )


def stop_on_sigterm() -> None:
    """`ray job stop`, Slurm and systemd send SIGTERM: let it end the run the way Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
