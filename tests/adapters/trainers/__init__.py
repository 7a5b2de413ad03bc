"""Every trainer that can have this reward, a row for each. A new one is a row here and a small class."""

from __future__ import annotations

from typing import NamedTuple


class Way(NamedTuple):
    """Where a trainer's class is, and whether a server answers it. The module is imported when it is needed."""

    module: str
    name: str
    served: bool = False


TRAINERS = {
    "openrlhf": Way("trainers.served", "OpenRLHF", served=True),
    "openrlhf-function": Way("trainers.openrlhf", "RewardFunction"),
    "slime": Way("trainers.served", "Slime", served=True),
    "slime-lists": Way("trainers.served", "SlimeLists", served=True),
    "score": Way("trainers.served", "Score", served=True),
    "score-many": Way("trainers.served", "ScoreMany", served=True),
    "score-stream": Way("trainers.served", "ScoreStream", served=True),
}
