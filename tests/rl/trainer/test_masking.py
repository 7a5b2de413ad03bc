"""Answers that take no part: the update is that of the batch in which they were never sampled, by OpenRLHF's own code.

The seams are process-wide, so they are put in place here by calling them, not by installing them.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("openrlhf")
torch = pytest.importorskip("torch")

from rl.trainer import cpu_backend  # noqa: E402
from rl.trainer.seams import masking  # noqa: E402
from rl.trainer.seams.advantages import COMPARE_WITHIN_GROUPS  # noqa: E402

ESTIMATORS = ["group_norm", "dr_grpo", "rloo", "reinforce_baseline", "gae", "reinforce", "flash_reinforce"]
"""All that OpenRLHF 0.11.2 has."""
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)
exactly = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)
GROUP = 4
LENGTHS = [5, 3, 6, 2, 4, 7, 1, 5, 3, 3, 8, 2]
REWARDS = [7.0, 8.0, 2.0, 6.0, 1.0, 9.5, 4.0, 4.5, 5.0, 5.5, 9.0, 0.5]


def never_sampled(batch, estimator, samples, rest, micro):
    """What OpenRLHF as installed gives the answers `rest`, in groups of whatever size is left.

    It takes groups of one size only. Where no mean is taken over the batch, each group can be a batch of its own.
    """
    groups = [list(group) for _, group in itertools.groupby(rest, key=lambda row: row // samples)]
    if estimator not in COMPARE_WITHIN_GROUPS:
        return batch.advantages(estimator, 1, rest, micro=micro, seam=False)
    if len({len(group) for group in groups}) == 1:
        return batch.advantages(estimator, len(groups[0]), rest, micro=micro, seam=False)
    assert estimator != "reinforce_baseline"
    alone = (batch.advantages(estimator, len(group), group, micro=micro, seam=False) for group in groups)
    return {row: found for part in alone for row, found in part.items()}


@st.composite
def cases(draw, estimator):
    """A batch, its group size and the answers left out: void ones, whole groups, and what is left alone by voids."""
    samples, prompts = draw(st.integers(3, 7)), draw(st.integers(1, 4))
    answers = samples * prompts
    chance = random.Random(draw(st.integers(0, 10**6)))
    lengths = [chance.randint(1, 9) for _ in range(answers)]
    rewards = [chance.uniform(0, 10) for _ in range(answers)]
    kl = draw(st.sampled_from([0.0, 0.05, 0.3]))
    gamma = draw(st.sampled_from([1.0, 0.95])) if estimator in ("gae", "reinforce") else 1.0
    # OpenRLHF can only be asked about reinforce_baseline in groups of one size.
    same = draw(st.integers(2, samples))
    valid = [
        draw(
            st.sampled_from([0, same])
            if estimator == "reinforce_baseline"
            else st.sampled_from([0, *range(2, samples + 1)])
        )
        for _ in range(prompts)
    ]
    kept = set()
    for prompt, count in enumerate(valid):
        rows = chance.sample(range(prompt * samples, (prompt + 1) * samples), samples)[:count]
        kept.update(rows)
        # Of rewards that hardly differ, the normalisation in float32 makes noise by itself.
        assume(not rows or statistics.pstdev(rewards[row] for row in rows) > 0.5)
    assume(kept)
    about = {"lengths": lengths, "rewards": rewards, "kl": kl, "gamma": gamma}
    return about, samples, kept, draw(st.integers(1, answers))


@each_estimator
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_others_fare_as_if_it_had_never_been_sampled(batch_of_answers, estimator, data):
    about, samples, kept, micro = data.draw(cases(estimator))
    batch = batch_of_answers(**about)
    rows = range(len(batch.lengths))
    ours = batch.advantages(estimator, samples, left_out=set(rows) - kept, micro=micro)
    theirs = never_sampled(batch, estimator, samples, sorted(kept), micro)
    for row in rows:
        if row in kept:
            exactly(ours[row][0], theirs[row][0])
            exactly(ours[row][1], theirs[row][1])
        else:
            assert torch.equal(ours[row][0], torch.zeros(batch.lengths[row]))


def test_reinforce_baseline_with_groups_of_several_sizes(batch_of_answers):
    """OpenRLHF cannot be asked about that, so it is reckoned by hand: less the group's mean, the KL penalty from each
    token on, less the mean over all tokens, by their deviation."""
    batch = batch_of_answers(LENGTHS, REWARDS, kl=0.0)
    kept = [0, 1, 2, 3, 4, 5, 8, 10, 11]
    ours = batch.advantages("reinforce_baseline", GROUP, left_out=set(range(12)) - set(kept), micro=5)
    groups = [kept[:4], kept[4:6], kept[6:]]
    less = {
        row: REWARDS[row] - sum(REWARDS[other] for other in group) / len(group) for group in groups for row in group
    }
    tokens = [less[row] for row in kept for _ in range(LENGTHS[row])]
    mean = sum(tokens) / len(tokens)
    deviation = math.sqrt(sum((token - mean) ** 2 for token in tokens) / len(tokens))
    for row in kept:
        exactly(ours[row][0], torch.full((LENGTHS[row],), (less[row] - mean) / deviation))


@pytest.mark.parametrize("kl", [0.0, 0.1], ids=["kl as a loss", "kl in the reward"])
@pytest.mark.parametrize("micro", [1, 3, 12])
@each_estimator
def test_without_voids_nothing_changes(batch_of_answers, estimator, micro, kl):
    batch = batch_of_answers(LENGTHS, REWARDS, kl=kl)
    ours = batch.advantages(estimator, GROUP, micro=micro)
    theirs = batch.advantages(estimator, GROUP, micro=micro, seam=False)
    for row in range(12):
        assert torch.equal(ours[row][0], theirs[row][0]) and torch.equal(ours[row][1], theirs[row][1])


@pytest.mark.parametrize(
    "flags", [{"overlong_buffer_len": 4}, {"stop_properly_penalty_coef": 0.5}, {"stop_properly_penalty_coef": -0.5}]
)
@each_estimator
def test_length_penalties_and_clipped_rewards_are_those_of_the_others(batch_of_answers, estimator, flags):
    flags = flags | {"overlong_penalty_factor": 2.0, "clip_range": (-3.0, 4.0)}
    batch = batch_of_answers(LENGTHS, REWARDS, truncated={0, 5, 6}, reward=flags)
    batch.lengths = [*LENGTHS[:10], 8, 8]  # the longest one counts, so that both batches have the same limit
    rest = [row for row in range(12) if row not in (2, 6, 11)]
    ours = batch.advantages(estimator, GROUP, left_out={2, 6, 11})
    theirs = never_sampled(batch, estimator, GROUP, rest, 3)
    for row in rest:
        exactly(ours[row][0], theirs[row][0])


@pytest.mark.parametrize("left_out", [set(), {3}])
@pytest.mark.parametrize("estimator", COMPARE_WITHIN_GROUPS)
def test_answers_with_equal_rewards_get_no_advantage_from_rounding(batch_of_answers, estimator, left_out):
    """Without the seam eight answers with 7.3 get 477 each under group_norm."""
    batch = batch_of_answers([4] * 16, [7.3] * 8 + REWARDS[:8], kl=0.0)
    found = batch.advantages(estimator, 8, left_out=left_out)
    others = batch.advantages(estimator, 8, range(8, 16), seam=False)
    for row in range(8):
        if estimator != "reinforce_baseline":  # which takes off the mean over the batch
            exactly(found[row][0], torch.zeros(4))
            exactly(found[row + 8][0], others[row + 8][0])
        assert found[row][0].abs().max() < 0.1


def test_the_seams_fit_the_installed_openrlhf_and_reach_all_that_copy_a_name(tmp_path):
    code = """
