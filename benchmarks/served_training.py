"""The toy policy trained with the agent, and by OpenRLHF as it is with `longreward serve`; both on held-out prompts.

    python benchmarks/served_training.py --prompts 128 --dir /tmp/served    # some ten minutes on two cores

Exit 1 where the policy of the server's run is worse than the agent's by more than their 95% interval allows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from serve import serving

ROOT = Path(__file__).parents[1]
CONFIG = "configs/grpo_cpu.yaml"


def run(*words: str) -> float:
    """Run it from the project's root, its output to where ours goes; how long it took in seconds."""
    started = time.monotonic()
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return time.monotonic() - started


def server_settings() -> dict[str, Any]:
    """The reward of the configuration, scored as the agent's judge workers do."""
    config = yaml.safe_load((ROOT / CONFIG).read_text())
    policy, group = config["openrlhf"]["actor"]["model_name_or_path"], config["openrlhf"]["rollout"]
    own = {"tokenizer": str(ROOT / policy), "group_size": group["n_samples_per_prompt"]}
    return {name: config["reward"][name] for name in ("judge", "chunking")} | {"serve": own}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--dir", type=Path, required=True, help="where both runs go")
    options = parser.parse_args()
    common = [f"run.dir={options.dir.resolve()}", "data.heldout=null", f"openrlhf.data.max_samples={options.prompts}"]
    agent_s = run("rl/train.py", "--config", CONFIG, *common, "run.name=agent")
    with serving(server_settings()) as server:
        words = ["--config", CONFIG, "--remote-url", f"{server.url}/get_reward", *common, "run.name=served"]
        served_s = run("benchmarks/plain_openrlhf.py", *words)
    models = [str(options.dir.resolve() / name / "model") for name in ("served", "agent")]
    words = ["--config", CONFIG, "--model", models[0], "--against", models[1], common[0], "run.name=compared"]
    run("rl/evaluate.py", *words)
    found = json.loads((options.dir / "compared-evaluation" / "summary.json").read_text())
    low, high = found["gain"]["interval"]
    print(
        f"held-out reward with the agent {found['before']['total']:.2f} ({agent_s:.0f} s), by the server "
        f"{found['after']['total']:.2f} ({served_s:.0f} s): difference {found['gain']['total']:+.2f} "
        f"(95%: {low:+.2f} to {high:+.2f}), which must not lie below 0"
    )
    return 0 if high >= 0 else 1


if __name__ == "__main__":
    sys.exit(main())
