"""The server's replies in OpenRLHF's own code: lists of one count as the numbers in them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("openrlhf")
pytest.importorskip("vllm")
torch = pytest.importorskip("torch")

from rl.trainer import cpu_backend  # noqa: E402

REWARDS = [7.0, 8.0, 0.5, 6.0]


@pytest.fixture(scope="module")
def openrlhf() -> SimpleNamespace:
    """What OpenRLHF makes of a rollout, as on a machine without CUDA."""
    pytest.MonkeyPatch().setenv(cpu_backend.DEVICE_VARIABLE, "cpu")
    cpu_backend.apply()
    from openrlhf.trainer.ppo_utils import experience, experience_maker, samples_generator

    return SimpleNamespace(
        maker=experience_maker.RemoteExperienceMaker,
        generator=samples_generator.SamplesGenerator,
        experience=experience,
    )


def trained_on(openrlhf: SimpleNamespace, estimator: str, form: Any) -> tuple[Any, dict[str, list[float]], list[float]]:
    """Advantages, logs and scores of a group whose rewards came as `form` makes them; length penalties on."""
    generator = object.__new__(openrlhf.generator)
    rollouts = [
        generator._process_response_into_experience(
            {
                **{"prompt": "p", "label": "l", "rollout_log_probs": None, "truncated": number == 1},
                **{"observation_tokens": list(range(10 + number)), "action_ranges": [(4, 10 + number)]},
                **{"reward": form(reward), "scores": form(reward / 10)},
                "extra_logs": {"longreward/total": form(reward)},
            },
            max_len=100,
        )
        for number, reward in enumerate(REWARDS)
    ]
    scores = [rollout.scores[0].item() for rollout in rollouts]  # as dynamic filtering reads them
    for number, rollout in enumerate(rollouts):
        rollout.index = [number]
    experience = openrlhf.experience
    batches = [experience.Experience.concat_experiences(rollouts[i : i + 2], 0) for i in (0, 2)]
    for batch in batches:
        batch.kl = torch.zeros(batch.action_mask.shape)
        batch.values = torch.zeros(batch.action_mask.shape)
    maker = object.__new__(openrlhf.maker)
    advantage = SimpleNamespace(estimator=estimator, gamma=1.0, lambd=1.0, no_std_norm=False)
    penalties = {"overlong_buffer_len": 2, "overlong_penalty_factor": 1.0, "stop_properly_penalty_coef": 0.5}
    args = SimpleNamespace(
        reward=SimpleNamespace(clip_range=(-10, 10), **penalties),
        rollout=SimpleNamespace(max_new_tokens=8, n_samples_per_prompt=len(REWARDS)),
        data=SimpleNamespace(max_len=100),
        algo=SimpleNamespace(advantage=advantage),
    )
    maker.strategy, maker.advantage_estimator = SimpleNamespace(args=args), estimator
    maker.kl_ctl = SimpleNamespace(value=0.0)
    items = [
        item for b in maker.compute_advantages_and_returns(batches) for item in experience.split_experience_batch(b)
    ]
    batch = experience.make_experience_batch(experience.remove_padding_in_sequences(items))
    # As the learner turns them into metrics.
    logs = {name: torch.tensor(values, dtype=torch.float).tolist() for name, values in batch.info.items()}
    return batch.advantages, logs, scores


@pytest.mark.parametrize("estimator", ["group_norm", "rloo", "reinforce_baseline", "dr_grpo", "gae"])
def test_a_list_of_one_is_trained_on_filtered_and_logged_as_its_number(openrlhf, estimator):
    advantages, logs, scores = trained_on(openrlhf, estimator, lambda number: number)
    for form in (lambda number: [number], lambda number: torch.tensor([number])):
        same, same_logs, same_scores = trained_on(openrlhf, estimator, form)
        assert torch.equal(same, advantages) and same_logs == logs and same_scores == scores
    assert scores == pytest.approx([reward / 10 for reward in REWARDS])
    assert logs["longreward/total"] == REWARDS and logs["reward"] != REWARDS  # penalized
