"""The judge engine against a local judge of fixed latency and capacity: a table of all its bars, ratios within one run.

    python benchmarks/engine.py              # all, some 12 minutes on two cores
    python benchmarks/engine.py latency groups calls cache overhead crowd faults kill retrieval [--calls 100000]

Each row runs in a process of its own and its judge in another. Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import judge_replies
import judge_server
from rich.console import Console
from rich.table import Table

from longreward import LongReward, Sample
from longreward.concurrency.pacing import rare_collections
from longreward.config import CacheConfig, JudgeConfig
from longreward.judge import make_judge
from longreward.judge.cache import VerdictCache
from longreward.judge.requests import RateHelpfulness
from longreward.text.chunking import chunks_between, word_cut_points
from longreward.text.retrieval import BM25Index

Row = tuple[str, str, str, bool]
"""What was measured, the figure, the bar, and whether it is met."""

WORDS = "copper silver harbour merchant letter winter ledger crate mill river bridge autumn debt cargo ship".split()
HAN = "铜银港口商人信件冬天账本箱子磨坊河流桥梁秋天债务货物船只城市街道教堂市场国王王后士兵战争和平"
QUERY = "What did Mara do?"


def document(tokens: int, seed: int, chinese: bool = False) -> str:
    """Sentences of random words, about `tokens` tokens (words or characters, and full stops)."""
    rng = random.Random(seed)
    if chinese:
        return "".join("".join(rng.choices(HAN, k=19)) + "。" for _ in range(tokens // 20))
    return " ".join(" ".join(rng.choices(WORDS, k=11)).capitalize() + "." for _ in range(tokens // 12))


def config(url: str, **sections: Any) -> dict[str, Any]:
    judge = {"kind": "openai", "base_url": url, "model": "judge"} | sections.pop("judge", {})
    return {"judge": judge, **sections}


# One answer


async def one_answer(url: str, repeats: int = 7) -> tuple[list[float], list[float]]:
    """Seconds per answer: about a document never seen, and about one that is prepared."""
    reward = LongReward.from_config(config(url))
    cold, prepared = [], []
    for seed in range(repeats + 1):
        context = document(32768, seed)
        for times, answer in ((cold, "Mara sold copper."), (prepared, "Otto bought copper.")):
            sample = Sample(context=context, query=QUERY, answer=answer)
            started = time.perf_counter()
            result = await reward.score(sample)
            times.append(time.perf_counter() - started)
            assert result.total is not None, result.void_reasons
    await reward.aclose()
    return cold[1:], prepared[1:]  # the first opens the connections


def by_command(url: str) -> float:
    """Seconds that `longreward score` itself reports for one answer in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        row = {"idx": 1, "context": document(32768, 99), "query": QUERY, "answer": "Mara sold copper."}
        source, out = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        source.write_text(json.dumps(row) + "\n")
        command = [sys.executable, "-m", "longreward", "score", source, "--out", out, "--judge", "openai"]
        text = subprocess.check_output([*command, "--base-url", url, "--model", "judge"], text=True)
    found = re.search(r"answers? in ([0-9.]+) s", text)
    assert found, text
    return float(found[1])


def latency(_: argparse.Namespace) -> list[Row]:
    judge_s = 0.2
    with judge_server.running(latency=judge_s) as url:
        cold, prepared = asyncio.run(one_answer(url))
        command = by_command(url)
    bound = 2 * judge_s
    rows = []
    for name, seconds, bar in (
        ("one answer, 32k tokens, 10 statements, L = 0.2 s, cold", statistics.median(cold), 1.25),
        ("the same with the document prepared", statistics.median(prepared), 1.15),
        ("the same cold, by `longreward score` in a fresh process", command, 1.5),
    ):
        ratio = seconds / bound
        rows.append((name, f"{ratio:.2f} x 2L ({seconds:.3f} s)", f"at most {bar} x 2L", ratio <= bar))
    return rows


