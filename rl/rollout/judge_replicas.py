"""The servers of a run's own judge (`judge.kind: vllm`), each kept alive by a Ray actor and ended with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from longreward.config import JudgeConfig
from longreward.errors import ConfigError
from longreward.judge.own_server import settings
from longreward.judge.own_server.process import ServerProcess
from longreward.redaction import keep_secret
from rl.config import RunConfig
from rl.errors import last_line

_END_S = 20
_LOOPBACK = "127.0.0.1"


class JudgeReplica:
    """Holds one server. Ray restarts it when its process dies, on the same port."""

    def __init__(self, judge: JudgeConfig, host: str | None, port: int, key: str, log: Path) -> None:
        """`host` None: the node's own address. ConfigError where vLLM is not installed on the node."""
        self._address = host or ray.util.get_node_ip_address(), port
        command = settings.command(judge, *self._address)
        self._server = ServerProcess(command, settings.environment(key), settings.url(*self._address), log)

    def ready(self, timeout_s: float) -> tuple[str, int]:
        """Where it listens, once it answers. ConfigError where it does not."""
        self._server.wait_until_ready(timeout_s)
        return self._address

    def stop(self) -> None:
        """End the server."""
        self._server.stop()


@contextmanager
def replicas(config: RunConfig) -> Iterator[JudgeConfig]:
    """The judge of `judge.kind: vllm` as one that can be asked: its servers run on the cluster while the context lasts.

    ConfigError, with the end of its log, where a server does not start within `judge.start_timeout_s`.
    """
    judge, key = config.reward.judge, settings.new_key()
    keep_secret(key)
    # A cluster of our own is on this machine: nobody else needs to reach the judge.
    host = _LOOPBACK if config.needs_own_cluster else None
    actor = ray.remote(num_cpus=0, num_gpus=judge.gpus, max_restarts=-1, max_concurrency=2)(JudgeReplica)
    ports: set[int] = set()
    while len(ports) < judge.replicas:
        ports.add(settings.free_port())
    # The key comes as an argument: a runtime environment's variables would stand in Ray's logs and its dashboard.
    actors = [
        actor.remote(judge, host, port, key, config.directory / "logs" / f"judge-{index}.log")
        for index, port in enumerate(ports)
    ]
    try:
        hosts = _wait(actors, config)
        os.environ.update({settings.KEY: key} | settings.without_proxy([host for host, _ in hosts]))
        yield settings.asked_at(judge, hosts)
    finally:
        # Gone already, or busy: a server ends with its actor.
        with suppress(ray.exceptions.RayError):
            ray.get([each.stop.remote() for each in actors], timeout=_END_S)
        for each in actors:
            ray.kill(each)


def _wait(actors: list[Any], config: RunConfig) -> list[tuple[str, int]]:
    judge, seconds = config.reward.judge, config.run.deadline_start_s
    try:
        ray.get([each.__ray_ready__.remote() for each in actors], timeout=seconds)
        found: list[tuple[str, int]] = ray.get([each.ready.remote(judge.start_timeout_s) for each in actors])
        return found
    except ray.exceptions.GetTimeoutError:
        raise ConfigError(
            f"Ray did not place the judge's {judge.replicas} replicas with {judge.gpus} GPUs each within {seconds:g} s "
            "(run.deadline_start_s); see `ray status`, or need fewer"
        ) from None
    except ray.exceptions.RayTaskError as error:
        raise ConfigError(str(error.cause)) from None
    except ray.exceptions.RayError as error:
        raise ConfigError(f"a replica of the judge could not start: {last_line(error)}") from None
