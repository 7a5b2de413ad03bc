"""What a run needs of Ray, against what is there. No cluster is started."""

from __future__ import annotations

import os
from collections.abc import Iterator

from longreward.errors import ConfigError
from longreward.preflight.finding import Finding
from rl.config import RunConfig
from rl.plan import RunPlan
from rl.run import cluster


def findings(plan: RunPlan[RunConfig]) -> Iterator[Finding]:
    """GPUs and CPUs of the cluster that the run would use, or of this machine."""
    config, needed = plan.config, plan.resources
    need = f"the run takes {needed.gpus} GPU{'s' * (needed.gpus != 1)} ({needed.parts}) and {needed.cpus} CPUs"
    if not config.needs_own_cluster:
        yield from _on_cluster(plan, need)
    elif plan.device == "cpu":
        here = f"without a GPU they are logical ones, of a Ray of its own on this machine's {os.cpu_count()} cores"
        yield Finding.ok("GPUs", f"{need}; {here}")
    else:
        import torch

        there = torch.cuda.device_count()
        if there >= needed.gpus:
            yield Finding.ok("GPUs", f"{need}; this machine has {there} GPUs and {os.cpu_count()} CPUs")
        elif there:
            action = "start it on a cluster (ray.address), or need fewer (openrlhf.train.colocate_all)"
            yield Finding.problem("GPUs", f"{need}, and this machine has {there} GPUs", action)
        else:
            action = "run the doctor there, or with ray.address=HOST:PORT"
            yield Finding.note("GPUs", f"{need}; the machine or cluster that has them was not looked at", action)


def _on_cluster(plan: RunPlan[RunConfig], need: str) -> Iterator[Finding]:
    import ray

    config, needed = plan.config, plan.resources
    address = config.ray.address or os.environ["RAY_ADDRESS"]
    try:
        cluster.connect(config, needed, plan.device, {})
        there, free = ray.cluster_resources(), ray.available_resources()
    except ConfigError as error:
        yield Finding.problem("GPUs", str(error))
        return
    finally:
        ray.shutdown()
    gpus, cpus, idle = (int(number) for number in (there.get("GPU", 0), there.get("CPU", 0), free.get("GPU", 0)))
    yield Finding.ok("GPUs", f"{need}; Ray at {address} has {gpus} GPUs and {cpus} CPUs")
    if idle < needed.gpus:
        sentence = f"only {idle} of Ray's {gpus} GPUs are free now: the run would wait for others to end"
        yield Finding.note("GPUs", sentence, "see `ray status`")