# Many answers


async def many_answers(url: str, groups: int, **sections: Any) -> tuple[float, dict[str, float], int]:
    """Seconds for groups of ten answers, the judge's stats, and the number of voids."""
    samples = [
        Sample(context=document(32768, group), query=QUERY, answer=f"Mara {group}-{i} sold")
        for group in range(groups)
        for i in range(10)
    ]
    reward = LongReward.from_config(config(url, **sections))
    # One call opens the door; everything else is measured.
    await reward.score(Sample(context="Mara.", query=QUERY, answer="Mara sold."))
    started = time.perf_counter()
    results = await reward.score_many(samples, concurrency=len(samples))
    seconds = time.perf_counter() - started
    stats = reward.stats()
    await reward.aclose()
    return seconds, stats, sum(result.total is None for result in results)


def groups(_: argparse.Namespace) -> list[Row]:
    judge_s, capacity = 0.5, 256
    with judge_server.running(latency=judge_s, capacity=capacity) as url:
        # A few more wait at the judge, so that no place there is empty while a reply travels.
        seconds, _stats, voids = asyncio.run(many_answers(url, 32, judge={"max_in_flight": capacity + 64}))
        calls = judge_server.stats(url)["requests"] - 15  # the first answer's own
    best = max(calls * judge_s / capacity, 2 * judge_s)
    share = best / seconds
    figure = f"{share:.1%} ({seconds:.2f} s for {calls} calls, best {best:.2f} s, {voids} voids)"
    return [("32 groups of 10 answers, capacity 256, L = 0.5 s", figure, "at least 95%", share >= 0.95 and not voids)]


def calls(_: argparse.Namespace) -> list[Row]:
    rows = []
    for name, section, bar in (("paper's mode", {}, 148), ("3 statements a call", {"statements_per_call": 3}, 90)):
        with judge_server.running(latency=0.02) as url:
            asyncio.run(many_answers(url, 1, faithfulness=section))
            made = judge_server.stats(url)["requests"] - (15 if not section else 9)  # the first answer's own
        rows.append((f"judge calls for a group of 10, {name}", str(made), f"at most {bar}", made <= bar))
    return rows


