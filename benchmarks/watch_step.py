"""What do an advantage per dimension, the judge's noise and a shadow judge cost a step?

    python benchmarks/watch_step.py [--steps 24]      # four runs of the toy without a GPU, some 12 minutes

Two runs without them and two with all of them, in the order without, with, with, without, so that a machine that grows
slower is slower for both; a judge of 0.2 s. Exit 1 where a step takes more than 1.03 times as long with them.
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

BAR = 1.03
_LATENCY_S = 0.2
_WARM_UP = 4  # steps: the engine's first requests


def seconds_per_step(folder: Path, name: str, settings: list[str], *, watched: bool) -> list[float]:
    with judge_server.running(latency=_LATENCY_S, rules=True) as url:
        if watched:
            settings = [
                *settings,
                "reward.advantage=per_dimension",
                "reward.min_group_spread=auto",
                "watch.noise_share=0.05",
                "watch.shadow.share=0.05",
                f"watch.shadow.judge={{kind: openai, base_url: '{url}', model: shadow}}",
            ]
        with chaos.run(folder, name, url, *settings, config="grpo_cpu") as run:
            run.finish(1200)
            return run.curves()["train/timing/step_total"][_WARM_UP:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    parser.add_argument("settings", nargs="*", help="further settings of all runs, section.key=value")
    options = parser.parse_args()
    settings = ["data.heldout=null", f"openrlhf.data.max_samples={4 * options.steps}", *options.settings]
    found: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(prefix="watch-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for number, watched in enumerate((False, True, True, False)):
            seconds = seconds_per_step(folder, f"run-{number}", settings, watched=watched)
            found[watched] += seconds
            print(f"{'with' if watched else 'without'}: median {statistics.median(seconds):.2f} s a step", flush=True)
    without, with_all = (statistics.median(found[watched]) for watched in (False, True))
    ratio = with_all / without
    print(f"step time {ratio:.3f} x; bar {BAR}: {'met' if ratio <= BAR else 'MISSED'}")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
