"""rl/reproduce.py killed at random moments: what is done twice?

    python benchmarks/reproduce_kill.py --folder DIR [--kills 5] [--seed 1]

A small table of the toy (32 prompts; SFT, DPO with LongReward, another reward, contrast, GRPO), killed with SIGKILL so
many times, then left to end. Exit code 1 where it does not end, or where an answer was judged twice.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

from longreward.files import jsonlines

ROOT = Path(__file__).parents[1]
ROWS = ("sft", "longreward", "srm", "contrast", "online")
SETTINGS = ("openrlhf.data.max_samples=32", "evaluation.max_prompts=16", "evaluation.n_samples_per_prompt=2")
OF_PROGRAM = {
    "configs/sft_cpu.yaml": ["train_sft.ckpt.save_steps=2"],
    "configs/dpo_cpu.yaml": [
        *("train_dpo.train.batch_size=4", "train_dpo.train.micro_batch_size=4", "train_dpo.ckpt.save_steps=2"),
    ],
    "configs/grpo_cpu.yaml": ["openrlhf.ckpt.save_steps=2"],
}
SHORTEST_S, LONGEST_S = 10, 120  # from a start to its kill


def configuration(folder: Path) -> Path:
    config = yaml.safe_load((ROOT / "configs/paper/toy.yaml").read_text())
    config |= {"dir": str(folder), "settings": [*config["settings"], *SETTINGS]}
    config["rows"] = {name: config["rows"][name] for name in ROWS}
    for row in config["rows"].values():
        row["settings"] = [*row.get("settings", []), *OF_PROGRAM[row["config"]]]
    path = folder / "table.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def twice(run: Path) -> dict[str, int]:
    """Answers by directory that a store has more than once, or that were sampled more than once."""
    found = {}
    for directory in sorted(path for path in run.iterdir() if path.is_dir()):
        names = Counter[tuple[str, ...]]()
        for path in (directory / "store").glob("answers-*"):
            names.update((str(row["rollout"]), row.get("query", "")) for _, row in jsonlines.read(path, broken=[]))
        for path in (directory / "sampled").glob("*.jsonl"):
            names.update((path.name, str(row["idx"])) for _, row in jsonlines.read(path, broken=[]))
        if names:
            found[directory.name] = names.total() - len(names)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "rl/reproduce.py", "--config", str(configuration(options.folder.absolute()))]
    rng, said, begun = random.Random(options.seed), list[str](), time.monotonic()
    for kill in range(options.kills + 1):
        log = options.folder / f"{kill}.log"
        with log.open("w") as file:
            process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
        try:
            process.wait(None if kill == options.kills else rng.uniform(SHORTEST_S, LONGEST_S))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        text = log.read_text()
        said.append(text)
        steps = re.findall(r"reproduce: (\d+ of \d+): python rl/(\S+) .*run\.name=(\S+)", text)
        print(f"{'end' if kill == options.kills else 'kill'}: {' '.join(steps[-1]) if steps else 'nothing left to do'}")
    run = options.folder / "paper_toy"
    repeated = twice(run)
    trained = Counter(re.findall(r"the model is in \S+/(\w+)/model", "".join(said)))
    print(f"exit code {process.returncode} after {time.monotonic() - begun:.0f} s")
    print(f"answers there twice: {repeated}")
    print(f"trained to the end: {dict(trained)}")
    # Online, what was rolled out since the last checkpoint is rolled out again.
    offline = {name: count for name, count in repeated.items() if name != "online"}
    return int(process.returncode != 0 or any(offline.values()) or any(count > 1 for count in trained.values()))


if __name__ == "__main__":
    sys.exit(main())
