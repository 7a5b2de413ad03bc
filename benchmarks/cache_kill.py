"""Is the verdict cache safe against SIGKILL? Processes share one and are killed at random; then every verdict is read.

    python benchmarks/cache_kill.py [--cache path|run|url] [--kills 50] [--pause 1.5] [--processes 8] [--keys 100000]

`path` is a SQLite file, `run` the files of a run, `url` a redis-server, which is killed as well. Each value follows
from its key, so that a wrong one shows. Exit code 1 on a wrong verdict, one that cannot be read, a process that ends by
itself, or a failed integrity check.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longreward.config import CacheConfig
from longreward.judge.cache import VerdictCache, cache_key

if TYPE_CHECKING:
    from redis_process import RedisProcess

TASKS = 16  # lookups under way in each process
RIGHT = 1000  # lookups that found a verdict, before the end


MODULES = {"path": "sqlite_file", "run": "run_files", "url": "redis_server"}


def key_of(number: int) -> bytes:
    return cache_key("judge", [{"role": "user", "content": f"question {number}"}], {"temperature": 0})


def value_of(number: int) -> dict[str, Any]:
    """About 1 KB, of a length of its own."""
    text = hashlib.sha512(str(number).encode()).hexdigest() * 8
    return {"number": number, "text": text[: 700 + number % 324], "value": number % 21 / 2}


@contextmanager
def served(kind: str, folder: Path) -> Iterator[RedisProcess | None]:
    """The redis-server that all caches of the kind `url` ask; None for the others."""
    if kind != "url":
        yield None
        return
    from redis_process import RedisProcess  # not in the processes: they would be slower to start

    with RedisProcess(folder) as server:
        (folder / "url").write_text(server.url)
        yield server


def opened(kind: str, folder: Path) -> VerdictCache:
    if kind == "run":
        found = VerdictCache.of(CacheConfig(), folder)
    else:
        setting = {"path": folder / "cache.db", "url": (folder / "url").read_text() if kind == "url" else ""}[kind]
        found = VerdictCache.of(CacheConfig.model_validate({kind: setting}))
    assert found is not None
    return found


async def hammer(kind: str, folder: Path, seed: int, keys: int) -> None:
    """Look up and put without end. Now and then a line tells how many lookups were right, and the cache's errors."""
    cache = opened(kind, folder)
    rng = random.Random(seed)
    right = 0

    async def task() -> None:
        nonlocal right
        while True:
            number = rng.randrange(keys)
            found = await cache.get(key_of(number))
            if found is not None and found != value_of(number):
                sys.exit(f"wrong value for {number}: {found}")
            right += found is not None
            if found is None or rng.random() < 0.1:
                cache.put(key_of(number), value_of(number))
            await asyncio.sleep(0)

    async def report() -> None:
        with (folder / f"{seed}.counts").open("w") as log:
            while True:
                print(right, int(cache.stats()["cache/errors"]), file=log, flush=True)
                await asyncio.sleep(0.1)

    await asyncio.gather(report(), *(task() for _ in range(TASKS)))


def begin(kind: str, folder: Path, seed: int, keys: int) -> None:
    asyncio.run(hammer(kind, folder, seed, keys))


class Fleet:
    """So many processes at any time."""

    def __init__(self, kind: str, folder: Path, size: int, keys: int) -> None:
        # Forked from a process that has only imported: starting one costs milliseconds, not the import.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([f"longreward.judge.cache.{MODULES[kind]}"])
        self._kind, self._folder, self._keys = kind, folder, keys
        self._started = self.ended_early = 0
        self._running = [self._start() for _ in range(size)]

    def kill_one(self, rng: random.Random) -> None:
        """Kill and replace a random one."""
        place = rng.randrange(len(self._running))
        self._kill(self._running[place])
        self._running[place] = self._start()

    def kill_all(self) -> None:
        for process in self._running:
            self._kill(process)

    def counts(self) -> tuple[int, int]:
        """Lookups found right, and cache errors, as last told by every process."""
        right = errors = 0
        for log in self._folder.glob("*.counts"):
            lines = [line.split() for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            if lines:
                right, errors = right + int(lines[-1][0]), errors + int(lines[-1][1])
        return right, errors

    def _start(self) -> BaseProcess:
        self._started += 1
        process = self._context.Process(
            target=begin, args=(self._kind, self._folder, self._started, self._keys), daemon=True
        )
        process.start()
        return process

    def _kill(self, process: BaseProcess) -> None:
        self.ended_early += not process.is_alive()
        process.kill()
        process.join()


async def verify(kind: str, folder: Path, keys: int) -> tuple[int, int, int]:
    """Verdicts that are kept, those with a wrong value, those that cannot be read."""
    cache = opened(kind, folder)
    found = await asyncio.gather(*(cache.get(key_of(number)) for number in range(keys)))
    await cache.aclose()
    wrong = sum(value is not None and value != value_of(number) for number, value in enumerate(found))
    return keys - found.count(None), wrong, int(cache.stats()["cache/errors"])


def integrity_of(kind: str, folder: Path) -> str:
    """What SQLite says of its file; of the others nothing can be said but what their verdicts say."""
    if kind != "path":
        return "ok"
    with closing(sqlite3.connect(folder / "cache.db")) as connection:
        (found,) = connection.execute("PRAGMA integrity_check").fetchone()
    return str(found)


def run(kind: str, folder: Path, kills: int, pause: float, processes: int, keys: int) -> int:
    rng = random.Random()
    started = time.monotonic()
    with served(kind, folder) as server:
        fleet = Fleet(kind, folder, processes, keys)
        for number in range(kills):
            # The shortest pauses hit a process that is making or opening the file.
            time.sleep(rng.uniform(0, pause))
            fleet.kill_one(rng)
            if server is not None and number % 10 == 9:
                server.kill()
                time.sleep(rng.uniform(0, pause))
                server.start()
        while fleet.counts()[0] < RIGHT:
            time.sleep(0.1)
        # It has begun anew, empty, and what a process finds may be what it has not written yet.
        while server is not None and server.client().dbsize() < RIGHT:
            time.sleep(0.1)
        fleet.kill_all()
        rows, wrong, unreadable = asyncio.run(verify(kind, folder, keys))
    integrity = integrity_of(kind, folder)
    right, errors = fleet.counts()
    table = {
        "kills": f"{kills} + {processes} at the end",
        "seconds": round(time.monotonic() - started),
        "right_lookups": right,
        "cache_errors": errors,
        "ended_by_themselves": fleet.ended_early,
        "rows": rows,
        "wrong": wrong,
        "unreadable": unreadable,
        "integrity_check": integrity,
    }
    for name, value in table.items():
        print(f"{name:20} {value}")
    return int(bool(wrong or unreadable or fleet.ended_early or integrity != "ok" or not rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", choices=("path", "run", "url"), default="path")
    parser.add_argument("--kills", type=int, default=50, help="processes killed and replaced while the others go on")
    parser.add_argument("--pause", type=float, default=1.5, help="longest pause between kills in seconds")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the cache and the logs go; a temporary folder by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return run(args.cache, folder, args.kills, args.pause, args.processes, args.keys)


if __name__ == "__main__":
    sys.exit(main())
