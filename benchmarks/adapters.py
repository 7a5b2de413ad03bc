"""2,000 answers through every protocol and adapter, while every tenth reply of the judge is a fault.

    python benchmarks/adapters.py [TRAINER ...] [--answers 2000]

The trainers are those of tests/adapters, asked as they ask. A score is false where it is not the one that the judge
gives without faults; an answer is lost where the trainer gets nothing for it, not even that it is void. Exit 1 where
there is one. A trainer whose packages are not installed is named and left out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "adapters"))

import judge_server
from serve import serving
from trainers import TRAINERS, Way
from trainers.trainer import Row, Seen

from longreward import LongReward, Sample

GROUP = 8
WEIGHTS = {"helpfulness": 1, "logicality": 1}


def answers(count: int) -> list[Row]:
    """Groups of 8 answers to a question each."""
    return [
        {
            "idx": number,
            "context": f"Mara sold copper to Otto in Lisbon, {number // GROUP}.",
            "query": f"What did Mara sell, {number // GROUP}?",
            "answer": f"Mara sold {number} tons.",
        }
        for number in range(count)
    ]


def config(url: str) -> dict[str, Any]:
    """Few attempts, so that some answers stay void."""
    judge = {"kind": "openai", "base_url": url, "model": "judge", "max_in_flight": 128, "attempt_timeout_s": 3}
    return {"judge": judge | {"max_attempts": 2, "parse_attempts": 1, "retry_base_s": 0.05}, "weights": WEIGHTS}


async def truths(rows: Sequence[Row]) -> list[float]:
    with judge_server.running(latency=0.0) as url:
        reward = LongReward.from_config(config(url))
        samples = [Sample(**{name: row[name] for name in ("context", "query", "answer")}) for row in rows]
        totals = [one.total for one in await reward.score_many(samples)]
        await reward.aclose()
    return [total for total in totals if total is not None]


async def seen_by(way: Way, settings: dict[str, Any], url: str | None, rows: Sequence[Row]) -> list[Seen]:
    trainer = way.trainer(settings, url)
    try:
        # As many at once as a rollout batch has.
        batches = [rows[start : start + 64 * GROUP] for start in range(0, len(rows), 64 * GROUP)]
        return [seen for batch in batches for seen in await trainer.rewards(batch)]
    finally:
        await trainer.aclose()


def harmless(number: int, seen: Sequence[Seen], expected: Sequence[float]) -> bool:
    """Whether a number that stands for no score lies among its siblings' scores, or all of them are void as well."""
    first = number - number % GROUP
    siblings = [expected[i] for i in range(first, first + GROUP) if i != number]
    return min(siblings) <= (seen[number].reward or 0.0) <= max(siblings)


def run(name: str, rows: Sequence[Row], expected: Sequence[float]) -> tuple[str, ...]:
    way = TRAINERS[name]
    with judge_server.running(latency=0.02, faults=0.1, seed=1, without="429 retry-after 300") as judge:
        settings = config(judge) | {"serve": {"group_size": GROUP}}
        with serving(settings) if way.served else nullcontext() as server:
            begun = time.monotonic()
            seen = asyncio.run(seen_by(way, settings, server.url if server else None, rows))
            seconds = time.monotonic() - begun
        faults = sum(judge_server.stats(judge)["faults"].values())
    pairs = list(zip(seen, expected, strict=False))
    right = [one.reward is not None and not one.void and abs(one.reward - score) < 1e-6 for one, score in pairs]
    # Where a trainer is not told, what is no score must be what stands for one.
    void = [one.void or not (right[i] or way.tells_voids) for i, (one, _) in enumerate(pairs)]
    false = sum(
        not (right[i] or (void[i] and (one.reward is None or harmless(i, seen, expected))))
        for i, (one, _) in enumerate(pairs)
    )
    lost = len(rows) - len(seen)
    return name, str(len(rows)), str(faults), str(sum(right)), str(sum(void)), str(false), str(lost), f"{seconds:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainers", nargs="*", choices=[*TRAINERS, []], help="which; all by default")
    parser.add_argument("--answers", type=int, default=2000)
    options = parser.parse_args()
    rows = answers(options.answers)
    expected = asyncio.run(truths(rows))
    table = Table("trainer", "answers", "faults", "scored", "void", "false", "lost", "time")
    bad = []
    for name in options.trainers or TRAINERS:
        try:
            found = run(name, rows, expected)
        except ModuleNotFoundError as missing:
            print(f"{name}: left out, {missing}", file=sys.stderr)
            continue
        table.add_row(*found)
        bad += [name] if found[5:7] != ("0", "0") else []
    Console(width=110).print(table)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
