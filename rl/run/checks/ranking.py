"""Whether there are siblings to rank, and not too many for one question to the judge."""

from __future__ import annotations

from longreward.config import MOST_RANKED
from longreward.preflight.finding import Finding
from rl.plan import Kind
from rl.reward_functions.config import RewardSection
from rl.trainer.openrlhf_flags import Flags


def findings(reward: RewardSection, flags: Flags, kind: Kind) -> list[Finding]:
    """A problem where a prompt has one answer, or more than a judge ranks. Evaluations rate their answers."""
    samples = flags.rollout_n_samples_per_prompt
    if not reward.ranks or kind not in ("online", "dpo") or 2 <= samples <= MOST_RANKED:
        return []
    sentence = (
        f"reward.helpfulness.way is ranking, for 2 to {MOST_RANKED} answers to a prompt, and "
        f"openrlhf.rollout.n_samples_per_prompt is {samples}"
    )
    return [Finding.problem("reward", sentence, "change that, or set reward.helpfulness.way=rating")]
