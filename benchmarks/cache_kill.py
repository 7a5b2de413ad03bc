"""Is the verdict cache safe against SIGKILL? Processes share one file and are killed at random; then every row is read.

    python benchmarks/cache_kill.py [--kills 50] [--pause 1.5] [--processes 8] [--keys 100000] [--folder DIR]

Each value follows from its key, so that a wrong one shows. Exit code 1 on a wrong or unreadable row, a process that
ends by itself, or a failed integrity check.
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
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from longreward.judge.cache import VerdictCache, cache_key

TASKS = 16  # lookups under way in each process


def key_of(number: int) -> bytes:
    return cache_key("judge", [{"role": "user", "content": f"question {number}"}], {"temperature": 0})


def value_of(number: int) -> dict[str, Any]:
    """About 1 KB, of a length of its own."""
    text = hashlib.sha512(str(number).encode()).hexdigest() * 8
    return {"number": number, "text": text[: 700 + number % 324], "value": number % 21 / 2}


async def hammer(folder: Path, seed: int, keys: int) -> None:
    """Look up and put without end. Now and then a line tells how many lookups were right, and the cache's errors."""
    cache = VerdictCache(folder / "cache.db")
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
        with (folder / f"{seed}.log").open("w") as log:
            while True:
                print(right, int(cache.stats()["cache/errors"]), file=log, flush=True)
                await asyncio.sleep(0.1)

    await asyncio.gather(report(), *(task() for _ in range(TASKS)))


def begin(folder: Path, seed: int, keys: int) -> None:
    asyncio.run(hammer(folder, seed, keys))


class Fleet:
    """So many processes at any time."""

    def __init__(self, folder: Path, size: int, keys: int) -> None:
        # Forked from a process that has only imported: starting one costs milliseconds, not the import.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["longreward.judge.cache"])
        self._folder, self._keys = folder, keys
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
        for log in self._folder.glob("*.log"):
            lines = [line.split() for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
            if lines:
                right, errors = right + int(lines[-1][0]), errors + int(lines[-1][1])
        return right, errors

    def _start(self) -> BaseProcess:
        self._started += 1
        process = self._context.Process(target=begin, args=(self._folder, self._started, self._keys), daemon=True)
        process.start()
        return process

    def _kill(self, process: BaseProcess) -> None:
        self.ended_early += not process.is_alive()
        process.kill()
        process.join()


async def verify(path: Path, keys: int) -> tuple[int, int, int]:
    """Rows in the file, those with a wrong value, those the cache cannot give."""
    connection = sqlite3.connect(path)
    stored = [key for (key,) in connection.execute("SELECT key FROM verdicts")]
    connection.close()
    numbers = {key_of(number): number for number in range(keys)}
    cache = VerdictCache(path)
    found = await asyncio.gather(*(cache.get(key) for key in stored))
    await cache.aclose()
    pairs = zip(stored, found, strict=True)
    wrong = sum(value is not None and value != value_of(numbers.get(key, -1)) for key, value in pairs)
    return len(stored), wrong, found.count(None)


def run(folder: Path, kills: int, pause: float, processes: int, keys: int) -> int:
    path = folder / "cache.db"
    rng = random.Random()
    started = time.monotonic()
    fleet = Fleet(folder, processes, keys)
    for _ in range(kills):
        # The shortest pauses hit a process that is making or opening the file.
        time.sleep(rng.uniform(0, pause))
        fleet.kill_one(rng)
    time.sleep(pause)
    fleet.kill_all()
    rows, wrong, unreadable = asyncio.run(verify(path, keys))
    connection = sqlite3.connect(path)
    (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
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
    parser.add_argument("--kills", type=int, default=50, help="processes killed and replaced while the others go on")
    parser.add_argument("--pause", type=float, default=1.5, help="longest pause between kills in seconds")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the cache and the logs go; a temporary folder by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return run(folder, args.kills, args.pause, args.processes, args.keys)


if __name__ == "__main__":
    sys.exit(main())
