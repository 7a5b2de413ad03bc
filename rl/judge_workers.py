"""Judge workers: Ray actors that hold the reward function, score answers and write them to the run's store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from longreward.document import TokenSpans
from longreward.errors import ConfigError
from longreward.pacing import rare_collections
from longreward.schema import Reward, Sample, Usage
from longreward.store import Store
from longreward.text.chunking import word_spans
from rl import judge_limits, rewards
from rl.cluster import last_line
from rl.config import RewardSection, RunConfig

_LAST_WORDS_S = 5
_CALLS_AT_ONCE = 10_000  # answers a worker may hold; Ray's own default for async actors is 1000


class JudgeWorker:
    """Holds one reward function. All methods run on one event loop; none of them blocks it."""

    def __init__(
        self,
        index: int,
        config: RewardSection,
        tokenizer: str | None,
        directory: Path,
        secrets: dict[str, str],
        limits: Any,
    ):
        # Keys come as arguments: a runtime environment's variables would stand in Ray's logs and its dashboard.
        os.environ.update(secrets)
        self._name, self._limits = f"judge-{index}", limits
        self._reward = rewards.make(config, token_spans(tokenizer))
        self._store = Store(directory / "store" / f"answers-{index}-{os.getpid()}.jsonl")
        self._counts: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._usage = Usage()

    async def ready(self) -> None:
        """Answers once the worker is up and has its share of the judge's limits."""
        rare_collections()
        endpoints = self._reward.endpoints
        if endpoints is not None and self._limits is not None:
            endpoints.share()
            self._following = asyncio.create_task(judge_limits.follow(self._limits, self._name, endpoints))

    async def paused(self, within_s: float) -> bool:
        """Whether answers wait because the spend cap is reached, or did within the last seconds."""
        return self._reward.endpoints is not None and self._reward.endpoints.was_paused(within_s)

    async def prepare(self, document: dict[str, str]) -> None:
        """Begin the shared work on `document` (context, query) while its answers are still being generated."""
        self._reward.prepare(document["context"], document["query"])

    async def score(self, document: dict[str, str], answer: str, about: dict[str, Any]) -> Reward:
        """Score one answer. `about` (id, split, ...) is stored beside it."""
        started = time.time()
        sample = Sample(id=about["id"], context=document["context"], query=document["query"], answer=answer)
        reward = await self._reward.score(sample)
        self._usage += reward.usage
        self._counts[about["split"]] += 1
        self._counts["void"] += reward.total is None
        if about["split"] == "train" and reward.total is not None:
            self._sums.update(
                {name: d.score for name, d in reward.dimensions.items()} | {"total": reward.total, "n": 1}
            )
        record = {**about, "time": started, "query": document["query"], "answer": answer}
        self._store.append(record | reward.model_dump(mode="json", exclude={"id"}, exclude_defaults=True))
        return reward

    async def stats(self) -> dict[str, Any]:
        """Counts so far: answers by split, void ones, usage, sums of the train split's scores, the judge's own."""
        return {
            "counts": dict(self._counts),
            "sums": dict(self._sums),
            "usage": self._usage.model_dump(),
            "judge": self._reward.stats(),
        }

    async def aclose(self) -> None:
        await self._reward.aclose()
        self._store.close()


@dataclass
class Workers:
    """A run's judge workers, and the actor that divides the judge's limits among them (None: no network, no limits)."""

    actors: list[Any]
    limits: Any | None
    last_stats: dict[int, dict[str, Any]] = field(default_factory=dict)

    def stats(self) -> list[dict[str, Any]]:
        """The stats of each worker; the last ones known of a worker that is gone. RayError where one is busy."""
        asked = [actor.stats.remote() for actor in self.actors]
        for index, answer in enumerate(asked):
            with suppress(ray.exceptions.RayActorError):
                self.last_stats[index] = ray.get(answer, timeout=30)
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
    endpoints = config.reward.judge.resolved_endpoints
    keys = {endpoint.api_key_env or "OPENAI_API_KEY" for endpoint in endpoints} or {"OPENAI_API_KEY"}
    secrets = {key: os.environ[key] for key in keys if key in os.environ}
    # No CPU is reserved: they wait for the network, and a reserved CPU could keep the trainer from being placed.
    actor = ray.remote(num_cpus=0, max_concurrency=_CALLS_AT_ONCE)(JudgeWorker)
    reward, limits = config.reward, None
    if reward.judge.kind == "openai":
        limits = ray.remote(num_cpus=0)(judge_limits.JudgeLimits).remote(
            reward.judge, reward.workers, reward.on_spend_cap, config.directory
        )
    workers = Workers(
        [
            actor.options(name=name).remote(index, reward, tokenizer, config.directory, secrets, limits)
            for index, name in enumerate(names(config, run_id))
        ],
        limits,
    )
    everyone = [*workers.actors, *([limits] if limits is not None else [])]
    try:
        ray.get([one.ready.remote() for one in everyone], timeout=config.run.deadline_start_s)
    except ray.exceptions.GetTimeoutError:
        raise ConfigError(
            f"the judge workers did not start within {config.run.deadline_start_s:.0f} s; see the run's logs, "
            "or raise run.deadline_start_s"
        ) from None
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise ConfigError(f"a judge worker could not start: {last_line(cause)}") from None
    return workers


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
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=True, use_fast=True)
    if not loaded.is_fast:
        raise ConfigError(f"the tokenizer of {tokenizer} tells no character offsets; set reward.tokenizer=words")
    # The fast tokenizer's core: no warning about a document longer than the model, no Python list of all ids.
    core = loaded.backend_tokenizer
    return lambda text: core.encode(text, add_special_tokens=False).offsets
