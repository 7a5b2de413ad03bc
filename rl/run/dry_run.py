"""`rl/train.py --dry-run`: check all that needs no cluster, no judge and no GPU, and write down what would be done."""

from __future__ import annotations

import os

from rl.config import RunConfig
from rl.reward_functions import registry
from rl.run import cluster, judge_estimate, preflight, run_directory
from rl.trainer import cpu_backend, openrlhf_run


def dry_run(config: RunConfig) -> int:
    """Everything that needs no cluster and no judge, OpenRLHF's own validation included."""
    registry.check(config.reward)
    device = "gpu" if config.run.device == "gpu" else preflight.choose_device(config)
    argv, flags = preflight.flags(config, device)
    # A configuration for GPUs can be checked on a laptop: here only OpenRLHF's imports have to work.
    os.environ.pop(cpu_backend.DEVICE_VARIABLE, None)
    cpu_backend.apply()
    openrlhf_run.validate(argv)
    # Beside the run's own directory, which may hold an earlier run.
    config.run.name += "-dry-run"
    run_directory.write_plan(config, argv)
    for problem in preflight.problems(config, flags):
        print(f"note: {problem}")
    if config.reward.asks_judge and config.data.train.is_file():
        print(judge_estimate.sentence(judge_estimate.expected(config, flags), config.reward.judge.price))
    needed = cluster.needed(flags, config)
    print(f"needs {needed.gpus} GPUs ({needed.parts})")
    print(f"{config.directory}: config.yaml and command.txt are written")
    return 0
