"""What does a call cost in CPU time with each of the caches? Ten processes make 1,000 calls a second in all.

    PYTHONPATH=.:benchmarks python benchmarks/cache_cost.py [--processes 10] [--rate 1000] [--seconds 10]

A call is a question to the judge: looked up, asked, kept. Printed are microseconds of CPU a call, of the processes that
ask and of the redis-server. Exit code 1 where a call with Redis costs more than 1.3 times what it costs with a file.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import judge_server
from cache_kill import opened, served

from longreward.config import JudgeConfig
from longreward.judge import Judge, make_judge
from longreward.judge.requests import RateHelpfulness

KINDS = ("none", "path", "run", "url")
MOST = 1.3
LATENCY_S = 0.1


async def calls(judge: Judge, first: int, count: int, rate: float) -> None:
    """So many calls at this rate."""
    began = time.monotonic()

    async def one(number: int) -> None:
        verdict = await judge.ask(RateHelpfulness("en", f"What is {number} plus 1? " + "x" * 1000, f"It is {number}."))
        assert verdict.value is not None, verdict.call

    async with asyncio.TaskGroup() as group:
        for index in range(count):
            await asyncio.sleep(max(0.0, began + index / rate - time.monotonic()))
            group.create_task(one(first + index))


async def asked(kind: str, folder: Path, url: str, first: int, count: int, rate: float) -> float:
    """The CPU seconds of the calls, without those of the start."""
    cache = None if kind == "none" else opened(kind, folder)
    judge = make_judge(JudgeConfig(kind="openai", model="judge", base_url=url), cache)
    await calls(judge, -1 - first, 1, rate)
    before = resource.getrusage(resource.RUSAGE_SELF)
    await calls(judge, first, count, rate)
    await judge.aclose()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def process(end: Connection, *words: Any) -> None:
    end.send(asyncio.run(asked(*words)))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def measure(kind: str, processes: int, rate: float, seconds: float) -> tuple[float, float]:
    """CPU seconds of all processes, and of the server."""
    with (
        tempfile.TemporaryDirectory() as name,
        served(kind, folder := Path(name)) as server,
        judge_server.running(latency=LATENCY_S) as url,
    ):
        context = multiprocessing.get_context("spawn")
        count = round(rate * seconds / processes)
        started = []
        for index in range(processes):
            here, there = context.Pipe(duplex=False)
            words = kind, folder, url, index * count, count, rate / processes
            started.append((context.Process(target=process, args=(there, *words)), here))
            started[-1][0].start()
        used = sum(here.recv() for _, here in started)
        for each, _ in started:
            each.join()
        return used, 0.0 if server is None else cpu_seconds(server.pid)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1000, help="calls a second of all processes")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    given = options.processes, options.rate, options.seconds
    found = {kind: measure(kind, *given) for kind in KINDS}
    calls_made = options.rate * options.seconds
    cost = {kind: used / calls_made * 1e6 for kind, (used, _) in found.items()}
    print("| cache | CPU a call, us | of the server, us |\n| --- | ---: | ---: |")
    for kind, (_, server) in found.items():
        print(f"| {kind} | {cost[kind]:.0f} | {server / calls_made * 1e6:.0f} |")
    print(f"Redis against the file: {cost['url'] / cost['path']:.2f}; the run's own: {cost['run'] / cost['path']:.2f}")
    return int(cost["url"] > MOST * cost["path"])


if __name__ == "__main__":
    sys.exit(main())
