"""Answers that were scored twice: the judge's noise, and where a reward parts from a shadow judge."""

from __future__ import annotations

import numpy as np
import pytest

from longreward.evaluation import divergence, second_scores
from longreward.evaluation.second_scores import SecondScore


def repeated(groups, noise, *, spread=2.0, shift=0.0, seed=0, siblings=8):
    """Groups of siblings of known spread, scored twice by a judge of known noise; `shift` moves whole groups."""
    chance = np.random.default_rng(seed)
    found = []
    for group in range(groups):
        true, moved = chance.normal(5, spread, siblings), chance.normal(0, shift)
        first, second = (true + chance.normal(0, noise, siblings) for _ in range(2))
        found.append(
            [
                SecondScore(
                    "repeat", str(group), "p", "r", 0.0, {"total": a, "flat": 3.0}, {"total": b + moved, "flat": 3.0}
                )
                for a, b in zip(first, second, strict=True)
            ]
        )
    return found


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_the_noise_of_a_judge_is_found_whatever_moves_whole_groups(noise):
    found = second_scores.noise(repeated(300, noise, shift=3.0))["total"]
    assert found.noise == pytest.approx(noise, abs=0.05)
    assert found.spread == pytest.approx(np.hypot(2.0, noise), rel=0.05)
    assert found.signal == pytest.approx(4 / (4 + noise**2), abs=0.05)


def test_a_score_that_never_varies_has_no_noise_and_no_signal():
    found = second_scores.noise(repeated(3, 0.5))["flat"]
    assert (found.noise, found.spread, found.signal) == (0, 0, 0)


def test_one_answer_alone_says_nothing_of_noise():
    assert second_scores.noise([members[:1] for members in repeated(5, 1.0)]) == {}


def test_what_was_written_is_read_again_and_half_a_line_is_not(tmp_path):
    one = SecondScore("shadow", "g#1", "p", "p/0", 1.5, {"total": 7.0}, None, "timeout")
    for name in ("a", "b"):
        with second_scores.SecondScores(tmp_path / second_scores.FOLDER / f"{name}.jsonl") as file:
            file.append(one)
    with (tmp_path / second_scores.FOLDER / "b.jsonl").open("a") as file:
        file.write('{"kind": "sha')
    found = list(second_scores.read(tmp_path))
    assert [each.status for each in found] == ["timeout", "timeout"]
    assert len({each.group for each in found}) == 2  # the same name in another file is another group


def curves(n, onset, *, slope=4.0, follows=0.0, seed=0):
    """Means of groups of a run: both rise honestly, then the reward goes on alone. Documents differ by 0.7."""
    chance = np.random.default_rng(seed)
    at = np.arange(n) / n
    document, hacked = chance.normal(0, 0.7, n), slope * np.maximum(0, at - onset)
    honest = 6 + np.minimum(at, onset)
    reward = honest + hacked + document + chance.normal(0, 0.3, n)
    shadow = honest - 1 + follows * hacked + 0.8 * document + chance.normal(0, 0.4, n)
    return list(reward), list(shadow)


@pytest.mark.parametrize("n", [60, 150, 600])
@pytest.mark.parametrize("seed", range(3))
def test_a_reward_that_goes_on_without_its_shadow_is_noticed_and_its_onset_found(n, seed):
    found = divergence.find(*curves(n, 0.4, seed=seed))
    assert found is not None
    assert abs(found.onset / n - 0.4) < 0.2
    assert 0.4 < found.noticed / n < 0.95
    assert found.reward_rise > 0.3 and found.shadow_rise <= found.reward_rise / 2


def test_looking_after_each_group_finds_what_one_look_finds():
    reward, shadow = curves(150, 0.4)
    looks = (divergence.find(reward[:n], shadow[:n], known=n - 1) for n in range(1, 151))
    assert next(found for found in looks if found is not None) == divergence.find(reward, shadow)


@pytest.mark.parametrize("seed", range(10))
def test_a_shadow_that_follows_on_a_scale_of_its_own_is_no_divergence(seed):
    assert divergence.find(*curves(100, 0.3, follows=0.7, slope=3.0, seed=seed)) is None


def test_a_shadow_that_falls_while_the_reward_stays_is_another_matter():
    reward, shadow = curves(100, 1.0)
    flat = [6.0 + value % 0.3 for value in reward]
    assert divergence.find(flat, [value - place / 20 for place, value in enumerate(shadow)]) is None


def test_a_few_groups_say_nothing():
    assert divergence.find([1.0, 5.0, 9.0], [1.0, 1.0, 1.0]) is None
    assert divergence.find([], []) is None
