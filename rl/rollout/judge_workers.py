"""Judge workers: Ray actors that hold the reward function, score answers and write them to the run's store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from longreward.config import CacheConfig
from longreward.errors import ConfigError, Reason
from longreward.pacing import rare_collections
from longreward.schema import Reward, ScoredAnswer, Usage
from longreward.store import Store
from longreward.text.chunking import TokenSpans, word_spans
from longreward.tokenizer import token_spans as spans_by_file
from rl.config import RewardSection, RunConfig
from rl.data.prompts import Label
from rl.errors import JudgeDownError, SpendCapReachedError
from rl.reward_functions import registry
from rl.rollout import judge_limits
from rl.run.cluster import last_line

_LAST_WORDS_S = 5
_CALLS_AT_ONCE = 10_000  # answers a worker may hold; Ray's own default for async actors is 1000
_MEMORY = 2**20  # bytes; Ray spreads only actors that reserve something
_DEATHS_PER_ANSWER = 3  # an answer whose scoring kills the worker again and again is void


@dataclass(frozen=True)
class Scored:
    """What a rollout engine needs to know of a scored answer; all of it is in the store."""

    scores: dict[str, float] | None
    """`total` and each dimension, 0..10; None: void."""
    reason: str = ""
    """Why it is void."""
    seconds: float = 0.0
    """Wall time of scoring it."""
    statements: int = 0
    calls: int = 0
    """Questions to the judge that it took."""
    free_calls: int = 0
    """Those that cost nothing: from the cache, shared with another answer, or read off the document."""
    judge: dict[str, float] = field(default_factory=dict)
    """The judge's `p50_s` and `p95_s` (seconds per call, lately) and the run's `cost` so far."""

    @classmethod
    def of(cls, reward: Reward, stats: dict[str, float]) -> Scored:
        calls = reward.calls
        return cls(
            scores=reward.scores,
            reason=next(iter(reward.void_reasons.values()), ""),
            seconds=reward.seconds,
            statements=sum(len(d.statements) for d in reward.dimensions.values()),
            calls=len(calls),
            free_calls=sum(call.source != "judge" for call in calls),
            judge={
                name: stats.get(f"judge/{key}", 0.0)
                for name, key in (("p50_s", "p50_s"), ("p95_s", "p95_s"), ("cost", "run_cost"))
            },
        )


class JudgeWorker:
    """Holds one reward function. All methods run on one event loop; none of them blocks it.

    Ray restarts it when its process or its node dies, and calls again what was under way.
    """

    def __init__(
        self,
        index: int,
        config: RewardSection,
        tokenizer: str | None,
        directory: Path,
        secrets: dict[str, str],
        limits: str | None,
    ):
        """`limits` is the name of the run's JudgeLimits actor; None for a judge without limits."""
        # Keys come as arguments: a runtime environment's variables would stand in Ray's logs and its dashboard.
        os.environ.update(secrets)
        # A restarted worker needs another name: its predecessor's share and counts are still on the books.
        self._name, self._limits_name = f"judge-{index}-{uuid.uuid4().hex[:8]}", limits
        self._following: asyncio.Task[None] | None = None
        self._max_outage_s = config.judge.max_outage_s
        if config.asks_judge and config.cache.path is None:
            config = config.model_copy(update={"cache": CacheConfig(path=own_cache(directory))})
        self._reward = registry.make(config, token_spans(tokenizer))
        self._store = Store(directory / "store" / f"answers-{self._name.removeprefix('judge-')}.jsonl")
        self._counts: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._usage = Usage()

    async def ready(self) -> None:
        """Answers once the worker is up."""
        self._begin()

    async def stood_still(self, within_s: float) -> bool:
        """Whether answers wait for more money or for the judge to come back, or did within the last seconds."""
        self._begin()
        endpoints = self._reward.endpoints
        return endpoints is not None and endpoints.standstill.within(within_s, asyncio.get_running_loop().time())

    async def prepare(self, prompt: str, label: Label) -> None:
        """Begin the shared work on a prompt's document while its answers are still being generated."""
        self._begin()
        self._reward.prepare(prompt[slice(*label.context)], prompt[slice(*label.query)])

    async def score(self, prompt: str, label: Label, answer: str, about: dict[str, Any]) -> Scored:
        """Score one answer to a prompt. `about` (rollout, tokens, truncated) is stored beside it: a worker that dies
        before the engine has its answer leaves a second record of the same `rollout`.

        SpendCapReachedError and JudgeDownError where the run has to end.
        """
        self._begin()
        started = time.time()
        sample = label.sample(prompt, answer, tokens=about["tokens"], truncated=about["truncated"])
        reward = await self._reward.score(sample)
        self._usage += reward.usage
        self._counts[label.split] += 1
        self._counts["void"] += reward.total is None
        if label.split == "train" and reward.total is not None:
            self._sums.update(
                {name: d.score for name, d in reward.dimensions.items()} | {"total": reward.total, "n": 1}
            )
        self._store.append(ScoredAnswer.of(sample, reward, split=label.split, time=started, **about))
        if reward.total is None:
            self._end_the_run(reward)
        return Scored.of(reward, self._reward.stats())

    async def stats(self) -> dict[str, Any]:
        """Counts so far: answers by split, void ones, usage, sums of the train split's scores, the judge's own."""
        return {
            "worker": self._name,
            "counts": dict(self._counts),
            "sums": dict(self._sums),
            "usage": self._usage.model_dump(),
            "judge": self._reward.stats(),
        }

    async def aclose(self) -> None:
        await self._reward.aclose()
        self._store.close()

    def _begin(self) -> None:
        """Take part in the run's limits. In every method: after a restart Ray calls the one that was under way."""
        endpoints = self._reward.endpoints
        if self._following is not None or endpoints is None or self._limits_name is None:
            return
        rare_collections()
        endpoints.share()
        limits = ray.get_actor(self._limits_name)
        self._following = asyncio.create_task(judge_limits.follow(limits, self._name, endpoints))

    def _end_the_run(self, reward: Reward) -> None:
        for dimension in reward.dimensions.values():
            if dimension.status == Reason.SPEND_CAP:
                raise SpendCapReachedError(dimension.detail)
        why = self._reward.endpoints.given_up if self._reward.endpoints is not None else None
        if why is not None:
            waited = "" if self._max_outage_s is None else f" (judge.max_outage_s is {self._max_outage_s:g} s)"
            raise JudgeDownError(
                f"the judge is down: {why}{waited}; bring it back and continue with resume=true from the last "
                "checkpoint"
            )


