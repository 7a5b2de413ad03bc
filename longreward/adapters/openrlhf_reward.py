"""A reward function file for OpenRLHF without rl/: --reward.remote_url .../longreward/adapters/openrlhf_reward.py

The variable LONGREWARD_CONFIG names the reward's YAML file, the one of `longreward serve`. OpenRLHF loads this file by
its path and calls `reward_func` with one answer at a time, from min(32, cores + 4) threads: `longreward serve` is
faster where a rollout batch is larger than that.
"""

from collections.abc import Sequence
from typing import Any

from longreward.adapters import openrlhf

# At once, so that a wrong configuration ends the run at its start; and from a module that is there only once.
_rewards = openrlhf.of_process()


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """`rewards` (0..10), `scores` (rewards / 10) and `extra_logs`, each with an item per answer.

    InputError where a query or label cannot be read; OpenRLHF logs it and goes on without a reward.
    """
    return _rewards.reply(queries, prompts, labels).model_dump(exclude={"status"})
