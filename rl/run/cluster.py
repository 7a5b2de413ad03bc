"""Ray: what a run needs of it, and connecting to a cluster or starting one."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longreward.errors import ConfigError
from rl.config import RunConfig
from rl.trainer.openrlhf_flags import Flags

_REACH_S = 5  # seconds to connect to a cluster's head
_NOTICE_S = 5  # until Ray has noticed that a process is gone
_LOST_S = 60  # the same of a whole machine


@dataclass(frozen=True)
class Resources:
    """What OpenRLHF asks of Ray at once. Each of its actors and placement bundles takes one CPU beside its GPU; judge
    workers take a GPU alone."""

    gpus: int
    cpus: int
    parts: str
    """The sum in words, for messages."""


def needed(flags: Flags, config: RunConfig, *, trains: bool = True) -> Resources:
    """The logical GPUs and CPUs of a run; it waits forever for what is not there.

    Follows `openrlhf.cli.train_ppo_ray.train`: learners, reference, critic and engines, shared where colocated. Engines
    only, unless it `trains`. A reward model on GPUs comes on top.
    """
    reward_models = config.reward.gpus * config.reward.workers
    if not trains:
        return _resources({"vLLM engines": flags.engine_gpus}, reward_models)
    parts = {"learners": flags.gpus("actor")}
    colocated = flags.train_colocate_all
    if "ref" in flags.models and not (colocated or flags.train_colocate_actor_ref):
        parts["reference"] = flags.gpus("ref")
    if not colocated or flags.train_async_enable:
        parts["vLLM engines"] = flags.engine_gpus
    if "critic" in flags.models and not colocated:
        parts["critic"] = flags.gpus("critic")
    return _resources(parts, reward_models)


def _resources(parts: Mapping[str, int], reward_models: int) -> Resources:
    cpus, parts = sum(parts.values()), {**parts, "reward models": reward_models}
    in_words = " + ".join(f"{count} {name}" for name, count in parts.items() if count)
    # The trainer itself is one more actor: Ray places an actor only where a whole CPU is free, then gives it back.
    return Resources(cpus + reward_models, cpus + 1, in_words)


def connect(config: RunConfig, resources: Resources, device: str, env_vars: dict[str, str]) -> None:
    """Join the cluster that `ray.address` or RAY_ADDRESS names, or start one of our own.

    ConfigError when it does not start, does not answer or has fewer GPUs or CPUs than the run needs.
    """
    import ray

    runtime_env: dict[str, Any] = {"env_vars": env_vars, "worker_process_setup_hook": "rl.trainer.ray_worker.set_up"}
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
        except (ConnectionError, RuntimeError, ValueError) as error:
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
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    if gpus < resources.gpus:
        raise ConfigError(
            f"the run needs {resources.gpus} GPUs ({resources.parts}) and Ray has {gpus}; give Ray more "
            "(ray start --num-gpus=N) or need fewer (openrlhf.train.colocate_all, *.num_gpus_per_node)"
        )
    if cpus < resources.cpus - 1:
        raise ConfigError(
            f"the run needs {resources.cpus - 1} CPUs (one per GPU, {resources.parts}) and Ray has {cpus}; "
            "give Ray more (ray start --num-cpus=N) or need fewer (openrlhf.train.colocate_all)"
        )


def stop_on_sigterm() -> None:
    """`ray job stop`, Slurm and systemd send SIGTERM: let it end the run the way Ctrl-C does."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


_ROLES = {
    "RolloutRayActor": "a rollout engine",
    "PolicyModelActor": "a learner",
    "ReferenceModelActor": "a reference model",
    "CriticModelActor": "a critic",
    "PPOTrainer": "the trainer",
    "PPOTrainerAsync": "the trainer",
    "TrainingActor": "the trainer",
    "GenerateSamplesActor": "the rollout generator",
}
"""OpenRLHF's actors."""


def in_rollout(error: BaseException) -> bool:
    """Whether an error of OpenRLHF's loop was raised while it generated, so that no update is half done."""
    return re.search(r"in generate_(eval_)?samples", str(error)) is not None


def dead_part(error: BaseException, since: float) -> str | None:
    """The part of the run whose process died after `since` (`time.time()`), if an error of OpenRLHF's loop comes to
    that.

    The others notice in many ways, of which Ray's error is only one: a connection that is closed, say.
    """
    import ray
    from ray._private.state import actors

    job = ray.get_runtime_context().get_job_id()
    root, wait_s = _root(error), _NOTICE_S
    if isinstance(root, ray.exceptions.ActorUnavailableError):
        wait_s = _LOST_S
    elif isinstance(root, ray.exceptions.RayActorError):
        wait_s = 0
    deadline = time.monotonic() + wait_s
    while True:
        gone = [
            actor
            for actor in actors().values()
            if (actor["JobID"], actor["State"]) == (job, "DEAD")
            and actor["ActorClassName"] in _ROLES
            and actor["EndTime"] > since * 1000
        ]
        if gone:
            first = min(gone, key=lambda actor: actor["EndTime"])
            return f"{_ROLES[first['ActorClassName']]} died (process {first['Pid']})"
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)


def what_happened(error: BaseException) -> str:
    """An error of a run in one sentence."""
    return re.sub(r"^rl\.[\w.]+: ", "", last_line(error))  # our own errors are sentences; others need their type


def _root(error: BaseException) -> BaseException:
    """What Ray's errors of errors began with."""
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    return error


def last_line(error: BaseException) -> str:
    """What an error comes to: the end of its message (Ray's begin with a traceback), or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
