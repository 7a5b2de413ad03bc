"""Advantages by OpenRLHF's own code, from the answers that count alone.

OpenRLHF computes in one go what an answer is worth beside its siblings (the baseline of the group) and what becomes of
that token by token (the KL penalty, returns, the mean and deviation over the batch), and it takes all groups to be of
one size. Where answers are left out, it is asked twice instead: for the baselines of all groups of one size at a time,
then for the rest with each answer as a group of its own. So no number that stands for a void reward enters any mean.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from longreward.openrlhf_logs import PREFIX

COMPARE_WITHIN_GROUPS = ("group_norm", "dr_grpo", "rloo", "reinforce_baseline")
"""OpenRLHF's estimators that compare the answers to one prompt. An answer whose siblings are all void has none."""
NO_SPREAD = 1e-6
"""Rewards (0..10) that deviate less than that within a group are equal: what is left is rounding."""
Groups = dict[int, list[int]]
"""Places in the batch of the answers to each prompt."""
ADVANTAGE = "advantage_"
"""Before a dimension's name, in OpenRLHF's log: how much its part varies in the advantage."""
MIN_SPREAD = "min_spread_"
"""Before a dimension's name, in OpenRLHF's log: what it has to deviate by, where that is measured."""
VARIABLE = "LONGREWARD_ADVANTAGE"
"""The environment variable that carries `PerDimension` to OpenRLHF's trainer."""


@dataclasses.dataclass(frozen=True)
class PerDimension:
    """The advantage of GDPO (arXiv 2601.05242): each dimension is normalised within the group, then they are weighed
    and added up, then the sum is normalised over the batch."""

    weights: dict[str, float]
    """By the names in OpenRLHF's log, without `longreward/`."""
    min_spread: float | None = 0.0
    """A dimension that deviates less than that (0..10) within a group counts nothing there. None: less than its
    `MIN_SPREAD` in the log."""

    @classmethod
    def from_environment(cls) -> PerDimension | None:
        """None: by total."""
        text = os.environ.get(VARIABLE)
        return cls(**json.loads(text)) if text else None

    def environment(self) -> dict[str, str]:
        return {VARIABLE: json.dumps(dataclasses.asdict(self))}

    def shaped(self, experiences: list[Any], unpenalised: Any, rewards: Any, groups: Groups, kept: Any) -> Any:
        """What each answer is worth, and the spread of each dimension's part in it for OpenRLHF's log.

        An answer whose total is less than the weighted mean, for its copied words or a gate, has as much less in each
        dimension. A length penalty is one in each.
        """
        import torch

        logged, worth = {name: _logged(experiences, name) for name in self.weights}, {}
        means = torch.stack([weight * logged[name] for name, weight in self.weights.items()]).sum(0)
        means = means / sum(self.weights.values())
        kept_share = torch.where(means > 0, unpenalised / means, 1.0)
        # What is left of a share of 1 is rounding, which must not tell answers apart.
        kept_share = torch.where((kept_share - 1).abs() < NO_SPREAD, 1.0, kept_share)
        for name, weight in self.weights.items():
            scores = logged[name] * kept_share + (rewards - unpenalised)
            least = _logged(experiences, MIN_SPREAD + name) if self.min_spread is None else self.min_spread
            worth[name] = weight * _normalised(scores, groups, least)
        total = torch.stack(list(worth.values())).sum(0)
        scale = _deviation(total[kept])
        for name, part in worth.items():
            spread = _deviation(part[kept]) / scale if scale else 0.0
            _log(experiences, f"{PREFIX}{ADVANTAGE}{name}", torch.full_like(rewards, spread), kept)
        # Its mean is 0 already: that of each group is.
        return (total / scale if scale else total).to(rewards.dtype)


def _logged(experiences: list[Any], name: str) -> Any:
    """One figure of each answer, out of OpenRLHF's log."""
    import torch

    return torch.cat([experience.info[PREFIX + name] for experience in experiences]).double()


