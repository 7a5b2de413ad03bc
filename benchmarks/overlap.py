"""What is left of a step's scoring after its last token? Answers that end one after the other, as engines write them.

    PYTHONPATH=.:benchmarks python benchmarks/overlap.py

64 answers about 8 documents of 16k tokens; their prompts come at the beginning, the answers end evenly over some
seconds, and the judge takes 0.3 s for a call. The least that can be left is two calls in a row: the statements of the
last answer, and what the document says to each. Printed is what was left: with all done as early as it can be, and
with all scored after the last token, as by a reward function that is called with the whole batch. Exit code 1 where
more than 1.3 times the least is left.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

import judge_server
from engine import QUERY, document

from longreward import LongReward, Sample

LATENCY_S = 0.3
ANSWERS, DOCUMENTS, TOKENS = 64, 8, 16384
ROWS = {"a judge with room": (256, 6.0), "a judge that is just fast enough": (48, 12.0)}
"""Calls that the judge takes at once, and seconds over which the answers end."""
REPEATS = 3
MOST = 1.3


def samples(seed: int) -> list[Sample]:
    return [
        Sample(context=document(TOKENS, seed * DOCUMENTS + i % DOCUMENTS), query=QUERY, answer=f"Mara {seed}-{i} sold")
        for i in range(ANSWERS)
    ]


async def left(capacity: int, seconds: float, seed: int, *, early: bool) -> float:
    """Seconds from the last token to the last reward."""
    with judge_server.running(latency=LATENCY_S, capacity=capacity) as url:
        judge = {"kind": "openai", "model": "judge", "base_url": url, "max_in_flight": capacity}
        reward = LongReward.from_config({"judge": judge})
        await reward.score(Sample(context="Mara sold tea.", query=QUERY, answer="Mara sold."))  # connects
        answers, began = samples(seed), time.monotonic()
        if early:
            for sample in answers:
                reward.prepare(sample.context, sample.query)

        async def one(index: int, sample: Sample) -> None:
            ends = began + seconds * ((index + 1) / ANSWERS if early else 1)
            await asyncio.sleep(ends - time.monotonic())
            scored = await reward.score(sample)
            assert scored.total is not None, scored.void_reasons

        async with asyncio.TaskGroup() as group:
            for index, sample in enumerate(answers):
                group.create_task(one(index, sample))
        after = time.monotonic() - began - seconds
        await reward.aclose()
    return after


def main() -> int:
    print(f"the least: two calls, {2 * LATENCY_S:.1f} s\n")
    print("| judge | left after the last token | times the least | all scored after it | times the least |")
    print("| --- | ---: | ---: | ---: | ---: |")
    missed = False
    for name, (capacity, seconds) in ROWS.items():
        found = [
            statistics.median(asyncio.run(left(capacity, seconds, seed, early=early)) for seed in range(REPEATS))
            for early in (True, False)
        ]
        times = [each / (2 * LATENCY_S) for each in found]
        missed |= times[0] > MOST
        cells = " | ".join(f"{each:.2f} s | {time:.2f}" for each, time in zip(found, times, strict=True))
        print(f"| {name} | {cells} |", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
