"""Whether a step can leave its last answers behind."""

from __future__ import annotations

from longreward.preflight.finding import Finding
from rl.plan import Kind
from rl.reward_functions.config import RewardSection
from rl.trainer.openrlhf_flags import Flags


def findings(reward: RewardSection, flags: Flags, kind: Kind) -> list[Finding]:
    """A problem where no step waits for its last reward: in asynchronous training, and where answers are collected."""
    if not reward.late.share:
        return []
    if kind == "dpo":
        what, action = "rl/dpo.py has no steps: it would score late answers again", "take reward.late out"
    elif kind == "online" and flags.train_async_enable:
        what, action = "train.async_enable is true", "take reward.late out, or set openrlhf.train.async_enable=false"
    else:
        return []
    sentence = f"reward.late.share={reward.late.share:g} is for synchronous training, and {what}"
    return [Finding.problem("late answers", sentence, action)]