def _normalised(scores: Any, groups: Groups, least: Any) -> Any:
    """`least`: for each answer, or for all, what its group has to deviate by."""
    import torch

    least = torch.as_tensor(least, dtype=torch.float64).expand_as(scores)
    found = torch.zeros_like(scores)
    for places in groups.values():
        deviation = _deviation(scores[places])
        if deviation and deviation >= least[places].max():
            found[places] = (scores[places] - scores[places].mean()) / deviation
    return found


def compute(original: Any, self: Any, experiences: list[Any], kept: Any) -> None:
    """Fill in the experiences as `original`, OpenRLHF's `compute_advantages_and_returns`, does for the maker `self`.

    `kept` tells which answers count, in the order of the experiences. The advantages of the others are 0, and their
    returns the critic's own values.
    """
    import torch

    args = self.strategy.args
    estimator, samples = args.algo.advantage.estimator, args.rollout.n_samples_per_prompt
    unpenalised = torch.cat([experience.rewards for experience in experiences])
    rewards = _penalised(experiences, args)
    groups = _groups(experiences, samples, kept)
    if samples > 1:
        _log(experiences, "group_reward_std", _deviations(rewards, groups), kept)
    per_dimension = PerDimension.from_environment()
    if per_dimension is not None:
        rewards = per_dimension.shaped(experiences, unpenalised, rewards, groups, kept)
    elif estimator in COMPARE_WITHIN_GROUPS:
        rewards = _less_baselines(original, self, rewards, groups)
    if estimator in COMPARE_WITHIN_GROUPS:
        # Of what remains of their work, reinforce does that of reinforce_baseline, and flash_reinforce that of the
        # others: the mean that it takes off is 0 by now.
        estimator = "reinforce" if estimator == "reinforce_baseline" else "flash_reinforce"
    _returns(original, _maker(self, estimator), experiences, rewards, kept)


def by_openrlhf_alone(experiences: list[Any], args: Any, kept: Any) -> bool:
    """Whether OpenRLHF as installed computes what is wanted: all answers count, by their total, in no flat group."""
    return bool(kept.all()) and PerDimension.from_environment() is None and not _flat_groups(experiences, args, kept)


def _flat_groups(experiences: list[Any], args: Any, kept: Any) -> bool:
    """Whether an estimator that compares within groups meets one whose rewards are all equal. group_norm then divides
    what rounding leaves by 1e-9: eight answers with 7.3 get 477 each, for nothing."""
    if args.algo.advantage.estimator not in COMPARE_WITHIN_GROUPS:
        return False
    rewards = _penalised([dataclasses.replace(one, rewards=one.rewards.clone(), info={}) for one in experiences], args)
    groups = _groups(experiences, args.rollout.n_samples_per_prompt, kept)
    return any(_flat(rewards[places]) for places in groups.values())


def _penalised(experiences: list[Any], args: Any) -> Any:
    """All rewards, after OpenRLHF has entered its length penalties into the experiences."""
    import torch
    from openrlhf.trainer.ppo_utils import experience_maker

    for experience in experiences:
        experience.rewards = experience.rewards.to(torch.promote_types(experience.rewards.dtype, torch.float32))
    experience_maker.apply_length_penalties(experiences, args)
    return torch.cat([experience.rewards for experience in experiences])


def _deviation(values: Any) -> float:
    """0 for one alone, and where it is rounding."""
    deviation = float(values.std()) if len(values) > 1 else 0.0
    return deviation if deviation >= NO_SPREAD else 0.0


def _flat(rewards: Any) -> bool:
    return bool(rewards.max() - rewards.min() < NO_SPREAD)