@dataclass
class Workers:
    """A run's judge workers, and the actor that divides the judge's limits among them (None: no network, no limits)."""

    actors: list[Any]
    limits: Any | None
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
                stats = ray.get(answer, timeout=30)
                self.last_stats[stats["worker"]] = stats
        return list(self.last_stats.values())

    def kill(self) -> None:
        """End them, after a moment for what is still to be written down."""
        # Gone already, or busy: what was scored is in the store.
        with suppress(ray.exceptions.RayError):
            ray.get([actor.aclose.remote() for actor in self.actors], timeout=_LAST_WORDS_S)
        for actor in [*self.actors, *([self.limits] if self.limits is not None else [])]:
            ray.kill(actor)


def start(config: RunConfig, tokenizer: str | None, run_id: str) -> Workers:
    """Start `reward.workers` judge workers and wait until all are up; ConfigError where one does not come."""
    keys = secrets(config.reward)
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
    reward, limits, limits_name = config.reward, None, None
    if reward.asks_judge:
        limits_name = f"longreward-limits-{run_id}"
        limits = (
            ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(judge_limits.JudgeLimits)
            .options(name=limits_name)
            .remote(reward.judge, reward.workers, reward.on_spend_cap, config.directory)
        )
        # Up before the workers look for it by its name.
        _wait_for([limits], config.run.deadline_start_s)
    workers = Workers(
        [
            actor.options(name=name).remote(index, reward, tokenizer, config.directory, keys, limits_name)
            for index, name in enumerate(names(config, run_id))
        ],
        limits,
        names(config, run_id),
        run_id,
    )
    _wait_for(workers.actors, config.run.deadline_start_s)
    return workers


def _wait_for(actors: Sequence[Any], seconds: float) -> None:
    try:
        ray.get([actor.ready.remote() for actor in actors], timeout=seconds)
    except ray.exceptions.GetTimeoutError:
        raise ConfigError(
            f"the judge workers did not start within {seconds:.0f} s; see the run's logs, or raise run.deadline_start_s"
        ) from None
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise ConfigError(f"a judge worker could not start: {last_line(cause)}") from None


def secrets(config: RewardSection) -> dict[str, str]:
    """The keys that the reward needs, from this process's environment: variable -> value."""
    names = set()
    if config.asks_judge:
        endpoints = config.judge.resolved_endpoints
        names |= {endpoint.api_key_env or "OPENAI_API_KEY" for endpoint in endpoints} or {"OPENAI_API_KEY"}
    if "remote" in config.parts and config.remote.token_env:
        names.add(config.remote.token_env)
    return {name: os.environ[name] for name in names if name in os.environ}


def own_cache(directory: Path) -> Path:
    """The run's own cache on this machine: verdicts paid for once are not paid for again when the run continues. A
    file for each machine, because SQLite's is not to be shared over a network."""
    return directory / "cache" / f"{socket.gethostname()}.db"


def names(config: RunConfig, run_id: str) -> list[str]:
    """The workers' actor names, unique to this run on the cluster."""
    return [f"longreward-judge-{run_id}-{index}" for index in range(config.reward.workers)]


def rendezvous(document_id: str, workers: Sequence[str]) -> str:
    """The worker for a document: all answers about it go to the same one, and few move when the workers change."""
    return max(workers, key=lambda worker: hashlib.blake2b(f"{worker}\0{document_id}".encode()).digest())


def token_spans(tokenizer: str | None) -> TokenSpans:
    """Character spans of a text's tokens by the tokenizer at that path or name; by words for None.

    ConfigError for a tokenizer that cannot tell offsets.
    """
    if tokenizer is None:
        return word_spans
    if (Path(tokenizer) / "tokenizer.json").is_file():
        return spans_by_file(Path(tokenizer), "reward.tokenizer")  # transformers would import torch
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=True, use_fast=True)
    if not loaded.is_fast:
        raise ConfigError(f"the tokenizer of {tokenizer} tells no character offsets; set reward.tokenizer=words")
    # The fast tokenizer's core: no warning about a document longer than the model, no Python list of all ids.
    core = loaded.backend_tokenizer
    return lambda text: core.encode(text, add_special_tokens=False).offsets
