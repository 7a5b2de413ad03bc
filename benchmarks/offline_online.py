"""Offline against online at equal judge calls: DPO and GRPO with LongReward, from the same start on the same prompts.

    python benchmarks/offline_online.py [--seeds 1 2 3] [--prompts 256]

Both have the same number of answers judged, ten to each prompt: offline they are sampled from the first policy and
paired once, online from the policy as it learns. The toy on two cores, some eight minutes a run; runs that are there
are not trained again. A question to the judge of rules counts as a call.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from finished_runs import before_and_after, trained

from longreward.evaluation.intervals import paired_change
from rl.paper.table import asked

PER_PROMPT, PROMPTS_A_STEP = 10, 4


def run(way: str, seed: int, prompts: int) -> Path:
    words = [f"run.name=offline_online_{way}_{seed}", f"openrlhf.data.max_samples={prompts}"]
    words.append(f"openrlhf.rollout.n_samples_per_prompt={PER_PROMPT}")
    if way == "offline":
        words += [f"collect.seed={seed}", f"train_dpo.train.seed={seed}", "short.heldout=null"]
        return trained("configs/dpo_cpu.yaml", words, "rl/dpo.py")
    step = PROMPTS_A_STEP * PER_PROMPT
    words += [f"openrlhf.train.seed={seed}", f"openrlhf.rollout.batch_size={PROMPTS_A_STEP}"]
    words += [f"openrlhf.{name}={step}" for name in ("train.batch_size", "train.micro_batch_size")]
    return trained("configs/grpo_cpu.yaml", [*words, f"openrlhf.rollout.micro_batch_size={step}"])


def by_prompt(runs: list[Path]) -> dict[str, float]:
    """The mean held-out reward of each prompt after training, over all runs."""
    found: dict[str, list[float]] = {}
    for directory in runs:
        for answer in before_and_after(directory)["after"]:
            if answer.total is not None:
                found.setdefault(answer.id, []).append(answer.total)
    return {prompt: statistics.fmean(totals) for prompt, totals in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--prompts", type=int, default=256)
    options = parser.parse_args()
    print("| way | seed | answers | calls | before | after | change | 95% interval |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    changes: dict[str, list[float]] = {"offline": [], "online": []}
    for seed in options.seeds:
        for way, found in changes.items():
            directory = run(way, seed, options.prompts)
            summary = json.loads((directory / "summary.json").read_text())
            judged, questions = asked(directory)
            low, high = summary["gain"]["interval"]
            found.append(summary["gain"]["total"])
            before, after = summary["before"]["total"], summary["after"]["total"]
            figures = f"{before:.2f} | {after:.2f} | {found[-1]:+.2f} | {low:+.2f} to {high:+.2f}"
            print(f"| {way} | {seed} | {judged:,} | {questions:,} | {figures} |", flush=True)
    for way, found in changes.items():
        print(f"{way}: {statistics.fmean(found):+.2f}, mean of {len(found)} seeds")
    # Seeds are averaged for each prompt, so that the interval is over prompts that nobody trained on.
    last = {way: by_prompt([run(way, seed, options.prompts) for seed in options.seeds]) for way in changes}
    if difference := paired_change(last["offline"], last["online"]):
        mean, low, high, prompts = difference
        print(f"online less offline after training: {mean:+.2f} ({low:+.2f} to {high:+.2f}) over {prompts} prompts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
