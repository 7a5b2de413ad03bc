"""Which cache keeps the verdicts, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from longreward.config import RewardConfig
from longreward.judge.cache import VerdictCache
from longreward.preflight.finding import Finding


def findings(config: RewardConfig, run_directory: Path | None = None) -> Iterator[Finding]:
    """The cache that this reward uses, asked for what it holds; `run_directory` as for `VerdictCache.of`.

    Trouble with it is a note: without a cache the judge is asked. ConfigError as for `VerdictCache.of`.
    """
    if not config.judge.asks_endpoints:
        return
    cache = VerdictCache.of(config.cache, run_directory)
    if cache is None:
        sentence = "no verdict is kept: a row that is scored again is paid for again"
        yield Finding.note("cache", sentence, "set cache.path, or cache.url")
        return
    what, advice = cache.holds()
    if advice:
        sentence = f"{cache.name}: {what}; without it every question goes to the judge"
        yield Finding.note("cache", sentence, advice[0].lower() + advice[1:])
    else:
        yield Finding.ok("cache", f"verdicts are kept in {cache.name}: {what}")
