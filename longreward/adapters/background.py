"""A LongReward on an event loop of its own, for trainers that call the reward from threads and loops of theirs."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from functools import cache

from longreward.adapters.config import VARIABLE, Config, divided, resolve
from longreward.config import RewardConfig
from longreward.reward import LongReward
from longreward.schema import Reward, Sample

_CLOSE_S = 10.0


class BackgroundReward:
    """Scores answers from any thread and any event loop; the scoring itself runs in one thread of its own.

    The thread begins with the first answer. A forked child, which inherits no threads, gets one of its own. It is
    closed when the interpreter exits, or by `close`; the next answer begins it anew.
    """

    def __init__(self, config: RewardConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._worker: _ScoringThread | None = None
        # Both keep this object: its thread is to be closed though nobody has the reward any more.
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._forget)

    def submit(self, samples: Iterable[Sample]) -> Future[list[Reward]]:
        """Begin to score answers. ConfigError where the judge cannot be set up, for example without its key."""
        with self._lock:
            if self._worker is None:
                self._worker = _ScoringThread(self.config)
            worker = self._worker
        return asyncio.run_coroutine_threadsafe(worker.reward.score_many(samples), worker.loop)

    def score(self, samples: Iterable[Sample]) -> list[Reward]:
        """Score answers and wait for them, results in the order given; errors as `submit`."""
        return self.submit(samples).result()

    async def score_async(self, samples: Iterable[Sample]) -> list[Reward]:
        """As `score`, for the caller's own event loop, which goes on meanwhile."""
        return await asyncio.wrap_future(self.submit(samples))

    def close(self) -> None:
        """End the thread and the judge's connections. Answers in flight are cancelled."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _forget(self) -> None:
        # Only the parent has the thread. Its loop is kept, or its finalizer would complain in the child.
        _inherited.append(self._worker)
        self._lock = threading.Lock()
        self._worker = None


class _ScoringThread:
    """The thread, its event loop, and the LongReward that is bound to it."""

    def __init__(self, config: RewardConfig) -> None:
        self.reward = LongReward(config)
        # With a factory, or the loop would become that of the thread which makes it.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.loop = self._runner.get_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="longreward", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._runner:
            self._runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        try:
            await self._stop.wait()
        finally:
            await self.reward.aclose()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_CLOSE_S)


_inherited: list[_ScoringThread | None] = []
_shared: dict[str, BackgroundReward] = {}


def shared(config: RewardConfig) -> BackgroundReward:
    """This process's one reward for `config`, so that all who ask share documents, judge limits and spend."""
    key = config.model_dump_json()
    if key not in _shared:
        # Of two threads that come at the same time one makes a spare reward. It is never asked, so it has no thread.
        _shared.setdefault(key, BackgroundReward(config))
    return _shared[key]


def shared_part(config: Config | None, processes: int) -> BackgroundReward:
    """This process's one reward for its part of what `resolve` makes of `config`. A file is read once, not for every
    answer. ConfigError as `resolve` and `divided`."""
    if config is None:
        config = os.environ.get(VARIABLE)
    if config is None or isinstance(config, str):
        return _from_file(config, processes)
    return shared(divided(resolve(config), processes))


@cache
def _from_file(path: str | None, processes: int) -> BackgroundReward:
    return shared(divided(resolve(path), processes))
