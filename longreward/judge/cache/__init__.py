"""Good verdicts on disk, shared by all processes of a machine and safe against a kill at any moment."""

from __future__ import annotations

import asyncio
import hashlib
import json
import weakref
from pathlib import Path
from typing import Any

from longreward.files.jsonlines import encoded
from longreward.files.nesting import from_json
from longreward.judge.cache.thread import FileThread

Value = dict[str, Any]


def cache_key(model: str, messages: list[dict[str, str]], parameters: dict[str, Any]) -> bytes:
    """SHA-256 of everything a reply depends on. Order of the parameters' names does not matter."""
    # ASCII: a lone surrogate in a policy's text has an escape in JSON, but no UTF-8 form.
    canonical = json.dumps([model, messages, parameters], sort_keys=True)
    return hashlib.sha256(canonical.encode()).digest()


class VerdictCache:
    """Looks verdicts up and keeps them. A thread, begun at the first use, does all work on the file."""

    def __init__(self, path: Path) -> None:
        """Touches nothing yet; a file or folder that does not exist is made when it is needed."""
        self._thread = FileThread(path)
        self._hits = self._misses = self._unreadable = 0
        # A cache that is dropped without aclose() lets its thread end.
        weakref.finalize(self, self._thread.stop)

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
        """Keep `value` as it is now; it is in the file about 50 ms later. TypeError if it is not JSON."""
        self._thread.keep(key, encoded(value, (",", ":")))

    def stats(self) -> dict[str, float]:
        """Counts so far. `cache/errors`: lookups the file failed to answer, damaged rows, verdicts never written."""
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
