"""Every trainer that can have this reward, a row for each. A new one is a row here and a small class."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from trainers.trainer import Trainer


class Way(NamedTuple):
    """Where a trainer's class is."""

    module: str
    name: str
    served: bool = False
    """Whether a server answers it."""
    tells_voids: bool = True
    """Whether the trainer is told which answers are void. Where it is not, the number must be harmless."""
    cancels: bool = True
    """Whether the trainer can stop waiting, and the judge is then asked no more."""

    def trainer(self, config: dict[str, Any], url: str | None) -> Trainer:
        """The trainer with a reward's configuration; `url` is that of its server. Imports its module."""
        made = getattr(import_module(self.module), self.name)
        found: Trainer = made(config, url) if self.served else made(config)
        return found


TRAINERS = {
    "openrlhf": Way("trainers.served", "OpenRLHF", served=True),
    "openrlhf-function": Way("trainers.openrlhf", "RewardFunction", cancels=False),  # a thread cannot be stopped
    "slime": Way("trainers.served", "Slime", served=True, tells_voids=False),
    "slime-lists": Way("trainers.served", "SlimeLists", served=True, tells_voids=False),
    "score": Way("trainers.served", "Score", served=True),
    "score-many": Way("trainers.served", "ScoreMany", served=True),
    "score-stream": Way("trainers.served", "ScoreStream", served=True),
    "nemo-gym": Way("trainers.served", "NemoGym", served=True),
    "trl": Way("trainers.trl", "Trl", cancels=False),  # its columns share one scoring, which goes on
    "verl": Way("trainers.verl", "Verl"),
    "verifiers": Way("trainers.verifiers", "Verifiers"),
}
