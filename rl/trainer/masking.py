"""Answers that take no part in the update: void ones, and those of a skipped group. Their advantage is 0, exactly.

A void reward is filled with the mean of its valid siblings, which leaves every group's mean as it is. That alone makes
the void answer's advantage 0 only under the plain group estimators: `gae` compares the filler with the critic's value,
`reinforce_baseline` and `gae` subtract the mean over all tokens of the batch and divide by their deviation, and a KL
penalty in the reward is added to each token. So the answers that the agent marks with `longreward/left_out` are kept
out of OpenRLHF's computation and get advantage 0 after it. It is the one place where OpenRLHF computes otherwise than
as installed.

`apply()` in every process of a run; it acts only in OpenRLHF's trainer.
"""

from __future__ import annotations

from typing import Any

from rl.trainer import seams

LEFT_OUT = "longreward/left_out"
"""The key of `extra_logs` that marks such an answer with 1.0."""


def compute_advantages(original: Any, self: Any, experiences: list[Any]) -> Any:
    """Void answers would get an advantage under gae, reinforce_baseline and a KL penalty in the reward.

    While OpenRLHF computes, no token of theirs counts; then their advantages are 0, and their returns are the critic's
    own values, so that it learns nothing from them either.
    """
    masks = [experience.action_mask for experience in experiences]
    kept = [_kept(experience) for experience in experiences]
    if all(rows.all() for rows in kept):
        return original(self, experiences)
    masked = [mask * rows for mask, rows in zip(masks, kept, strict=True)]
    if not any(rows.any() for rows in kept):
        # Nothing to train on: without a single token the mean over the batch would be 0 / 0.
        masked = masks
    for experience, mask in zip(experiences, masked, strict=True):
        experience.action_mask = mask
    try:
        original(self, experiences)
    finally:
        for experience, mask in zip(experiences, masks, strict=True):
            experience.action_mask = mask
    for experience, rows in zip(experiences, kept, strict=True):
        if not rows.all():
            keep = rows.to(experience.advantages.dtype)
            experience.advantages = experience.advantages * keep
            values = experience.values if experience.values is not None else 0
            experience.returns = experience.returns * keep + values * (1 - keep)
    return experiences


def _kept(experience: Any) -> Any:
    """Which rows of the experience are not marked, as a column of bools; all where the key is not there."""
    marks = experience.info.get(LEFT_OUT)
    return experience.action_mask[:, :1] >= 0 if marks is None else marks.reshape(-1, 1) <= 0


SEAMS = [
    seams.Seam(
        "openrlhf.trainer.ppo_utils.experience_maker",
        "RemoteExperienceMaker.compute_advantages_and_returns",
        "self experiences",
        "Void answers would get an advantage under gae, reinforce_baseline and a KL penalty in the reward.",
        compute_advantages,
        source="all_action_masks = torch.cat([exp.action_mask.flatten() for exp in experiences], dim=0)",
        file="rl/trainer/masking.py",
        purpose="to keep void answers out of the gradient",
    )
]


def apply() -> None:
    """Put it in place for when OpenRLHF is imported. Raises `seams.SeamError` where OpenRLHF has another shape."""
    seams.install(SEAMS)
