"""Whether a step can leave its last answers behind."""

from __future__ import annotations

from longreward.preflight.finding import Finding
from rl.reward_functions.config import RewardSection
from rl.trainer.openrlhf_flags import Flags


def findings(reward: RewardSection, flags: Flags) -> list[Finding]:
    """A problem for asynchronous training, where no step waits for its last reward."""
    if not reward.late.share or not flags.train_async_enable:
        return []
    sentence = f"reward.late.share={reward.late.share:g} is for synchronous training, and train.async_enable is true"
    return [Finding.problem("late answers", sentence, "take reward.late out, or set openrlhf.train.async_enable=false")]
