"""Does an advantage per dimension help a dimension with a small spread? The toy, trained by total and per dimension.

    PYTHONPATH=. python benchmarks/per_dimension.py [--pairs] [--seeds 1 2 3] [section.key=value ...]

The reward has two parts of equal weight: helpfulness and logicality, and how much of what an answer says stands in the
document, on a tenth of the scale. Within a group they go together little (correlation 0.3 and 0.1), so the weak part
does not come along with the strong one. Six minutes a run on two cores, two runs and an evaluation for each seed: both
policies begin alike, so what they differ by on the held-out documents afterwards is what one has gained more. Printed
are the held-out scores and the paired differences with 95% intervals. With --pairs the policies are trained by DPO on
pairs by total (`pair.by`) and per dimension, ten minutes a run. Exit code 1 where the weak part is higher by
total for any seed, or the total lower per dimension by more than 0.1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from finished_runs import means, scores, side_by_side, trained

from longreward.evaluation.intervals import mean_and_interval
from rl.rollout.heldout_scores import HeldoutScores, PromptKey

CONFIG = "configs/grpo_cpu.yaml"
WEAK, TOTAL = "python", "total"
SAMPLES = 16  # answers to each held-out prompt
REWARD = (
    "reward.name=composite",
    "reward.composite.parts={longreward: {weight: 1}, python: {weight: 1}}",
    "reward.weights={helpfulness: 1, logicality: 1}",
    "reward.python.function=benchmarks/toy/rewards.py:truth",
    "reward.python.allow=true",
)
WAYS = ("total", "per_dimension")
MOST_LOST = 0.1


@dataclass(frozen=True)
class Trained:
    """How a policy is trained by either way."""

    program: str
    config: str
    way: str
    """The setting."""
    seed: str


ONLINE = Trained("rl/train.py", CONFIG, "reward.advantage", "openrlhf.train.seed")
PAIRS = Trained("rl/dpo.py", "configs/dpo_cpu.yaml", "pair.by", "collect.seed")


def evaluated(how: Trained, seed: int, words: list[str]) -> list[HeldoutScores]:
    """Of the policy trained by total, and of the one trained per dimension."""
    models, prefix = [], "pairs" if how is PAIRS else "weak"
    for way in WAYS:
        names = [f"run.name={prefix}_{way}_{seed}", f"{how.way}={way}", f"{how.seed}={seed}"]
        models.append(trained(how.config, [*names, *REWARD, *words], how.program) / "model")
    names = [f"run.name={prefix}_{seed}", f"evaluation.n_samples_per_prompt={SAMPLES}"]
    both = side_by_side(CONFIG, models, [*names, *REWARD])
    return [means(answers, scores) for answers in both]


def apart(scored: Sequence[HeldoutScores], part: str) -> dict[PromptKey, float]:
    """By prompt, how much higher the second policy is."""
    by_total, per_dimension = (each.prompts for each in scored)
    return {prompt: figures[part] - by_total[prompt][part] for prompt, figures in per_dimension.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--pairs", action="store_true", help="DPO instead of GRPO")
    options, words = parser.parse_known_args()
    missed, found = False, dict[str, list[dict[PromptKey, float]]]()
    print("| seed | part | by total | per dimension | difference |\n| --- | --- | ---: | ---: | ---: |")
    for seed in options.seeds:
        scored = evaluated(PAIRS if options.pairs else ONLINE, seed, words)
        for part in (WEAK, "longreward", TOTAL):
            differences = apart(scored, part)
            found.setdefault(part, []).append(differences)
            cells = " | ".join(f"{fmean(f[part] for f in each.prompts.values()):.3f}" for each in scored)
            print(f"| {seed} | {part} | {cells} | {shown(differences.values())} |", flush=True)
            mean = fmean(differences.values())
            missed |= (part == WEAK and mean <= 0) or (part == TOTAL and mean < -MOST_LOST)
    for part, of_seeds in found.items():
        means_of_seeds = [fmean(each[prompt] for each in of_seeds) for prompt in of_seeds[0]]
        print(f"| all | {part} | | | {shown(means_of_seeds)} |")
    return int(missed)


def shown(differences: Iterable[float]) -> str:
    mean, low, high, _ = mean_and_interval(list(differences)) or (0.0, None, None, 0)
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})" if low is not None else f"{mean:+.3f}"


if __name__ == "__main__":
    sys.exit(main())