from rl.trainer import cpu_backend
from rl.trainer.seams import masking
cpu_backend.apply()
masking.apply()
from openrlhf.models import loss
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker
from openrlhf.trainer.ray import ppo_actor, ppo_critic
ours = [ppo_critic.masked_mean, ppo_actor.masked_mean, loss.masked_mean, loss.aggregate_loss, ppo_actor.aggregate_loss]
ours += [ppo_actor.ActorPPOTrainer.training_step, RemoteExperienceMaker.compute_advantages_and_returns]
assert all(hasattr(function, "_longreward_seam") for function in ours), ours
"""
    environment = os.environ | {cpu_backend.DEVICE_VARIABLE: "cpu", "PYTHONPATH": str(Path.cwd())}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)


@each_estimator
def test_a_batch_of_void_answers_is_all_zero_and_never_nan(batch_of_answers, estimator):
    found = batch_of_answers(LENGTHS, REWARDS).advantages(estimator, GROUP, left_out=set(range(12)))
    assert all(torch.equal(a, torch.zeros_like(a)) and torch.isfinite(r).all() for a, r in found.values())


@each_estimator
def test_only_void_answers_lose_their_tokens_and_figures_are_those_of_the_others(batch_of_answers, estimator):
    batch = batch_of_answers(LENGTHS, REWARDS)
    made, before = (batch.experiences(range(12), {2, 5}) for _ in range(2))
    maker = batch.maker(estimator, GROUP)
    masking.compute_advantages(type(maker).compute_advantages_and_returns, maker, made)
    rows = iter(range(12))
    for one, other in zip(made, before, strict=True):
        assert torch.equal(one.rewards, other.rewards) and torch.equal(one.info["reward"], other.info["reward"])
        for mask, old, advantages in zip(one.action_mask, other.action_mask, one.advantages, strict=True):
            assert torch.equal(mask, torch.zeros_like(old) if next(rows) in (2, 5) else old)
            assert torch.isfinite(advantages).all()
    spread = torch.cat([one.info["group_reward_std"] for one in made])
    exactly(spread[:2], torch.full((2,), torch.tensor([7.0, 8.0, 6.0]).std().item()))


def test_the_critic_learns_nothing_from_a_void_answer(batch_of_answers):
    found = batch_of_answers(LENGTHS, REWARDS).advantages("gae", GROUP, left_out={2})
    values = batch_of_answers(LENGTHS, REWARDS).experiences(range(12))[0].values[2, : LENGTHS[2]]
    assert torch.equal(found[2][1], values)


@pytest.fixture
def loss_module(batch_of_answers, monkeypatch):
    """OpenRLHF's losses with the seams in place."""
    from openrlhf.models import loss

    for name in ("masked_mean", "aggregate_loss"):
        monkeypatch.setattr(loss, name, functools.partial(getattr(masking, name), getattr(loss, name)))
    return loss


