"""Good verdicts on disk, shared by all processes of a machine and safe against a kill at any moment."""

from __future__ import annotations

import asyncio
import hashlib
import json
import weakref
from pathlib import Path
from typing import Any

from longreward.judge.engine.cache_file import Trouble
from longreward.judge.engine.cache_threads import FileThread, Reader, Writer

Value = dict[str, Any]
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def cache_key(model: str, messages: list[dict[str, str]], parameters: dict[str, Any], prompt_version: str) -> bytes:
    """SHA-256 of everything a reply depends on. Order of the parameters' names does not matter."""
    # ASCII: a lone surrogate in a policy's text has an escape in JSON, but no UTF-8 form.
    canonical = json.dumps([model, messages, parameters, prompt_version], sort_keys=True)
    return hashlib.sha256(canonical.encode()).digest()


class VerdictCache:
    """Looks verdicts up and keeps them. Two threads, begun at the first use, do all work on the file."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet; a file or folder that does not exist is made when it is needed."""
        trouble = Trouble(path)
        self._reader = Reader(path, trouble)
        self._writer = Writer(path, trouble)
        self._hits = self._misses = 0
        # A cache that is dropped without aclose() lets its threads end.
        weakref.finalize(self, _stop, self._reader, self._writer)

    async def get(self, key: bytes) -> Value | None:
        """The verdict put under `key` by any process, or None. What this process has put is found at once."""
        data = self._writer.unwritten(key)
        if data is None and (answer := self._reader.ask(key)) is not None:
            data = await answer
        if data is None:
            self._misses += 1
            return None
        self._hits += 1
        value: Value = json.loads(data)
        return value

    def put(self, key: bytes, value: Value) -> None:
        """Keep `value` as it is now; it is in the file about 50 ms later. TypeError if it is not JSON."""
        self._writer.keep(key, _json_bytes(value))

    def stats(self) -> dict[str, float]:
        """Counts so far. `cache/errors`: lookups the file failed to answer, damaged rows, verdicts never written."""
        return {
            "cache/hits": float(self._hits),
            "cache/misses": float(self._misses),
            "cache/written": float(self._writer.written),
            "cache/errors": float(self._reader.errors + self._writer.errors),
        }

    async def aclose(self) -> None:
        """Write what is left, or warn of what is lost, and end the threads. Later lookups miss, later puts are lost."""
        _stop(self._reader, self._writer)
        for thread in (self._reader, self._writer):
            if thread.alive:
                await asyncio.to_thread(thread.join)


def _json_bytes(value: Value) -> bytes:
    try:
        return _dumps(value).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return json.dumps(value).encode()


def _stop(*threads: FileThread) -> None:
    for thread in threads:
        thread.stop()
