"""Answers as OpenRLHF's experience maker gets them, and the advantages that its own code computes from them.

The seams are process-wide, so tests put them in place by calling them, not by installing them.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from rl.trainer import cpu_backend
from rl.trainer.seams import masking


@pytest.fixture(scope="session")
def batch_of_answers() -> type[Batch]:
    """`Batch`, with OpenRLHF as on a machine without CUDA."""
    pytest.importorskip("openrlhf")
    pytest.MonkeyPatch().setenv(cpu_backend.DEVICE_VARIABLE, "cpu")
    cpu_backend.apply()
    return Batch


@dataclass
class Batch:
    """Answers in the order of their prompts. Log-probabilities and values differ from token to token, and are the same
    for an answer whatever batch it is in."""

    lengths: Sequence[int]
    rewards: Sequence[float]
    logs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    kl: float = 0.1
    gamma: float = 1.0
    truncated: Collection[int] = ()
    reward: Mapping[str, Any] = field(default_factory=dict)
    """OpenRLHF's flags under `reward`."""

    def experiences(self, rows: Sequence[int], left_out: Collection[int] = (), micro: int = 3) -> list[Any]:
        import torch
        from openrlhf.trainer.ppo_utils.experience import Experience

        made = []
        for start in range(0, len(rows), micro):
            part = rows[start : start + micro]
            width = max(self.lengths[row] for row in part)
            mask = torch.zeros(len(part), width, dtype=torch.long)
            kl, values = torch.zeros(len(part), width), torch.zeros(len(part), width)
            for place, row in enumerate(part):
                noise, length = torch.Generator().manual_seed(row), self.lengths[row]
                mask[place, :length] = 1
                kl[place, :length] = torch.rand(length, generator=noise)
                values[place, :length] = 5 * torch.rand(length, generator=noise)
            rewards = torch.tensor([float(self.rewards[row]) for row in part])
            info = {name: torch.tensor([float(column[row]) for row in part]) for name, column in self.logs.items()}
            info |= {"reward": rewards.clone()}
            info |= {masking.LEFT_OUT: torch.tensor([float(row in left_out) for row in part])}
            made.append(
                Experience(
                    index=list(range(start, start + len(part))),
                    action_mask=mask,
                    kl=kl,
                    values=values,
                    rewards=rewards,
                    response_length=torch.tensor([self.lengths[row] for row in part]),
                    truncated=torch.tensor([row in self.truncated for row in part]),
                    info=info,
                )
            )
        return made

    def maker(self, estimator: str, samples: int) -> Any:
        """OpenRLHF's, with its flags."""
        from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

        args = SimpleNamespace(
            algo=SimpleNamespace(
                advantage=SimpleNamespace(estimator=estimator, gamma=self.gamma, lambd=0.9, no_std_norm=False)
            ),
            reward=SimpleNamespace(**{"clip_range": None, **self.reward}),
            rollout=SimpleNamespace(n_samples_per_prompt=samples, max_new_tokens=max(self.lengths)),
        )
        return RemoteExperienceMaker(
            None, None, None, None, SimpleNamespace(value=self.kl), SimpleNamespace(args=args), None
        )

    def advantages(
        self,
        estimator: str,
        samples: int,
        rows: Sequence[int] | None = None,
        left_out: Collection[int] = (),
        micro: int = 3,
        seam: bool = True,
    ) -> dict[int, tuple[Any, Any]]:
        """Advantages and returns of the answers `rows` (all where None), less the padding. With `seam` as in a run,
        else as OpenRLHF is installed."""
        rows = range(len(self.lengths)) if rows is None else rows
        experiences = self.experiences(rows, left_out, micro)
        maker = self.maker(estimator, samples)
        original = type(maker).compute_advantages_and_returns
        if seam:
            masking.compute_advantages(original, maker, experiences)
        else:
            original(maker, experiences)
        found = itertools.chain.from_iterable(zip(one.advantages, one.returns, strict=True) for one in experiences)
        return {row: (a[: self.lengths[row]], r[: self.lengths[row]]) for row, (a, r) in zip(rows, found, strict=True)}
