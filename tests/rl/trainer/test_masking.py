"""Void answers and the gradient, by OpenRLHF's own advantage code: none of their own, and no trace in their siblings'.

The seam is process-wide, so it is put in place here by calling it, not by installing it.
"""

from __future__ import annotations

import copy
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")
torch = pytest.importorskip("torch")

from rl.trainer import cpu_backend, masking  # noqa: E402

GROUP = 4
LENGTHS = [5, 3, 6, 2, 4, 7, 1, 5, 3, 3, 8, 2]
REWARDS = [7.0, 8.0, 2.0, 6.0, 1.0, 9.5, 4.0, 4.5, 5.0, 5.5, 9.0, 0.5]
ESTIMATORS = ["group_norm", "dr_grpo", "rloo", "reinforce_baseline", "gae"]


@pytest.fixture(scope="module")
def maker_class():
    """OpenRLHF's RemoteExperienceMaker, as on a machine without CUDA."""
    pytest.MonkeyPatch().setenv(cpu_backend.DEVICE_VARIABLE, "cpu")
    cpu_backend.apply()
    from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

    return RemoteExperienceMaker


def maker(maker_class: Any, estimator: str, samples: int, kl: float) -> Any:
    args = SimpleNamespace(
        algo=SimpleNamespace(
            advantage=SimpleNamespace(estimator=estimator, gamma=1.0, lambd=0.9, no_std_norm=False),
        ),
        reward=SimpleNamespace(clip_range=None),
        rollout=SimpleNamespace(n_samples_per_prompt=samples),
    )
    return maker_class(None, None, None, None, SimpleNamespace(value=kl), SimpleNamespace(args=args), None)


def experiences(rows: list[int], rewards: list[float], void: set[int], micro: int) -> list[Any]:
    """Micro-batches of the answers `rows`; log-probabilities and values differ from token to token."""
    from openrlhf.trainer.ppo_utils.experience import Experience

    result = []
    for start in range(0, len(rows), micro):
        part = rows[start : start + micro]
        width = max(LENGTHS[row] for row in part)
        mask = torch.zeros(len(part), width, dtype=torch.long)
        kl, values = torch.zeros(len(part), width), torch.zeros(len(part), width)
        for place, row in enumerate(part):
            noise = torch.Generator().manual_seed(row)
            mask[place, : LENGTHS[row]] = 1
            kl[place, : LENGTHS[row]] = torch.rand(LENGTHS[row], generator=noise)
            values[place, : LENGTHS[row]] = 5 * torch.rand(LENGTHS[row], generator=noise)
        marks = torch.tensor([float(row in void) for row in part])
        given = torch.tensor([rewards[row] for row in part])
        info = {"reward": given, masking.LEFT_OUT: marks}
        index = list(range(start, start + len(part)))
        result.append(Experience(index=index, action_mask=mask, kl=kl, values=values, rewards=given, info=info))
    return result


def advantages(maker_class, estimator, rows, rewards, void=frozenset(), *, samples=GROUP, kl=0.1, micro=3, seam=True):
    """Each answer's advantages and returns, less the padding: row -> (list, list)."""
    made = experiences(rows, rewards, set(void), micro)
    self = maker(maker_class, estimator, samples, kl)
    original = maker_class.compute_advantages_and_returns
    # OpenRLHF divides by the group's deviation; it has no other use for these two.
    if seam:
        masking.compute_advantages(original, self, made)
    else:
        original(self, made)
    flat = list(itertools.chain.from_iterable(zip(e.advantages, e.returns, e.action_mask, strict=True) for e in made))
    return {row: (a[m.bool()], r[m.bool()]) for row, (a, r, m) in zip(rows, flat, strict=True)}


@pytest.fixture(autouse=True)
def _no_penalties(monkeypatch: pytest.MonkeyPatch, maker_class: Any) -> None:
    import openrlhf.trainer.ppo_utils.experience_maker as module

    monkeypatch.setattr(module, "apply_length_penalties", lambda experiences, args: None)


