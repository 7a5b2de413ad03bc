"""Answers that take no part in the update: void ones, those of a skipped group, one that all its siblings left alone.

Each has to be in the batch, because OpenRLHF deals batches of a fixed size to its learners. But the update is that of
the batch without it. The agent marks such an answer with `longreward/left_out`, and then

- its reward enters no baseline, and no mean or deviation over the batch (rl/trainer/seams/advantages.py);
- its advantage is 0, and its tokens leave the action mask: they do not count in the loss's mean over tokens or answers,
  and get no KL loss and no entropy bonus, and the critic does not learn from them;
- a batch of nothing else has the loss 0, where OpenRLHF would divide 0 by 0.

It is the one place where OpenRLHF computes otherwise than as installed. `apply()` in every process of a run; it acts
only in OpenRLHF's trainer and learners.
"""

from __future__ import annotations

import functools
from typing import Any

from rl.trainer import seams
from rl.trainer.seams import advantages

LEFT_OUT = "longreward/left_out"
"""The key of `extra_logs` that marks such an answer with 1.0."""
_FEWER_THAN_ONE = 1e-9


def compute_advantages(original: Any, self: Any, experiences: list[Any]) -> Any:
    """Void answers would change their siblings' advantages, and get some of their own.

    Groups of equal rewards would get huge ones, from rounding alone, and dimensions are not seen (advantages.py).
    """
    import torch

    kept = torch.cat([_kept(experience) for experience in experiences])
    if advantages.by_openrlhf_alone(experiences, self.strategy.args, kept):
        return original(self, experiences)
    advantages.compute(original, self, experiences, kept)
    for experience in experiences:
        rows = _kept(experience).to(experience.action_mask.dtype)
        experience.action_mask = experience.action_mask * rows[:, None]
    return experiences


def _kept(experience: Any) -> Any:
    """Which answers of the experience are not marked; all where the key is not there."""
    import torch

    marks = experience.info.get(LEFT_OUT)
    return torch.ones(len(experience.index), dtype=torch.bool) if marks is None else marks <= 0


def aggregate_loss(
    original: Any,
    loss: Any,
    loss_mask: Any,
    token_level_loss: bool = True,
    dp_size: int = 1,
    batch_num_tokens: Any = None,
    global_batch_size: Any = None,
) -> Any:
    """A step whose answers are all masked has 0 tokens to divide by, and its NaN would spoil the weights."""
    counts = [count if count is None or count > 0 else count + 1 for count in (batch_num_tokens, global_batch_size)]
    return original(loss, loss_mask, token_level_loss, dp_size, *counts)


def masked_mean(original: Any, tensor: Any, mask: Any, dim: int | None = None) -> Any:
    """The mean of the tokens of a masked answer is 0 / 0, and its NaN would spoil a step's figures."""
    mean = original(tensor, mask, dim)
    return mean if mask is None else mean.where(mask.sum(dim=dim) > 0, 0.0)


def training_step(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
    """OpenRLHF divides a step's figures by the number of its tokens, which is 0 where all its answers are masked."""
    status = original(self, *args, **kwargs)
    status["num_action_tokens"] = status["num_action_tokens"] or _FEWER_THAN_ONE
    return status


_seam = functools.partial(
    seams.Seam, file="rl/trainer/seams/masking.py", purpose="to keep void answers out of the gradient"
)

_COMPUTE = "openrlhf.trainer.ppo_utils.experience_maker", "RemoteExperienceMaker.compute_advantages_and_returns"
_RELIED_ON = {
    "rewards = rewards - rewards.mean()\n\n rewards = rewards.reshape(-1)[indices].split(exp_len)": (
        "What remains of other estimators' work is done by flash_reinforce, which takes off the batch's mean alone."
    ),
    'in ["reinforce_baseline", "dr_grpo"]: rewards = rewards - rewards.mean(-1, keepdim=True)': (
        "reinforce_baseline is done in two steps, by dr_grpo and reinforce."
    ),
    'if args.algo.advantage.estimator in ["gae", "reinforce", "reinforce_baseline"]: all_advantages =': (
        "reinforce normalises over the batch as reinforce_baseline does, and flash_reinforce does not."
    ),
}
"""Parts of OpenRLHF's source that rl/trainer/seams/advantages.py builds on, and why."""

SEAMS = [
    # Before the replacement: a name that is replaced is not looked at again.
    *(_seam(*_COMPUTE, "self experiences", why, source=source) for source, why in _RELIED_ON.items()),
    _seam(
        *_COMPUTE,
        "self experiences",
        "Void answers would change their siblings' advantages, and get some of their own.",
        compute_advantages,
        source="all_action_masks = torch.cat([exp.action_mask.flatten() for exp in experiences], dim=0)",
    ),
    _seam(
        "openrlhf.models.utils",
        "masked_mean",
        "tensor mask dim",
        "The mean of a masked answer's tokens is 0 / 0.",
        masked_mean,
        source="return (tensor * mask).sum(dim=dim) / mask.sum(dim=dim)",
    ),
    _seam(
        "openrlhf.models.loss",
        "aggregate_loss",
        "loss loss_mask token_level_loss dp_size batch_num_tokens global_batch_size",
        "The loss of a step whose answers are all masked is 0 / 0.",
        aggregate_loss,
        source="return (loss * loss_mask).sum() / batch_num_tokens * dp_size",
    ),
    _seam(
        "openrlhf.utils.loss_utils",
        "_optimizer_step_loss_norm",
        "masks dp_group dp_size gas",
        "A masked answer counts neither as tokens nor as an answer.",
        source="num_samples += (mask.reshape(mask.shape[0], -1).sum(dim=-1) > 0).sum()",
    ),
    _seam(
        "openrlhf.trainer.ray.ppo_actor",
        "ActorPPOTrainer.training_step",
        "self experience kl_ctl step loss_batch_info",
        "A step's figures are divided by its number of tokens.",
        training_step,
        source='"num_action_tokens": float(experience.action_mask.sum().item()),',
    ),
]


def apply() -> None:
    """Put it in place for when OpenRLHF is imported. Raises `seams.SeamError` where OpenRLHF has another shape."""
    seams.install(SEAMS)
