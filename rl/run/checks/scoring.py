"""Whether the reward fits the run, as far as that can be told without a model, a judge or a network."""

from __future__ import annotations

from longreward.preflight.finding import Finding
from rl.config import RunConfig
from rl.monitor import canaries
from rl.reward_functions import reward_model
from rl.trainer.openrlhf_flags import Flags


def findings(config: RunConfig, flags: Flags) -> list[Finding]:
    """Problems of the reward function with the rest of the run; empty where there is none."""
    found = []
    if "openrlhf" in config.reward.parts:
        found += reward_model.problems(config.reward.openrlhf, flags)
    if problem := canaries.check(config):
        found.append(problem)
    return found