def cache(_: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, judge_server.running(latency=0.02) as url:
        section = {"path": Path(folder) / "cache.db"}
        asyncio.run(many_answers(url, 4, cache=section))
        first = judge_server.stats(url)["requests"]
        seconds, _stats, voids = asyncio.run(many_answers(url, 4, cache=section))
        second = judge_server.stats(url)["requests"] - first
    figure = f"{second} calls after {first} ({seconds:.2f} s for 40 answers)"
    return [("a second run over the same data", figure, "0 calls", second == 0 and not voids)]


# One call


def small(number: int, size: int = 0) -> RateHelpfulness:
    """A request whose prompt has about `size` bytes."""
    return RateHelpfulness(
        "en", QUERY, f"Answer {number}. " + "Mara sold copper in Lisbon. " * max(0, (size - 2900) // 28)
    )


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """CPU seconds of this process, and the event loop's lags in seconds (sorted)."""
    found: dict[str, Any] = {}
    lags: list[float] = []

    async def probe() -> None:
        while True:
            due = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - due)

    task = asyncio.get_running_loop().create_task(probe())
    cpu = time.process_time()
    yield found
    found["cpu"] = time.process_time() - cpu
    task.cancel()
    lags.sort()
    found["p99"], found["max"] = lags[int(len(lags) * 0.99)], lags[-1]


async def ask_all(judge: Any, requests: list[Any], at_once: int) -> list[Any]:
    """All verdicts, at most `at_once` under way."""
    places = asyncio.Semaphore(at_once)

    async def ask(number: int) -> Any:
        async with places:
            return await judge.ask(requests[number], document=str(number % 64))

    return await asyncio.gather(*map(ask, range(len(requests))))


def overhead(_: argparse.Namespace) -> list[Row]:
    """CPU per call with everything on: cache, two endpoints, rates, price and cap."""

    async def run(urls: list[str], path: Path) -> tuple[float, float]:
        judge = make_judge(
            JudgeConfig(
                kind="openai",
                model="judge",
                endpoints=[{"base_url": url} for url in urls],
                requests_per_minute=1e7,
                tokens_per_minute=1e10,
                price={"prompt_per_million": 1},
                spend={"max_cost": 1e6},
            ),
            VerdictCache.of(CacheConfig(path=path)),
        )
        await ask_all(judge, [small(-i, 4096) for i in range(1, 400)], 200)
        requests = [small(i, 4096) for i in range(4000)]
        with measured() as found:
            verdicts = await ask_all(judge, requests, 1000)
        assert all(verdict.ok for verdict in verdicts)
        size = len(requests[0].text())
        await judge.aclose()
        return found["cpu"] / len(requests), size

    with (
        tempfile.TemporaryDirectory() as folder,
        judge_server.running(latency=0.2) as one,
        judge_server.running(latency=0.2) as two,
    ):
        seconds, size = asyncio.run(run([one, two], Path(folder) / "cache.db"))
    figure = f"{seconds * 1000:.2f} ms CPU"
    return [
        (f"overhead per call, all layers, 200 in flight, {size} bytes", figure, "at most 2.5 ms", seconds <= 2.5e-3)
    ]


def crowd(_: argparse.Namespace) -> list[Row]:
    """2,000 calls in flight in one process: the loop's lag and the memory they take."""

    def memory() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

    async def run(url: str) -> tuple[float, float, float, float]:
        judge = make_judge(JudgeConfig(kind="openai", model="judge", base_url=url, max_in_flight=2000))
        await judge.ask(small(-1))
        before, peak = memory(), 0.0
        with measured() as found:
            asking = asyncio.create_task(ask_all(judge, [small(i) for i in range(8000)], 2000))
            most = 0.0
            while not asking.done():
                await asyncio.sleep(0.2)
                most = max(most, judge.stats()["judge/in_flight"])
                peak = max(peak, memory())
        assert all(verdict.ok for verdict in asking.result())
        await judge.aclose()
        return found["p99"], found["max"], (peak - before) / 2, most

    with judge_server.running(latency=5) as url:
        p99, worst, megabytes, most = asyncio.run(run(url))
    return [
        (
            f"{most:.0f} calls in flight: event-loop lag, p99",
            f"{p99 * 1000:.0f} ms (worst {worst * 1000:.0f} ms)",
            "under 50 ms",
            p99 < 0.05 and most == 2000,
        ),
        ("the same: memory per 1,000 small calls", f"{megabytes:.0f} MB", "under 60 MB", megabytes < 60),
    ]


# Faults


BY_THE_TABLE = {"truncated": 2, "parse_error": 3}
"""Faults of the reply itself, which cost tokens: void by the failure table after so many attempts."""


def faults(options: argparse.Namespace) -> list[Row]:
    """Every call one outcome, and the right one, though every tenth reply is a fault drawn from the table; and slow
    calls are asked a second time, where no fault says that the judge has too many."""

    async def run(urls: list[str], path: Path) -> tuple[Counter[str], int, list[Any], float, int]:
        judge = make_judge(
            JudgeConfig(
                kind="openai",
                model="judge",
                endpoints=[{"base_url": url} for url in urls],
                attempt_timeout_s=5,
                call_timeout_s=60,
                retry_base_s=0.1,
                spend={"max_tokens": 10**12},
                hedge={"budget": 0.1},
            ),
            VerdictCache.of(CacheConfig(path=path)),
        )
        outcomes: Counter[str] = Counter()
        wrong, voids = 0, []
        started = time.perf_counter()
        requests = [small(i) for i in range(options.calls)]
        verdicts = await ask_all(judge, requests, 1000)
        for request, verdict in zip(requests, verdicts, strict=True):
            outcomes[verdict.call.status] += 1
            wrong += verdict.ok and verdict.value != judge_replies.rating(request.text())
            if not verdict.ok:
                voids.append(verdict.call)
        stats = judge.stats()
        assert stats["judge/in_flight"] + stats["judge/waiting"] == 0, stats
        await judge.aclose()
        return outcomes, wrong, voids, time.perf_counter() - started, int(stats.get("judge/hedged", 0))

    rows: list[Row] = []
    for kind in ({}, {"without": "429", "slow": 0.01, "times": 10}):
        settings = {"latency": 0.2, "faults": 0.1} | kind
        with (
            tempfile.TemporaryDirectory() as folder,
            judge_server.running(**settings, seed=1) as one,
            judge_server.running(**settings, seed=2) as two,
        ):
            outcomes, wrong, voids, seconds, hedged = asyncio.run(run([one, two], Path(folder) / "cache.db"))
            served = sum((Counter(judge_server.stats(url)["faults"]) for url in (one, two)), Counter())
        needless = [call for call in voids if call.attempts < BY_THE_TABLE.get(call.status, math.inf)]
        lost = options.calls - sum(outcomes.values())
        by_table = ", ".join(f"{status} {count}" for status, count in sorted(outcomes.items()) if status != "ok")
        what = f"{options.calls:,} calls, {sum(served.values()):,} faults{', 1% slow, no 429' if kind else ''}"
        done = not lost and not wrong and (hedged > 0 or not kind)
        rows += [
            (f"{what}, {hedged:,} asked twice ({seconds:.0f} s): lost, wrong", f"{lost}, {wrong}", "0, 0", done),
            ("the same: voids where a retry could have helped", str(len(needless)), "0", not needless),
            ("the same: voids that the failure table asks for", by_table or "none", "", True),
        ]
    return rows


def kill(_: argparse.Namespace) -> list[Row]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("cache_kill.py")], capture_output=True, text=True, check=False
    )
    found = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if len(line.split()) > 1)
    figure = f"{found.get('wrong')} wrong, {found.get('unreadable')} unreadable of {found.get('rows')} rows"
    return [("SIGKILL of one of 8 processes sharing a cache, 50 times", figure, "0, 0", done.returncode == 0)]