def filled(void: set[int]) -> list[float]:
    """The rewards as the group barrier hands them over: a void one is the mean of its valid siblings."""
    rewards = list(REWARDS)
    for row in void:
        group = range(row // GROUP * GROUP, row // GROUP * GROUP + GROUP)
        valid = [REWARDS[other] for other in group if other not in void]
        rewards[row] = sum(valid) / len(valid) if valid else 5.0
    return rewards


@pytest.mark.parametrize("kl", [0.0, 0.1], ids=["kl as a loss", "kl in the reward"])
@pytest.mark.parametrize("micro", [1, 3, 12])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_without_voids_nothing_changes(maker_class, estimator, micro, kl):
    rows = list(range(12))
    ours = advantages(maker_class, estimator, rows, REWARDS, kl=kl, micro=micro)
    theirs = advantages(maker_class, estimator, rows, REWARDS, kl=kl, micro=micro, seam=False)
    for row in rows:
        assert torch.equal(ours[row][0], theirs[row][0]) and torch.equal(ours[row][1], theirs[row][1])


@pytest.mark.parametrize("kl", [0.0, 0.1], ids=["kl as a loss", "kl in the reward"])
@pytest.mark.parametrize("micro", [1, 3, 12])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_siblings_fare_as_if_the_void_answer_had_never_been_sampled(maker_class, estimator, micro, kl):
    void = {2, 5, 11}  # one in each group, so that OpenRLHF can be asked about groups of three
    rest = [row for row in range(12) if row not in void]
    ours = advantages(maker_class, estimator, list(range(12)), filled(void), void, kl=kl, micro=micro)
    alone = advantages(maker_class, estimator, rest, REWARDS, samples=GROUP - 1, kl=kl, micro=micro, seam=False)
    for row in void:
        assert torch.equal(ours[row][0], torch.zeros(LENGTHS[row]))
    n, k = GROUP, GROUP - 1
    # The estimator's own n: the leave-one-out baseline, and the deviation's degrees of freedom.
    scale = {"rloo": n / (n - 1) * (k - 1) / k, "group_norm": ((n - 1) / (k - 1)) ** 0.5}.get(estimator, 1.0)
    for row in rest:
        if kl == 0:
            torch.testing.assert_close(ours[row][0], alone[row][0] * scale)
        elif scale == 1:
            torch.testing.assert_close(ours[row][0], alone[row][0])
        else:  # the penalty is added after scaling: without it the two must agree
            none = advantages(maker_class, estimator, list(range(12)), filled(void), void, kl=0, micro=micro)
            base = advantages(maker_class, estimator, rest, REWARDS, samples=k, kl=0, micro=micro, seam=False)
            torch.testing.assert_close(ours[row][0] - none[row][0], alone[row][0] - base[row][0])


def test_a_void_answer_would_leave_a_trace_without_the_seam(maker_class):
    """What the seam is for: the filler alone is no zero under these."""
    for estimator, kl in (("reinforce_baseline", 0.0), ("gae", 0.0), ("group_norm", 0.1)):
        theirs = advantages(maker_class, estimator, list(range(12)), filled({2}), {2}, kl=kl, seam=False)
        assert theirs[2][0].abs().max() > 1e-3, estimator


def test_the_critic_learns_nothing_from_a_void_answer(maker_class):
    made = experiences(list(range(12)), filled({2}), {2}, 3)
    values = copy.deepcopy(made[0].values[2])
    masking.compute_advantages(maker_class.compute_advantages_and_returns, maker(maker_class, "gae", GROUP, 0.1), made)
    assert torch.equal(made[0].returns[2], values)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_batch_of_void_answers_is_all_zero_and_never_nan(maker_class, estimator):
    everyone = set(range(12))
    ours = advantages(maker_class, estimator, list(range(12)), filled(everyone), everyone)
    assert all(torch.equal(a, torch.zeros_like(a)) and torch.isfinite(r).all() for a, r in ours.values())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_masks_and_rewards_are_given_back_as_they_were(maker_class, estimator):
    made = experiences(list(range(12)), filled({2, 5}), {2, 5}, 3)
    before = [(e.action_mask.clone(), e.rewards.clone()) for e in made]
    masking.compute_advantages(
        maker_class.compute_advantages_and_returns, maker(maker_class, estimator, GROUP, 0.1), made
    )
    for experience, (mask, rewards) in zip(made, before, strict=True):
        assert torch.equal(experience.action_mask, mask) and torch.equal(experience.rewards, rewards)
