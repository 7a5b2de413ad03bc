"""A run's judge workers: started, found by document, looked at, and ended."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray

from longreward.errors import ConfigError
from longreward.judge.engine.embedder import key_variables
from longreward.judge.own_server.settings import KEY, without_proxy
from longreward.judge.protocol.address import DEFAULT_KEY, secret_from_environment
from rl.config import RunConfig
from rl.errors import last_line
from rl.rollout.judge_wait import JudgeWait
from rl.rollout.judge_worker import JudgeWorker

_LAST_WORDS_S = 5
_BUSY_S = 30
_CALLS_AT_ONCE = 10_000  # answers a worker may hold; Ray's own default for async actors is 1000
_MEMORY = 2**20  # bytes; Ray spreads only actors that reserve something
_DEATHS_PER_ANSWER = 3  # an answer whose scoring kills the worker again and again is void


@dataclass
class Workers:
    """The actors of a run's judge workers: one where the reward asks a judge, `reward.workers` otherwise."""

    actors: list[Any]
    names: list[str] = field(default_factory=list)
    run_id: str = ""
    """What they were started with: others may take their place under the same names."""
    last_stats: dict[str, dict[str, Any]] = field(default_factory=dict)

    def for_document(self, document_id: str) -> Any:
        """The worker that scores all answers about a document."""
        return self.actors[self.names.index(rendezvous(document_id, self.names))]

    def stats(self) -> list[dict[str, Any]]:
        """The stats of each worker, and the last ones known of those that died and were restarted. RayError where one
        is busy."""
        for answer in [actor.stats.remote() for actor in self.actors]:
            with suppress(ray.exceptions.RayActorError):
                stats = ray.get(answer, timeout=_BUSY_S)
                self.last_stats[stats["worker"]] = stats
        return list(self.last_stats.values())

    def judge_wait(self) -> JudgeWait:
        """How long steps have waited for the judge. RayError where a worker is busy."""
        return sum((stats["wait"] for stats in self.stats()), JudgeWait())

    def spend(self) -> dict[str, Any] | None:
        """What the run has spent on its judge, as in `spend.json`; None where there is none. RayError where the worker
        is busy or is being restarted."""
        if not self.actors:
            return None
        spent: dict[str, Any] | None = ray.get(self.actors[0].spend.remote(), timeout=_BUSY_S)
        return spent

    def kill(self) -> None:
        """End them, after a moment for what is still to be written down."""
        # Gone already, or busy: what was scored is in the store.
        with suppress(ray.exceptions.RayError):
            ray.get([actor.aclose.remote() for actor in self.actors], timeout=_LAST_WORDS_S)
        for actor in self.actors:
            ray.kill(actor)


def start(config: RunConfig, tokenizer: str | None, run_id: str) -> Workers:
    """Start the judge workers and wait until all are up; ConfigError where one does not come."""
    keys = secrets(config)
    # No CPU is reserved: they wait for the network, and a reserved CPU could keep the trainer from being placed.
    actor = ray.remote(
        num_cpus=0,
        num_gpus=config.reward.gpus,
        memory=_MEMORY,
        # Spread, they would leave no node with as many GPUs together as an engine takes.
        scheduling_strategy="DEFAULT" if config.reward.gpus else "SPREAD",
        max_concurrency=_CALLS_AT_ONCE,
        max_restarts=-1,
        max_task_retries=_DEATHS_PER_ANSWER,
    )(JudgeWorker)
    given = names(config, run_id)
    actors = [actor.options(name=name).remote(index, config, tokenizer, keys) for index, name in enumerate(given)]
    seconds = config.run.deadline_start_s
    try:
        ray.get([actor.ready.remote() for actor in actors], timeout=seconds)
    except ray.exceptions.GetTimeoutError:
        raise ConfigError(
            f"the judge workers did not start within {seconds:.0f} s; see the run's logs, or raise run.deadline_start_s"
        ) from None
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise ConfigError(f"a judge worker could not start: {last_line(cause)}") from None
    return Workers(actors, given, run_id)


def secrets(config: RunConfig) -> dict[str, str]:
    """The keys that the reward and its shadow need, from this process's environment: variable -> value. ConfigError
    where one holds what no HTTP header may hold."""
    names, reward, shadow = set(), config.reward, config.shadow_reward
    for asked in [reward, *([shadow] if shadow else [])]:
        if asked.asks_judge:
            names |= key_variables(asked) or {DEFAULT_KEY}
    if (password := reward.cache.password_variable) is not None:
        names.add(password)
    if "remote" in reward.parts and reward.remote.token_env:
        names.add(reward.remote.token_env)
    found = {name: value for name in names if (value := secret_from_environment(name))}
    # The judge of the run's own is reached directly, whatever proxy a node's environment names.
    direct = without_proxy([]) if KEY in found else {}
    return found | direct


def names(config: RunConfig, run_id: str) -> list[str]:
    """The workers' actor names, unique to this run on the cluster."""
    return [f"longreward-judge-{run_id}-{index}" for index in range(config.reward.workers)]


def rendezvous(document_id: str, workers: Sequence[str]) -> str:
    """The worker for a document: all answers about it go to the same one, and few move when the workers change."""
    return max(workers, key=lambda worker: hashlib.blake2b(f"{worker}\0{document_id}".encode()).digest())
