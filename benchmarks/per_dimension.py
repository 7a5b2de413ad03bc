"""Does an advantage per dimension help a dimension with a small spread? The toy, trained by total and per dimension.

    PYTHONPATH=. python benchmarks/per_dimension.py [--seeds 1 2 3] [section.key=value ...]

The reward has two parts of equal weight: helpfulness and logicality, and how much of what an answer says stands in the
document, on a tenth of the scale. Within a group they go together little (correlation 0.3 and 0.1), so the weak part
does not come along with the strong one. Six minutes a run on two cores, two runs for each seed. Printed are each part's
held-out gains and the paired differences with 95% intervals. Exit code 1 where the weak part gains more by total
for any seed, or the total loses more than 0.1 per dimension.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from finished_runs import before_and_after, means, scores, trained

from longreward.evaluation.intervals import mean_and_interval
from rl.rollout.heldout_scores import HeldoutScores, gain

WEAK, TOTAL = "python", "total"
REWARD = (
    "reward.name=composite",
    "reward.composite.parts={longreward: {weight: 1}, python: {weight: 1}}",
    "reward.weights={helpfulness: 1, logicality: 1}",
    "reward.python.function=benchmarks/toy/truth.py:truth",
    "reward.python.allow=true",
)
ADVANTAGES = ("total", "per_dimension")
MOST_LOST = 0.1


def changes(directory: Path) -> tuple[HeldoutScores, HeldoutScores]:
    before, after = (means(answers, scores) for answers in before_and_after(directory).values())
    return before, after


def apart(pairs: Sequence[tuple[HeldoutScores, HeldoutScores]], part: str) -> list[float]:
    """By prompt, how much more the second run has gained than the first."""
    (old_a, new_a), (old_b, new_b) = pairs
    shared = old_a.prompts.keys() & new_a.prompts.keys() & old_b.prompts.keys() & new_b.prompts.keys()

    def of(prompt: str, new: HeldoutScores, old: HeldoutScores) -> float:
        return new.prompts[prompt][part] - old.prompts[prompt][part]

    return [of(prompt, new_b, old_b) - of(prompt, new_a, old_a) for prompt in sorted(shared)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options, words = parser.parse_known_args()
    missed, found = False, dict[str, list[float]]()
    print("| seed | part | gain by total | gain per dimension | difference |\n| --- | --- | ---: | ---: | ---: |")
    for seed in options.seeds:
        runs = [
            trained(
                "configs/grpo_cpu.yaml",
                [
                    f"run.name=weak_{advantage}_{seed}",
                    *REWARD,
                    f"reward.advantage={advantage}",
                    f"openrlhf.train.seed={seed}",
                    *words,
                ],
            )
            for advantage in ADVANTAGES
        ]
        pairs = [changes(directory) for directory in runs]
        for part in (WEAK, "longreward", TOTAL):
            differences = apart(pairs, part)
            found.setdefault(part, []).extend(differences)
            gains = " | ".join(f"{gain(before, after, part)['total']:+.2f}" for before, after in pairs)
            print(f"| {seed} | {part} | {gains} | {shown(differences)} |", flush=True)
            mean = sum(differences) / len(differences)
            missed |= (part == WEAK and mean <= 0) or (part == TOTAL and mean < -MOST_LOST)
    for part, differences in found.items():
        print(f"| all | {part} | | | {shown(differences)} |")
    return int(missed)


def shown(differences: Sequence[float]) -> str:
    mean, low, high, _ = mean_and_interval(differences) or (0.0, None, None, 0)
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})" if low is not None else f"{mean:+.2f}"


if __name__ == "__main__":
    sys.exit(main())
