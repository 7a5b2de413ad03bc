"""Pairs from a large store: how long it takes, and how much memory.

    python benchmarks/pairs.py [--answers 100000] [--folder DIR]

The store is made in a temporary folder (some 20 KB an answer, 2 GB for 100,000, evidence included, a tenth void, in
random order over eight files) and removed at the end. Exit code 1 over 60 s or 1 GiB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from longreward.files.jsonlines import Appender
from longreward.schema import (
    DIMENSIONS,
    DimensionScore,
    Evidence,
    JudgeCall,
    Reward,
    Sample,
    ScoredAnswer,
    Statement,
    Usage,
)
from longreward.store import Store
from rl.data.prompts import Label
from rl.offline.pairs import PairSection, make_pairs

MOST_SECONDS, MOST_GIB = 60, 1.0
FILES, PER_PROMPT, PROMPT_CHARACTERS = 8, 10, 20_000
EOS = "<|end|>"
WORDS = [f"word{i}" for i in range(997)]


def text(rng: random.Random, characters: int) -> str:
    return " ".join(rng.choices(WORDS, k=characters // 7))


def call(rng: random.Random, kind: str, status: str = "ok") -> JudgeCall:
    usage = Usage(calls=1, prompt_tokens=900, completion_tokens=90)
    return JudgeCall(kind=kind, status=status, text=text(rng, 400), attempts=1, seconds=1.0, usage=usage)


def scored(rng: random.Random, void: bool) -> Reward:
    """As faithfulness leaves it: six statements, each with five chunks of evidence."""
    statements = [
        Statement(
            text=text(rng, 80),
            support=rng.choice([0.0, 0.5, 1.0]),
            evidence=[Evidence(index=i, start=i * 600, end=(i + 1) * 600, text=text(rng, 360)) for i in range(5)],
            call=call(rng, "verify_statement"),
        )
        for _ in range(6)
    ]
    dimensions = {
        name: DimensionScore(
            score=None if void and name == "completeness" else rng.randint(0, 20) / 2,
            status="timeout" if void and name == "completeness" else "ok",
            calls=[call(rng, name)],
            statements=statements if name == "faithfulness" else [],
        )
        for name in DIMENSIONS
    }
    scores = [dimension.score for dimension in dimensions.values()]
    total = None if None in scores else sum(score or 0 for score in scores) / 4
    return Reward(id="", total=total, dimensions=dimensions, seconds=2.0)


def make(folder: Path, answers: int) -> int:
    """Write store and prompts; how many bytes the store has."""
    rng = random.Random(0)
    rewards = [scored(rng, void) for void in [True] * 30 + [False] * 270]
    prompts = max(1, answers // PER_PROMPT)
    with Appender(folder / "prompts.jsonl") as file:
        for number in range(prompts):
            context, query = text(rng, PROMPT_CHARACTERS), f"What does document {number} say?"
            prompt = f"<user>{context}\n\n{query}<assistant>"
            start = 6 + len(context) + 2
            label = Label(f"train-{number:05}", "train", (6, 6 + len(context)), (start, start + len(query)))
            file.append({"input": prompt, "label": label.to_json()})
    files = [Store(folder / "store" / f"answers-{number}-0.jsonl") for number in range(FILES)]
    order = list(range(answers))
    rng.shuffle(order)
    for number in order:
        prompt_number = number % prompts
        query = f"What does document {prompt_number} say?"
        sample = Sample(id=f"train-{prompt_number:05}", context="", query=query, answer=text(rng, 1500))
        about: dict[str, Any] = {
            "split": "train",
            "rollout": f"{rng.getrandbits(128):032x}",
            "truncated": rng.random() < 0.02,
            "tokens": rng.randint(50, 500),
            "time": 1.8e9 + number,
        }
        rng.choice(files).append(ScoredAnswer.of(sample, rng.choice(rewards), **about))
    for store in files:
        store.close()
    return sum(store.path.stat().st_size for store in files)


def measure(folder: Path) -> dict[str, Any]:
    """In a process of its own, whose peak memory counts."""
    started = time.monotonic()
    report = make_pairs(
        [folder / "store"], folder / "prompts.jsonl", folder / "pairs.jsonl", PairSection(), eos=EOS, fits=None
    )
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "gib": peak, "sentence": report.sentence()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    with tempfile.TemporaryDirectory(prefix="pairs-", dir=options.folder) as name:
        size = make(Path(name), options.answers)
        print(f"store: {options.answers:,} answers, {size / 1e9:.2f} GB, {size / options.answers / 1e3:.1f} KB each")
        words = [sys.executable, __file__, "--measure", name]
        found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(found["sentence"])
    print(f"{found['seconds']:.1f} s (bar {MOST_SECONDS} s), peak {found['gib']:.2f} GiB (bar {MOST_GIB:.0f} GiB)")
    return int(found["seconds"] > MOST_SECONDS or found["gib"] > MOST_GIB)


if __name__ == "__main__":
    sys.exit(main())