def retrieval(_: argparse.Namespace) -> list[Row]:
    rows = []
    for name, chinese in (("English", False), ("Chinese", True)):
        times = []
        for seed in range(5):
            text = document(65536, seed, chinese)
            queries = [document(24, 1000 + seed * 10 + i, chinese) for i in range(10)]
            started = time.perf_counter()
            index = BM25Index([part.text for part in chunks_between(text, word_cut_points(text), 128)])
            for query in queries:
                index.top(query, 5)
            times.append(time.perf_counter() - started)
        seconds = statistics.median(times[1:])
        row = (
            f"retrieval, 64k tokens, index + 10 queries, {name}",
            f"{seconds:.3f} s",
            "at most 0.25 s",
            seconds <= 0.25,
        )
        rows.append(row)
    return rows


ROWS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    f.__name__: f for f in (latency, groups, calls, cache, overhead, crowd, faults, kill, retrieval)
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="which; all by default")
    parser.add_argument("--calls", type=int, default=100_000, help="calls of the row `faults`")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.json:
        rare_collections()  # as the judge workers do
        print(json.dumps(ROWS[options.rows[0]](options)))
        return 0
    table = Table()
    for heading in ("what", "measured", "bar", ""):
        table.add_column(heading)
    missed = 0
    for name in options.rows or ROWS:
        command = [sys.executable, __file__, name, "--json", f"--calls={options.calls}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        for what, figure, bar, met in json.loads(done.stdout.splitlines()[-1]):
            table.add_row(what, figure, bar, "" if met else "MISSED")
            missed += not met
    Console(width=max(140, Console().width)).print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
