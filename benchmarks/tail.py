"""What a few slow calls of the judge cost a step, with second requests (`judge.hedge`) and without.

    PYTHONPATH=. python benchmarks/tail.py [ROW ...]      # all, some quarter of an hour on two cores

A step is 64 answers about 8 documents, all scored at once; the judge takes 0.3 s for a call. Printed are the times of a
step as multiples of one without slow calls, medians of several, and the calls beyond those that had to be made. Exit
code 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import judge_server
from engine import QUERY, document

from longreward import LongReward, Reward, Sample

LATENCY_S = 0.3
ANSWERS, DOCUMENTS = 64, 8
REPEATS = 7  # one slow call more or less in a row of two makes a third of a step: the median of few is chance
OFF, ON = {"budget": 0.0}, {"budget": 0.1}


@dataclass
class Row:
    """A kind of slow calls, and the bars for it."""

    judge: dict[str, Any]
    endpoints: int = 1
    only_first: bool = False
    """Only the first endpoint is like that."""
    most: float | None = None
    """Times of a step without slow calls."""
    of_unhedged: float | None = None
    calls: float | None = None
    """Share of further calls."""
    unhedged: int = 3
    """So many steps are measured without second requests."""


ROWS = {
    "1% x 30": Row({"slow": 0.01, "times": 30}, most=1.3, calls=0.05),
    "1% x 30, two endpoints": Row({"slow": 0.01, "times": 30}, endpoints=2, most=1.3, calls=0.05),
    "5% x 10": Row({"slow": 0.05, "times": 10}, most=1.6, of_unhedged=0.5),
    "log-normal": Row({"sigma": 1.5}, of_unhedged=0.5),
    "one of four hangs": Row({"hang": 120}, endpoints=4, only_first=True, most=1.5, unhedged=1),
    "all slow together": Row({"slow_from": 0.7, "slow_until": 20, "times": 10}, calls=0.01, of_unhedged=1.02),
    "at capacity": Row({"capacity": 32}, calls=0.01, of_unhedged=1.02),
}


@dataclass
class Step:
    seconds: float
    calls: int
    hedged: int
    void: int


async def steps(row: Row, hedge: dict[str, Any], seed: int, tail: dict[str, Any]) -> Step:
    """The second of two steps, of answers that were never scored before. With it the judge gets its tail."""
    with ExitStack() as stack:
        urls = [
            stack.enter_context(judge_server.running(latency=LATENCY_S, seed=seed * 100 + place))
            for place in range(row.endpoints)
        ]
        judge = {"kind": "openai", "model": "judge", "endpoints": [{"base_url": url} for url in urls], "hedge": hedge}
        reward = LongReward.from_config({"judge": judge})
        await scored(reward, 2 * seed)
        for url in urls[:1] if row.only_first else urls:
            judge_server.stats(url, **tail)
        before, started = reward.stats(), time.perf_counter()
        results = await scored(reward, 2 * seed + 1)
        seconds, after = time.perf_counter() - started, reward.stats()
        await reward.aclose()
    calls, hedged = (int(after[name] - before.get(name, 0)) for name in ("judge/requests", "judge/hedged"))
    return Step(seconds, calls, hedged, sum(result.total is None for result in results))


async def scored(reward: LongReward, number: int) -> list[Reward]:
    samples = [
        Sample(
            context=document(8192, number * DOCUMENTS + i % DOCUMENTS), query=QUERY, answer=f"Mara {number}-{i} sold"
        )
        for i in range(ANSWERS)
    ]
    return await reward.score_many(samples, concurrency=ANSWERS)


def several(row: Row, hedge: dict[str, Any], tail: dict[str, Any], repeats: int = REPEATS) -> list[Step]:
    return [asyncio.run(steps(row, hedge, seed, tail)) for seed in range(repeats)]


def measured(name: str, row: Row) -> bool:
    calm, without = several(row, OFF, {}), several(row, OFF, row.judge, row.unhedged)
    hedged = several(row, ON, row.judge)
    base, off, on = (statistics.median(step.seconds for step in found) for found in (calm, without, hedged))
    calls = sum(step.hedged for step in hedged) / sum(step.calls - step.hedged for step in hedged)
    void = sum(step.void for step in hedged)
    met = (
        (row.most is None or on <= row.most * base)
        and (row.of_unhedged is None or on <= row.of_unhedged * off)
        and (row.calls is None or calls <= row.calls)
        and not void
    )
    worst = max(step.seconds for step in hedged)
    print(
        f"| {name} | {base:.2f} s | {off / base:.2f} | {on / base:.2f} (worst {worst / base:.2f}) | {on / off:.2f} | "
        f"{calls:.1%} | {void} | {'met' if met else 'MISSED'} |",
        flush=True,
    )
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    names = parser.parse_args().rows or list(ROWS)
    print("| slow calls | step without | without hedging | hedged | hedged / not | second requests | void | |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    return sum(not measured(name, ROWS[name]) for name in names)


if __name__ == "__main__":
    sys.exit(main())
