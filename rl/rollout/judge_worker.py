"""The judge worker: a Ray actor that holds the reward function, scores answers and writes them to the run's store."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longreward.concurrency.pacing import rare_collections
from longreward.config import CacheConfig
from longreward.errors import ConfigError, Reason
from longreward.evaluation import second_scores
from longreward.judge import Judge, judge_of
from longreward.judge.cache import VerdictCache
from longreward.openrlhf_logs import AnswerFigures
from longreward.redaction import redacted
from longreward.schema import Reward, ScoredAnswer, Usage
from longreward.store import Store
from longreward.text.chunking import TokenSpans, word_spans
from longreward.tokenizer import token_spans as spans_by_file
from rl.config import RunConfig
from rl.data.prompts import Label, TrainingSample
from rl.errors import JudgeDownError, SpendCapReachedError
from rl.reward_functions import registry
from rl.reward_functions.base import RewardFunction
from rl.reward_functions.config import RewardSection
from rl.rollout.judge_wait import JudgeWaits
from rl.rollout.rounds import Round
from rl.rollout.second_scores import SecondJudge, SecondScoring
from rl.rollout.spend_ledger import SpendLedger
from rl.trainer.seams import remote_code
from rl.watch_config import WatchSection

_AFRESH_AT_ONCE = 64


class JudgeWorker:
    """Holds one reward function. All methods run on one event loop, and no method blocks it.

    A run whose reward asks a judge has exactly one worker. So one process keeps to the judge's limits and counts the
    spend.
    Ray restarts it when its process or its node dies, and calls again what was under way.
    """

    def __init__(self, index: int, run: RunConfig, tokenizer: str | None, secrets: dict[str, str]):
        # Keys come as arguments: a runtime environment's variables would stand in Ray's logs and its dashboard.
        os.environ.update(secrets)
        # A restarted worker needs another name: the counts under the old name are kept.
        self._name = f"judge-{index}-{uuid.uuid4().hex[:8]}"
        config, shadow, directory = run.reward, run.shadow_reward, run.directory
        self._token_spans = token_spans(tokenizer)
        self._judge: Judge | None = None
        self._ledger: SpendLedger | None = None
        if config.asks_judge or (shadow and shadow.asks_judge):
            self._ledger = SpendLedger(config.judge, directory, pauses=config.on_spend_cap == "pause")
        if config.asks_judge:
            self._judge = self._asked(config, VerdictCache.of(config.cache, directory))
        self._config = config
        self._reward = registry.make(config, self._token_spans, self._judge)
        file = self._name.removeprefix("judge-")
        self._store = Store(directory / "store" / f"answers-{file}.jsonl")
        self._second = SecondScoring(
            list(self._second_judges(run.watch, shadow)), directory / second_scores.FOLDER / f"{file}.jsonl"
        )
        self._counts: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._usage = Usage()
        self._waits = JudgeWaits()
        if config.asks_judge:
            rare_collections()

    async def ready(self) -> None:
        """Answers once the worker is up."""
        self._begin()
        if self._judge is not None:
            await self._judge.load()

    async def stood_still(self, within_s: float) -> bool:
        """Whether answers wait for more money or for the judge to come back, or did within the last seconds."""
        self._begin()
        return self._judge is not None and self._judge.status().stood_still_s < within_s

    async def spend(self) -> dict[str, Any] | None:
        """What the run has spent on its judge, as `SpendLedger.state`; None where the reward asks no judge."""
        self._begin()
        return None if self._ledger is None else self._ledger.state()

    async def prepare(self, prompt: str, label: Label) -> None:
        """Begin the shared work on a prompt's document while its answers are still being generated."""
        self._begin()
        if label.split == "train":
            self._second.group_begins(label.id)
        self._reward.prepare(prompt[slice(*label.context)], prompt[slice(*label.query)])

    async def score(
        self, prompt: str, label: Label, answer: str, about: dict[str, Any], siblings: Sequence[str] = ()
    ) -> AnswerFigures:
        """Score one answer to a prompt. `about` (rollout, tokens, truncated) is stored beside it: a worker that dies
        before the engine has its answer leaves a second record of the same `rollout`. `siblings`: all answers to the
        prompt, where they are ranked.

        SpendCapReachedError and JudgeDownError where the run has to end.
        """
        self._begin()
        started = time.time()
        lengths = {"tokens": about["tokens"], "truncated": about["truncated"]}
        sample = label.sample(prompt, answer, **lengths, siblings=siblings)
        reward = await self._reward.score(sample)
        self._usage += reward.usage
        self._counts[label.split] += 1
        self._counts["void"] += reward.total is None
        if label.split == "train" and reward.total is not None:
            self._sums.update(
                {name: d.score for name, d in reward.dimensions.items()} | {"total": reward.total, "n": 1}
            )
        record = {"split": label.split, "document": label.document, "time": started} | about
        self._store.append(ScoredAnswer.of(sample, reward, **record))
        if label.split == "train":
            self._second.take(sample, reward, rollout=about["rollout"], time=started)
        if reward.total is None:
            self._end_the_run(reward)
        return AnswerFigures.of(reward, self._reward.stats(), self._second.noise())

    async def round_ended(self, ended: Round) -> None:
        """An engine has its last reward of a step."""
        self._begin()
        self._waits.add(ended, [] if self._judge is None else self._judge.slowest_calls())

    async def score_afresh(
        self, samples: Sequence[TrainingSample], deadline_s: float
    ) -> list[dict[str, float] | None] | None:
        """The scores of each sample (`total` and each dimension, 0..10), None for a void one; None for all where it
        takes longer than `deadline_s` seconds.

        Nothing that was judged before is remembered: the judge is asked anew, within the run's limits and spend.
        """
        self._begin()
        # In a thread, because a reward model is loaded again.
        reward = await asyncio.to_thread(self._afresh)
        places = asyncio.Semaphore(_AFRESH_AT_ONCE)
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.gather(*(_scores(reward, sample, places) for sample in samples))
        except TimeoutError:
            return None
        finally:
            await reward.aclose()

    async def stats(self) -> dict[str, Any]:
        """Counts so far: answers by split, void ones, usage, sums of the train split's scores, the judge's own, how
        long steps waited for it."""
        return {
            "worker": self._name,
            "counts": dict(self._counts),
            "sums": dict(self._sums),
            "usage": self._usage.model_dump(),
            "judge": self._reward.stats(),
            "wait": self._waits.so_far,
        }

    async def aclose(self) -> None:
        """Stop what is under way and write down the rest."""
        await self._second.aclose()
        await self._reward.aclose()
        self._store.close()
        if self._ledger is not None:
            await self._ledger.end()

    def _asked(self, config: RewardSection, cache: VerdictCache | None = None) -> Judge:
        """The judge of a reward, under the run's spend cap."""
        spend = None if self._ledger is None else self._ledger.spend
        return judge_of(config, cache, spend)

    def _afresh(self) -> RewardFunction:
        """The run's reward, with nothing remembered that was judged before."""
        judge = None if self._judge is None else self._judge.afresh()
        return registry.make(self._config.model_copy(update={"cache": CacheConfig()}), self._token_spans, judge)

    def _second_judges(self, watch: WatchSection, shadow: RewardSection | None) -> Iterator[SecondJudge]:
        if watch.noise_share:
            yield SecondJudge("repeat", watch.noise_share, self._afresh())
        if watch.shadow is not None and shadow is not None:
            judge = self._asked(shadow) if shadow.asks_judge else None
            yield SecondJudge("shadow", watch.shadow.share, registry.make(shadow, self._token_spans, judge))

    def _begin(self) -> None:
        """Begin to count the spend. In every method: after a restart Ray calls the one that was under way."""
        if self._ledger is not None:
            self._ledger.begin()

    def _end_the_run(self, reward: Reward) -> None:
        for dimension in reward.dimensions.values():
            if dimension.status == Reason.SPEND_CAP:
                raise SpendCapReachedError(dimension.detail)
        why = self._judge.status().given_up if self._judge is not None else None
        if why is not None:
            limit_s = self._config.judge.max_outage_s
            waited = "" if limit_s is None else f" (judge.max_outage_s is {limit_s:g} s)"
            raise JudgeDownError(
                f"the judge is down: {why}{waited}; bring it back and continue with resume=true from the last "
                "checkpoint"
            )


async def _scores(reward: RewardFunction, sample: TrainingSample, places: asyncio.Semaphore) -> dict[str, float] | None:
    async with places:
        try:
            scored = await reward.score(sample)
        except Exception as error:
            print(redacted(f"longreward: {sample.id}: {type(error).__name__}: {error}"), flush=True)
            return None
    if scored.total is None:
        print(f"longreward: {sample.id} has no reward: {scored.void_reasons}", flush=True)
    return scored.scores


def token_spans(tokenizer: str | None) -> TokenSpans:
    """Character spans of a text's tokens by the tokenizer at that path or name; by words for None.

    ConfigError for a tokenizer that cannot tell offsets.
    """
    if tokenizer is None:
        return word_spans
    if (Path(tokenizer) / "tokenizer.json").is_file():
        return spans_by_file(Path(tokenizer), "reward.tokenizer")  # transformers would import torch
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=remote_code.allowed(), use_fast=True)
    if not loaded.is_fast:
        raise ConfigError(f"the tokenizer of {tokenizer} tells no character offsets; set reward.tokenizer=words")
    # The fast tokenizer's core: no warning about a document longer than the model, no Python list of all ids.
    core = loaded.backend_tokenizer
    return lambda text: core.encode(text, add_special_tokens=False).offsets
