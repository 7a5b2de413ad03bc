"""`reward.advantage: per_dimension`, by OpenRLHF's own code with the seam called in place."""

from __future__ import annotations

import functools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("openrlhf")
torch = pytest.importorskip("torch")

from rl.trainer.seams import masking  # noqa: E402
from rl.trainer.seams.advantages import PerDimension  # noqa: E402

GROUP = 4
exactly = functools.partial(torch.testing.assert_close, rtol=1e-6, atol=1e-6)
WEIGHTS = {"faithfulness": 1.0, "completeness": 1.0}


@pytest.fixture
def by_dimension(monkeypatch):
    """Sets the dimensions' weights as in the environment of a run."""

    def put(weights=WEIGHTS, min_spread=0.0):
        for name, value in PerDimension(weights, min_spread).environment().items():
            monkeypatch.setenv(name, value)

    return put


def answers(batch_of_answers, scores, weights=WEIGHTS, *, lengths=None, totals=None, **about):
    """`scores`: name -> each answer's. The totals are their weighted means."""
    count = len(next(iter(scores.values())))
    means = [sum(w * scores[name][row] for name, w in weights.items()) / sum(weights.values()) for row in range(count)]
    logs = {f"longreward/{name}": column for name, column in scores.items()}
    return batch_of_answers(lengths or [1] * count, totals or means, logs=logs, **{"kl": 0.0} | about)


def first_tokens(found):
    return torch.stack([found[row][0][0] for row in sorted(found)])


def chance_scores(seed, count, spread=1.0):
    chance = random.Random(seed)
    return [5 + spread * chance.uniform(-3, 3) for _ in range(count)]


def figures(batch, samples, left_out=()):
    made, maker = batch.experiences(range(len(batch.lengths)), left_out), batch.maker("group_norm", samples)
    masking.compute_advantages(type(maker).compute_advantages_and_returns, maker, made)
    names = [name for name in made[0].info if name.startswith("longreward/advantage_")]
    return {name: torch.cat([one.info[name] for one in made]) for name in names}


def test_it_is_what_the_paper_says(batch_of_answers, by_dimension):
    """Normalised within the group, weighed, added up, normalised over the batch."""
    weights = {"faithfulness": 2.0, "completeness": 1.0}
    by_dimension(weights)
    scores = {"faithfulness": [9, 1, 5, 6, 2, 2, 3, 8], "completeness": [1, 9, 4, 4, 7, 7.5, 7, 6]}
    found = first_tokens(answers(batch_of_answers, scores, weights).advantages("group_norm", GROUP))
    total = torch.zeros(2, GROUP)
    for name, weight in weights.items():
        group = torch.tensor(scores[name], dtype=torch.float64).reshape(2, GROUP)
        total = total + weight * (group - group.mean(1, keepdim=True)) / group.std(1, keepdim=True)
    exactly(found, (total / total.std()).flatten().float())


def test_a_dimension_of_a_tenth_of_the_others_spread_weighs_as_much(batch_of_answers, by_dimension):
    wide, narrow = chance_scores(1, 64), chance_scores(2, 64, spread=0.1)
    small = answers(batch_of_answers, {"faithfulness": wide, "completeness": narrow})
    equal = answers(batch_of_answers, {"faithfulness": wide, "completeness": [5 + 10 * (x - 5) for x in narrow]})
    by_total = small.advantages("group_norm", GROUP)
    by_dimension()
    ours = first_tokens(small.advantages("group_norm", GROUP))
    torch.testing.assert_close(ours, first_tokens(equal.advantages("group_norm", GROUP)), rtol=1e-5, atol=1e-5)

    def goes_with(advantages, scores):
        return torch.corrcoef(torch.stack([advantages, torch.tensor(scores)]))[0, 1]

    assert goes_with(first_tokens(by_total), narrow) < 0.3 < 0.45 < goes_with(ours, narrow)
    spreads = figures(small, GROUP)
    assert spreads.keys() == {"longreward/advantage_faithfulness", "longreward/advantage_completeness"}
    one, other = (column.unique().item() for column in spreads.values())
    assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_with_all_dimensions_but_one_constant_it_is_total_but_for_the_scale(batch_of_answers, by_dimension, kl):
    scores = {"faithfulness": chance_scores(3, 16), "completeness": [7.3] * 16}
    batch = answers(batch_of_answers, scores, kl=kl)
    total = batch.advantages("group_norm", GROUP)
    by_dimension()
    ours = batch.advantages("group_norm", GROUP)
    by_kl = batch_of_answers([1] * 16, [0.0] * 16, kl=kl).advantages("dr_grpo", GROUP, seam=False)
    own, theirs = (first_tokens(found) - first_tokens(by_kl) for found in (ours, total))
    exactly(own, theirs / theirs.std())


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(3, 6), prompts=st.integers(1, 4), seed=st.integers(0, 10**6), micro=st.integers(1, 9))
def test_voids_are_exact(batch_of_answers, samples, prompts, seed, micro):
    """Compared with the batch in which they were never sampled, where one void in each group makes one size of all."""
    chance = random.Random(seed)
    count = samples * prompts
    void = {prompt * samples + chance.randrange(samples) for prompt in range(prompts)}
    scores = {
        name: chance_scores(f"{seed}{name}", count, spread) for name, spread in zip(WEIGHTS, (1, 0.1), strict=True)
    }
    for row in void:  # what stands for it
        for column in scores.values():
            column[row] = 5.0
    batch = answers(batch_of_answers, scores, lengths=[chance.randint(1, 7) for _ in range(count)], kl=0.1)
    rest = [row for row in range(count) if row not in void]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in PerDimension(WEIGHTS).environment().items():
            patch.setenv(name, value)
        ours = batch.advantages("group_norm", samples, left_out=void, micro=micro)
        theirs = batch.advantages("group_norm", samples - 1, rest, micro=micro)
    for row in range(count):
        exactly(ours[row][0], theirs[row][0] if row in theirs else torch.zeros(batch.lengths[row]))


