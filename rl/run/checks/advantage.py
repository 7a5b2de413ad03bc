"""Whether the estimator makes of each dimension what `reward.advantage` asks for."""

from __future__ import annotations

from longreward.preflight.finding import Finding
from rl.reward_functions.config import RewardSection
from rl.trainer.openrlhf_flags import Flags


def findings(reward: RewardSection, flags: Flags) -> list[Finding]:
    """A problem for an estimator that does not divide by the group's deviation: adding up dimensions before or after it
    comes to the same, or there is no group."""
    estimator = flags.algo_advantage_estimator
    if reward.advantage == "total" or estimator == "group_norm":
        return []
    sentence = f"reward.advantage=per_dimension normalises within groups, which {estimator} does not"
    action = "set openrlhf.algo.advantage.estimator=group_norm, or reward.advantage=total"
    return [Finding.problem("advantage", sentence, action)]
