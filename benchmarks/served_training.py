"""The toy policy trained with the agent, and by OpenRLHF as it is with `longreward serve`; both on held-out prompts.

    python benchmarks/served_training.py compare --prompts 128 --dir /tmp/served    # some ten minutes on two cores
    python benchmarks/served_training.py plain --config configs/grpo_cpu.yaml --remote-url URL [section.key=value ...]

`plain` is OpenRLHF as anybody runs it: no agent, and of rl/ only what OpenRLHF needs without a GPU. The policy, the
data and OpenRLHF's flags are those of the configuration, whose reward and evaluation do not matter. The exit code of
`compare` is 1 where the served run's policy is worse than the agent's by more than their 95% interval allows.
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


def plain(path: Path, remote_url: str, overrides: list[str]) -> int:
    """Train by OpenRLHF alone, with the reward of the server at `remote_url`."""
    from rl import config
    from rl.data import prompt_files
    from rl.run import planning
    from rl.trainer import cpu_backend, openrlhf_run

    os.environ |= {cpu_backend.DEVICE_VARIABLE: "cpu"} | cpu_backend.environment()
    run = config.load(path, ["run.device=cpu", *overrides])
    plan = planning.make(run, "online")
    argv, flags = list(plan.argv), plan.flags
    del argv[(agent := argv.index("--train.agent_func_path")) : agent + 2]
    tokenizer = prompt_files.load_tokenizer(flags.policy)
    prompt_files.prepare(run.data.train, run.prompts("train"), tokenizer, flags.prompt_tokens, "train")

    cpu_backend.apply()
    import ray

    env_vars = {name: os.environ[name] for name in (cpu_backend.DEVICE_VARIABLE, *cpu_backend.environment())}
    runtime_env = {"env_vars": env_vars, "worker_process_setup_hook": "rl.trainer.cpu_backend.apply"}
    room = {"num_cpus": 4, "num_gpus": 2, "object_store_memory": 10**9}
    ray.init(address="local", include_dashboard=False, runtime_env=runtime_env, **room)
    openrlhf_run.run([*argv, "--reward.remote_url", remote_url])
    return 0


def compare(prompts: int, folder: Path) -> int:
    """Train both ways and compare the policies. Returns 1 where the served one is worse than noise allows."""
    common = [f"run.dir={folder}", "data.heldout=null", f"openrlhf.data.max_samples={prompts}"]
    agent_s = run("rl/train.py", "--config", CONFIG, *common, "run.name=agent")
    with serving(server_settings()) as server:
        words = ["--config", CONFIG, "--remote-url", f"{server.url}/get_reward", *common, "run.name=served"]
        served_s = run("benchmarks/served_training.py", "plain", *words)
    models = [str(folder / name / "model") for name in ("served", "agent")]
    words = ["--config", CONFIG, "--model", models[0], "--against", models[1], common[0], "run.name=compared"]
    run("rl/evaluate.py", *words)
    found = json.loads((folder / "compared-evaluation" / "summary.json").read_text())
    low, high = found["gain"]["interval"]
    print(
        f"held-out reward with the agent {found['before']['total']:.2f} ({agent_s:.0f} s), by the server "
        f"{found['after']['total']:.2f} ({served_s:.0f} s): difference {found['gain']['total']:+.2f} "
        f"(95%: {low:+.2f} to {high:+.2f}), which must not lie below 0"
    )
    return 0 if high >= 0 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(dest="way", required=True)
    both = ways.add_parser("compare")
    both.add_argument("--prompts", type=int, default=128)
    both.add_argument("--dir", type=Path, required=True, help="where both runs go")
    one = ways.add_parser("plain")
    one.add_argument("--config", type=Path, required=True)
    one.add_argument("--remote-url", required=True, help="where the server scores answers")
    options, overrides = parser.parse_known_args()
    if options.way == "plain":
        return plain(options.config, options.remote_url, overrides)
    return compare(options.prompts, options.dir.resolve())


if __name__ == "__main__":
    sys.exit(main())
