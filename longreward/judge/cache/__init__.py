"""Good verdicts, kept: in a file of this machine, in the files of a run, or on a Redis server that a cluster shares."""

from __future__ import annotations

import asyncio
import hashlib
import json
import weakref
from pathlib import Path
from typing import Any

from longreward.config import CacheConfig
from longreward.files.jsonlines import encoded
from longreward.files.nesting import from_json
from longreward.judge.cache.backend import Backend
from longreward.judge.cache.thread import CacheThread

Value = dict[str, Any]


def cache_key(model: str, messages: list[dict[str, str]], parameters: dict[str, Any]) -> bytes:
    """SHA-256 of everything a reply depends on. Order of the parameters' names does not matter."""
    # ASCII: a lone surrogate in a policy's text has an escape in JSON, but no UTF-8 form.
    canonical = json.dumps([model, messages, parameters], sort_keys=True)
    return hashlib.sha256(canonical.encode()).digest()


class VerdictCache:
    """Looks verdicts up and keeps them. A thread, begun at the first use, does all work."""

    def __init__(self, backend: Backend) -> None:
        """Touches nothing yet; what does not exist is made when it is needed."""
        self._backend = backend
        self._thread = CacheThread(backend)
        self._hits = self._misses = self._unreadable = 0
        # A cache that is dropped without aclose() lets its thread end.
        weakref.finalize(self, self._thread.stop)

    @classmethod
    def of(cls, config: CacheConfig, run_directory: Path | None = None) -> VerdictCache | None:
        """The one that is configured; else that of the run in `run_directory`, where one is given.

        ConfigError where `cache.password_env` names a variable that is not set.
        """
        if config.url is not None:
            from longreward.judge.cache.redis_server import RedisServer

            return cls(RedisServer(config))
        if config.path is not None:
            from longreward.judge.cache.sqlite_file import SQLiteFile

            return cls(SQLiteFile(config.path))
        if run_directory is not None:
            from longreward.judge.cache.run_files import RunFiles

            return cls(RunFiles(run_directory / "cache"))
        return None

    async def load(self) -> None:
        """Begin now with what the first lookup would wait for: reading what a run has kept before."""
        if (ready := self._thread.ask()) is not None:
            await asyncio.shield(ready)

    async def get(self, key: bytes) -> Value | None:
        """The verdict put under `key` by any process, or None. What this process has put is found at once."""
        data = self._thread.pending.get(key)
        if data is None and (answers := self._thread.ask(key)) is not None:
            data = (await asyncio.shield(answers)).get(key)
        if data is None:
            self._misses += 1
            return None
        try:
            value = from_json(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            self._unreadable += 1
            return None
        self._hits += 1
        return value

    def put(self, key: bytes, value: Value) -> None:
        """Keep `value` as it is now; it is written about 50 ms later. TypeError if it is not JSON."""
        self._thread.keep(key, encoded(value, (",", ":")))

    @property
    def name(self) -> str:
        """Its file, folder or URL."""
        return self._backend.name

    def holds(self) -> tuple[str, str]:
        """What is in it, in words; where that cannot be told, the trouble and what to do about it. Waits for the disk
        or the server."""
        try:
            return self._backend.holds(), ""
        except Exception as error:
            trouble = self._backend.explain(error)
            return trouble.what, trouble.advice

    def stats(self) -> dict[str, float]:
        """Counts so far. `cache/errors`: lookups without an answer, damaged ones, verdicts never written."""
        return {
            "cache/hits": float(self._hits),
            "cache/misses": float(self._misses),
            "cache/written": float(self._thread.written),
            "cache/errors": float(self._thread.errors + self._unreadable),
        }

    async def aclose(self) -> None:
        """Write what is left, or warn of what is lost, and end the thread. Later lookups miss, later puts are lost."""
        self._thread.stop()
        await asyncio.to_thread(self._thread.join)