def test_an_answer_below_a_gate_has_nothing_in_any_dimension(batch_of_answers, by_dimension):
    by_dimension()
    scores = {"faithfulness": [9, 8, 7, 6], "completeness": [9, 6, 8, 7]}
    gated = answers(batch_of_answers, scores, totals=[0.0, 7, 7.5, 6.5])
    zero = answers(batch_of_answers, {name: [0, *column[1:]] for name, column in scores.items()})
    exactly(first_tokens(gated.advantages("group_norm", 4)), first_tokens(zero.advantages("group_norm", 4)))


def test_what_copied_words_cost_the_total_they_cost_each_dimension(batch_of_answers, by_dimension):
    by_dimension()
    scores = {"faithfulness": [9, 8, 7, 6], "completeness": [9, 6, 8, 7]}
    means = [sum(WEIGHTS[n] * scores[n][row] for n in WEIGHTS) / sum(WEIGHTS.values()) for row in range(4)]
    copied = answers(batch_of_answers, scores, totals=[means[0] / 2, *means[1:]])
    halved = answers(batch_of_answers, {name: [column[0] / 2, *column[1:]] for name, column in scores.items()})
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(
        first_tokens(copied.advantages("group_norm", 4)), first_tokens(halved.advantages("group_norm", 4)), **close
    )


def test_a_length_penalty_is_one_in_each_dimension(batch_of_answers, by_dimension):
    by_dimension()
    scores = {"faithfulness": [9, 8, 7, 6], "completeness": [9, 6, 8, 7]}
    flags = {"overlong_buffer_len": 2, "overlong_penalty_factor": 3.0}
    late = answers(batch_of_answers, scores, lengths=[4, 1, 1, 1], reward=flags)
    less = answers(batch_of_answers, {name: [column[0] - 3, *column[1:]] for name, column in scores.items()})
    exactly(first_tokens(late.advantages("group_norm", 4)), first_tokens(less.advantages("group_norm", 4)))


def test_a_dimension_within_the_judges_noise_counts_nothing(batch_of_answers, by_dimension):
    scores = {"faithfulness": chance_scores(4, 8), "completeness": chance_scores(5, 8, spread=0.05)}
    batch = answers(batch_of_answers, scores)
    by_dimension(min_spread=0.3)
    ours = first_tokens(batch.advantages("group_norm", GROUP))
    by_dimension({"faithfulness": 1.0})
    alone = answers(batch_of_answers, scores, {"faithfulness": 1.0})
    exactly(ours, first_tokens(alone.advantages("group_norm", GROUP)))


def test_the_noise_that_was_measured_is_the_limit_of_each_dimension(batch_of_answers, by_dimension):
    scores = {"faithfulness": chance_scores(4, 8), "completeness": chance_scores(5, 8, spread=0.05)}
    logged = {"min_spread_faithfulness": [0.3] * 8, "min_spread_completeness": [0.3] * 8}
    by_dimension(min_spread=None)
    ours = first_tokens(answers(batch_of_answers, scores | logged).advantages("group_norm", GROUP))
    by_dimension({"faithfulness": 1.0})
    alone = answers(batch_of_answers, scores, {"faithfulness": 1.0})
    exactly(ours, first_tokens(alone.advantages("group_norm", GROUP)))


def test_a_batch_without_any_spread_is_all_zero(batch_of_answers, by_dimension):
    by_dimension()
    batch = answers(batch_of_answers, {"faithfulness": [7.3] * 8, "completeness": [6.35] * 8})
    assert torch.equal(first_tokens(batch.advantages("group_norm", 8)), torch.zeros(8))
    assert all(torch.equal(column, torch.zeros(8)) for column in figures(batch, 8).values())