def gradients(loss_module, made, *, learners, **settings):
    """What one optimizer step adds to the log-probabilities of each answer: policy loss and KL loss, by the counts that
    OpenRLHF takes over all its micro-batches and learners, divided by both as DeepSpeed does."""
    from openrlhf.utils.loss_utils import _optimizer_step_loss_norm

    counts = _optimizer_step_loss_norm([one.action_mask for one in made], None, learners, len(made))
    policy = loss_module.PolicyLoss(**settings)
    found = {}
    for one in made:
        rows = [int(row) for row in one.info["row"]]
        noise = [torch.rand(2, 8, generator=torch.Generator().manual_seed(row)) for row in rows]
        old, step = torch.stack(noise)[:, :, : one.action_mask.shape[1]].unbind(1)
        new = (-old - 0.1 * step).requires_grad_()
        seen = new * one.action_mask  # as OpenRLHF's Actor does
        loss, *figures = policy(
            seen, -old, one.advantages, action_mask=one.action_mask, rollout_log_probs=-old - 0.05, **counts
        )
        kl = loss_module.aggregate_loss((seen + old) ** 2, one.action_mask, policy.token_level_loss, **counts)
        ((loss + 0.1 * kl) / len(made) / learners).backward()
        assert all(torch.isfinite(figure) for figure in figures if figure is not None)
        found |= {row: grad[: LENGTHS[row]] for row, grad in zip(rows, new.grad, strict=True)}
    return found


def experienced(batch, estimator, samples, rows, left_out, micro, seam):
    made, maker = batch.experiences(rows, left_out, micro), batch.maker(estimator, samples)
    original = type(maker).compute_advantages_and_returns
    masking.compute_advantages(original, maker, made) if seam else original(maker, made)
    return made


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"token_level_loss": False},
        {"policy_loss_type": "gspo"},
        {"is_correction_level": "seq"},
        {"is_correction_level": "seq", "is_correction_gating": "binary_kl", "is_correction_threshold": [0.0, 0.5]},
    ],
    ids=str,
)
@pytest.mark.parametrize("learners", [1, 2])
@pytest.mark.parametrize("micro", [1, 4])
def test_the_update_is_that_of_the_batch_without_it(batch_of_answers, loss_module, settings, learners, micro):
    """In micro-batches of one, a void answer has one for itself."""
    batch = batch_of_answers(LENGTHS, REWARDS, logs={"row": range(12)})
    void = {2, 5, 10}
    rest = [row for row in range(12) if row not in void]
    made = experienced(batch, "group_norm", GROUP, range(12), void, micro, seam=True)
    ours = gradients(loss_module, made, learners=learners, **settings)
    made = experienced(batch, "group_norm", GROUP - 1, rest, (), 1, seam=False)
    theirs = gradients(loss_module, made, learners=learners, **settings)
    for row in range(12):
        exactly(ours[row], theirs.get(row, torch.zeros(LENGTHS[row])))


def test_a_step_of_void_answers_alone_moves_nothing(batch_of_answers, loss_module):
    """OpenRLHF alone would divide 0 by 0, and the weights would be NaN."""
    batch = batch_of_answers(LENGTHS, REWARDS, logs={"row": range(12)})
    made = experienced(batch, "group_norm", GROUP, range(12), set(range(12)), 2, seam=True)
    for token_level in (True, False):
        found = gradients(loss_module, made, learners=2, token_level_loss=token_level)
        assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in found.values())


def test_the_critic_does_not_learn_from_a_void_answer(batch_of_answers, loss_module):
    batch = batch_of_answers(LENGTHS, REWARDS)
    (made,) = experienced(batch, "gae", GROUP, range(12), {2}, 12, seam=True)
    values = (made.values + 1).requires_grad_()  # as after an earlier step on the same answers
    loss_module.ValueLoss()(values, made.values, made.returns, action_mask=made.action_mask).backward()
    assert torch.equal(values.grad[2], torch.zeros(8)) and values.grad[1].abs().sum() > 0


def test_the_figures_of_a_step_without_tokens_have_no_weight():
    """OpenRLHF divides by their number."""

    def step(self, experience):
        return {"metrics": {"policy_loss": 0.0}, "num_action_tokens": experience}

    assert masking.training_step(step, None, 7.0)["num_action_tokens"] == 7.0
    assert 0 < masking.training_step(step, None, 0.0)["num_action_tokens"] < 1e-6
