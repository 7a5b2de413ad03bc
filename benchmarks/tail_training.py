"""What a few slow calls of the judge cost a training run: with second requests, with late answers left behind, without.

    PYTHONPATH=.:benchmarks python benchmarks/tail_training.py [ROW ...]   # all, some 20 minutes, nothing beside it

The toy, 40 steps of GRPO, the offline judge's rules behind HTTP with 0.3 s a call; 1% of the calls take 30 times as
long. The calm run is made at the beginning and at the end, because a machine may grow slower. Printed are the mean time
of a step and of its parts, the time in which everything waited for the judge, the held-out gain and what was asked
twice. Exit code 1 where a step takes more than 1.15 times as long as a calm one with second requests, or 1.3 times with
late answers, where a gain is outside the noise of the calm run's, or where late answers were asked about twice.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import finished_runs
import judge_server
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CONFIG = "configs/grpo_cpu.yaml"
STEPS, ANSWERS = 40, 32
LATENCY_S = 0.3
TAIL = {"slow": 0.01, "times": 30}


@dataclass
class Row:
    tail: bool = True
    words: tuple[str, ...] = ()
    most: float = math.inf
    """Times the calm runs' step."""


UNHEDGED = ("reward.judge.hedge.budget=0",)
LATE = ("reward.late.share=0.25", "reward.late.patience=1.5", *UNHEDGED)
ROWS = {
    "calm": Row(tail=False),
    "slow calls, second requests": Row(most=1.15),
    "slow calls, late answers": Row(words=LATE, most=1.3),
    "slow calls": Row(words=UNHEDGED),
    "calm again": Row(tail=False),
}


def trained(name: str, row: Row) -> tuple[Path, dict[str, Any]]:
    """The run's directory, and what its judge has seen."""
    options = {"latency": LATENCY_S, "rules": True, "repeats": True, "seed": 1} | (TAIL if row.tail else {})
    with judge_server.running(**options) as url:
        words = [
            *[f"run.name=tail-{name.replace(', ', '-').replace(' ', '-')}", f"openrlhf.data.max_samples={STEPS * 4}"],
            *["reward.judge.kind=openai", "reward.judge.model=judge", f"reward.judge.base_url={url}", *row.words],
        ]
        return finished_runs.trained(CONFIG, words), judge_server.stats(url)


def step_s(run: Path) -> float:
    """Mean seconds from one step's first answer to the next one's."""
    times = sorted(one.time for one in finished_runs.answers(run) if one.split == "train")
    return (times[(STEPS - 1) * ANSWERS] - times[0]) / (STEPS - 1)


def parts(run: Path) -> dict[str, float]:
    """Mean seconds of a step's parts, by the trainer's own clock; of the judge by ours."""
    curves = EventAccumulator(str(run / "tensorboard" / run.name), {"scalars": 0}).Reload()
    found = {part: curves.Scalars(f"train/timing/{part}") for part in ("generation", "ppo_train")}
    return {part: statistics.fmean(point.value for point in points) for part, points in found.items()}


def main() -> int:
    print("| judge | step | times calm | rollouts and rewards | waits for the judge | learning | gain | asked twice |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |")
    made = {name: trained(name, ROWS[name]) for name in sys.argv[1:] or ROWS}
    calm_s = statistics.fmean(step_s(run) for name, (run, _) in made.items() if "calm" in name)
    calm = json.loads((made["calm"][0] / "summary.json").read_text())["gain"]
    missed = False
    for name, (run, seen) in made.items():
        row, of_step = ROWS[name], parts(run)
        seconds, summary = step_s(run), json.loads((run / "summary.json").read_text())
        gain = summary["gain"]
        low, high = gain["interval"]
        # Two means with intervals of their own: their difference is noise up to the root of both squares.
        noise = math.hypot(high - low, calm["interval"][1] - calm["interval"][0]) / 2
        missed |= seconds > row.most * calm_s or abs(gain["total"] - calm["total"]) > noise
        missed |= "late" in name and seen["repeated"] > 0
        print(
            f"| {name} | {seconds:.2f} s | {seconds / calm_s:.2f} | {of_step['generation']:.2f} s | "
            f"{summary['judge_wait_s']:.2f} s | {of_step['ppo_train']:.2f} s | "
            f"{gain['total']:+.2f} ({low:+.2f} to {high:+.2f}) | {seen['repeated']} |",
            flush=True,
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
