"""How long one answer takes against a judge of fixed latency: the bound is two judge latencies.

    python benchmarks/score_latency.py [--latency 0.2] [--statements 10] [--tokens 32768] [--repeats 5]

Also run through the command `longreward score`, whose own table tells the time of the scoring itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from longreward import LongReward, Sample

WORDS = "copper silver harbour merchant letter winter ledger crate mill river bridge autumn debt cargo ship".split()


def document(tokens: int, seed: int) -> str:
    """Sentences of random words, about `tokens` tokens (words and full stops)."""
    rng = random.Random(seed)
    return " ".join(" ".join(rng.choices(WORDS, k=11)).capitalize() + "." for _ in range(tokens // 12))


async def measure(url: str, tokens: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds per answer: cold (a document never seen), and with the document prepared."""
    reward = LongReward.from_config({"judge": {"kind": "openai", "base_url": url, "model": "judge"}})
    cold, prepared = [], []
    for seed in range(repeats + 1):
        context = document(tokens, seed)
        for times, answer in ((cold, "Mara sold copper."), (prepared, "Mara sold 10 crates of copper.")):
            started = time.perf_counter()
            result = await reward.score(Sample(id="1", context=context, query="What did Mara do?", answer=answer))
            times.append(time.perf_counter() - started)
            assert result.total is not None, result.void_reasons
    await reward.aclose()
    return cold[1:], prepared[1:]  # the first opens the connections


def by_command(url: str, tokens: int) -> float:
    """Seconds that `longreward score` itself reports for one answer in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        row = {"idx": 1, "context": document(tokens, 99), "query": "What did Mara do?", "answer": "Mara sold copper."}
        source, out = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        source.write_text(json.dumps(row) + "\n")
        command = [sys.executable, "-m", "longreward", "score", source, "--out", out, "--judge", "openai"]
        text = subprocess.check_output([*command, "--base-url", url, "--model", "judge"], text=True)
    found = re.search(r"answers? in ([0-9.]+) s", text)
    assert found, text
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--statements", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [f"--port={port}", f"--latency={options.latency}", f"--statements={options.statements}"]
    server = subprocess.Popen([sys.executable, Path(__file__).with_name("judge_server.py"), *words])
    try:
        _wait_for(port)
        url = f"http://127.0.0.1:{port}/v1"
        cold, prepared = asyncio.run(measure(url, options.tokens, options.repeats))
        command = by_command(url, options.tokens)
    finally:
        server.terminate()
        server.wait()
    bound = 2 * options.latency
    print(f"{options.tokens} tokens, {options.statements} statements, judge {options.latency} s, bound {bound:.2f} s")
    for name, seconds in (
        ("cold, median", statistics.median(cold)),
        ("prepared, median", statistics.median(prepared)),
        ("longreward score, one answer, fresh process", command),
    ):
        print(f"{name:45} {seconds:.3f} s  {seconds / bound:.2f} x bound")


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"the judge server did not open port {port} within 20 s")


if __name__ == "__main__":
    main()
