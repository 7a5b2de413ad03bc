"""Shared by the tests of the caches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest


@pytest.fixture
def turning() -> Callable[[], AbstractAsyncContextManager[Counter[str]]]:
    """Counts, as `["ticks"]`, how often the event loop comes round while its block is under way."""

    @asynccontextmanager
    async def count() -> AsyncIterator[Counter[str]]:
        seen = Counter[str]()

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.01)
                seen["ticks"] += 1

        ticking = asyncio.create_task(tick())
        try:
            yield seen
        finally:
            ticking.cancel()

    return count
