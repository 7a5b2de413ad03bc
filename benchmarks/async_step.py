"""Async training with a slow judge: its step time against that of the same run with an instant reward.

    python benchmarks/async_step.py [--steps 40]      # two runs of the toy without a GPU, some 6 minutes

The judge's latency is chosen so that scoring an answer (two latencies) takes as long as generation and learning of a
step together, as the instant run measures them. Exit 1 where the slow run's step takes more than 1.15 times as long.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import chaos
import judge_server

BAR = 1.15
_WARM_UP = 8  # steps: the engines' first requests, and the pipeline that fills up


def train(folder: Path, name: str, latency_s: float, settings: list[str]) -> dict[str, float]:
    """Seconds by part of a step, means over the steps after the warm-up."""
    with (
        judge_server.running(latency=latency_s, rules=True) as url,
        chaos.run(folder, name, url, *settings, config="grpo_async_cpu") as run,
    ):
        run.finish(1200)
        curves = run.curves()
    timing = {tag.removeprefix("train/timing/"): values for tag, values in curves.items() if "timing/" in tag}
    means = {part: statistics.fmean(values[_WARM_UP:]) for part, values in timing.items()}
    return means | {"judge_seconds": statistics.fmean(curves["train/longreward/judge_seconds"][_WARM_UP:])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    parser.add_argument("settings", nargs="*", help="further settings of both runs, section.key=value")
    options = parser.parse_args()
    settings = ["data.heldout=null", f"openrlhf.data.max_samples={4 * options.steps}", *options.settings]
    with tempfile.TemporaryDirectory(prefix="async-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        instant = train(folder, "instant", 0.0, settings)
        work_s = instant["generation"] + instant["make_experience"] + instant["ppo_train"] + instant["broadcast"]
        slow = train(folder, "slow", work_s / 2, settings)
    print(f"{'seconds per step':<18}{'instant':>9}{'slow':>9}")
    for part in instant:
        print(f"{part:<18}{instant[part]:>9.2f}{slow[part]:>9.2f}")
    ratio = slow["step_total"] / instant["step_total"]
    print(f"generation + learning {work_s:.2f} s, scoring an answer in the slow run {slow['judge_seconds']:.2f} s")
    print(f"step time {ratio:.2f} x that of the instant run; bar {BAR}: {'met' if ratio <= BAR else 'MISSED'}")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