def _groups(experiences: list[Any], samples: int, kept: Any) -> Groups:
    """Of the answers that count. OpenRLHF numbers answers from prompt to prompt."""
    numbers = [number for experience in experiences for number in experience.index]
    groups: Groups = defaultdict(list)
    for place in sorted(range(len(numbers)), key=numbers.__getitem__):
        if kept[place]:
            groups[numbers[place] // samples].append(place)
    return dict(groups)


def _deviations(rewards: Any, groups: Groups) -> Any:
    """Of each answer's group; 0 for one alone."""
    import torch

    deviations = torch.zeros_like(rewards)
    for places in groups.values():
        if len(places) > 1:
            deviations[places] = rewards[places].std()
    return deviations


def _less_baselines(original: Any, self: Any, rewards: Any, groups: Groups) -> Any:
    """What the maker's estimator makes of the rewards within each group, before anything is added or cut off."""
    import torch
    from openrlhf.trainer.ppo_utils.experience import Experience

    by_size: dict[int, list[list[int]]] = defaultdict(list)
    for places in groups.values():
        if not _flat(rewards[places]):
            by_size[len(places)].append(places)
    shaped = torch.zeros_like(rewards)
    for size, same in by_size.items():
        maker = _maker(self, self.strategy.args.algo.advantage.estimator, size)
        maker.strategy.args.reward.clip_range = None
        if maker.advantage_estimator == "reinforce_baseline":
            # The same baseline, without the normalisation over the batch, whose turn comes with the KL penalty.
            maker.strategy.args.algo.advantage.estimator = maker.advantage_estimator = "dr_grpo"
        places = torch.tensor(same).flatten()
        # Answers of one token, which no KL penalty is due on: their return is the reward less the baseline.
        token = torch.zeros(len(places), 1)
        index = list(range(len(places)))
        made = Experience(index=index, action_mask=torch.ones_like(token), kl=token, rewards=rewards[places])
        original(maker, [made])
        shaped[places] = made.returns[:, 0]
    return shaped


def _maker(self: Any, estimator: str, samples: int = 1) -> Any:
    """The maker with another estimator and group size, for rewards that have had their length penalties."""
    maker = copy.copy(self)
    args = copy.deepcopy(self.strategy.args)
    maker.strategy = SimpleNamespace(args=args)
    if args.algo.advantage.estimator in COMPARE_WITHIN_GROUPS:
        args.algo.advantage.gamma = 1.0  # OpenRLHF has no other for them
    args.algo.advantage.estimator = maker.advantage_estimator = estimator
    args.rollout.n_samples_per_prompt = samples
    args.reward.overlong_buffer_len = args.reward.stop_properly_penalty_coef = None
    return maker


def _returns(original: Any, maker: Any, experiences: list[Any], rewards: Any, kept: Any) -> None:
    """Have `maker` compute the rest from the shaped `rewards`, and write it into the experiences."""
    import torch

    sizes = [len(experience.index) for experience in experiences]
    parts: list[tuple[Any, Any, Any]] = []
    count = 0
    for experience, rows, given in zip(experiences, kept.split(sizes), rewards.split(sizes), strict=True):
        values = experience.values
        experience.advantages = torch.zeros_like(experience.kl, dtype=torch.float32)
        experience.returns = experience.advantages.clone() if values is None else values.float()
        if number := int(rows.sum()):
            part = type(experience)(
                index=list(range(count, count + number)),
                action_mask=experience.action_mask[rows],
                kl=experience.kl[rows],
                values=None if values is None else values[rows],
                rewards=given[rows],
            )
            parts.append((experience, rows, part))
            count += number
        experience.kl = None
    if parts:
        original(maker, [part for _, _, part in parts])
    returns = torch.zeros_like(rewards)
    for experience, rows, part in parts:
        experience.advantages[rows] = part.advantages
        experience.returns = experience.returns.index_put((rows,), part.returns)
    if parts:
        returns[kept] = torch.cat([part.info["return"] for _, _, part in parts])
    _log(experiences, "return", returns, kept)


def _log(experiences: list[Any], name: str, values: Any, kept: Any) -> None:
    """One figure of each answer into OpenRLHF's log, which is their mean: those that do not count leave it as it is."""
    values = values.where(kept, values[kept].mean() if kept.any() else 0.0)
    for experience, part in zip(experiences, values.split([len(one.index) for one in experiences]), strict=True):
        experience.info[name] = part
