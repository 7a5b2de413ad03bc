"""The `reward:` section of a run's configuration: the library's settings, other reward functions, workers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from longreward.config import RewardConfig, Section
from rl.reward_functions.composite import CompositeSection
from rl.reward_functions.python import PythonSection
from rl.reward_functions.reference import ReferenceSection
from rl.reward_functions.remote import RemoteSection
from rl.reward_functions.reward_model import RewardModelSection

_MAX_OUTAGE_S = 600.0
_CHANGES_NO_SCORE: dict[str, set[str]] = {
    "reference": set(),
    "remote": {"token_env", "timeout_s", "max_in_flight"},
    "python": {"allow"},
    "openrlhf": {"gpus", "batch_size"},
    "composite": set(),
}
"""The reward functions that have a section of their own, and what in it may differ when a run is continued."""


class RewardSection(RewardConfig):
    name: str = "longreward"
    """The reward function: longreward, reference, remote, python, openrlhf, composite, or one that a package brings."""
    reference: ReferenceSection = ReferenceSection()
    """How answers are compared with reference answers."""
    remote: RemoteSection = RemoteSection()
    """A server that speaks OpenRLHF's remote reward protocol."""
    python: PythonSection = PythonSection()
    """A function of a Python file of yours."""
    openrlhf: RewardModelSection = RewardModelSection()
    """A reward model that OpenRLHF loads."""
    composite: CompositeSection = CompositeSection()
    """Several reward functions at once."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of a reward function that a package brings."""
    workers: int = Field(1, ge=1)
    """Ray actors that hold the reward. One where the reward asks a judge: it makes some 1000 calls a second and keeps
    to the judge's limits by itself. More are for rewards that compute by themselves, such as reward models on GPUs."""
    tokenizer: Literal["policy", "words"] = "policy"
    """What chunk sizes are counted in: the policy's tokens, or words for a tokenizer without character offsets."""
    answer_timeout_s: float = Field(600, gt=0)
    """Deadline in seconds for scoring one answer, waiting included; past it the reward is void."""
    max_void_rate: float = Field(0.5, gt=0, le=1)
    """The run stops when more than this share of the last `void_window` answers of an engine is void."""
    void_window: int = Field(256, ge=1)
    """Answers over which the void rate is taken."""
    min_group_spread: float = Field(0.0, ge=0)
    """Groups whose rewards deviate less than this (standard deviation, 0..10) are not trained on: below the judge's own
    noise there is nothing to learn. 0 skips none. With `algo.dynamic_filtering_enable` they are replaced by others."""
    on_spend_cap: Literal["stop", "pause"] = "stop"
    """When `judge.spend` is used up: `stop` saves a checkpoint and ends the run; `pause` lets answers wait until the
    cap is raised with rl/spend.py."""
    shuffle: bool = False
    """Control experiment: give each answer the reward of a sibling drawn at random, so that nothing can be learned."""

    @model_validator(mode="after")
    def _one_worker_asks_the_judge(self) -> RewardSection:
        if self.asks_judge and self.workers > 1:
            raise ValueError(
                f"workers={self.workers}: a reward that asks a judge has one worker, which makes some 1000 calls a "
                "second; leave reward.workers out"
            )
        return self

    @property
    def parts(self) -> list[str]:
        """The reward functions that are asked, by name."""
        return list(self.composite.parts) if self.name == "composite" else [self.name]

    @property
    def asks_judge(self) -> bool:
        """Whether scoring an answer takes calls to a judge's endpoint."""
        return "longreward" in self.parts and self.judge.kind == "openai"

    @property
    def gpus(self) -> int:
        """GPUs that a judge worker reserves."""
        return self.openrlhf.gpus if "openrlhf" in self.parts else 0

    @property
    def reference_field(self) -> str | None:
        """The field of the data that reference answers are in, where some are needed."""
        return self.reference.field if "reference" in self.parts else None

    @model_validator(mode="after")
    def _waits_out_an_outage(self) -> RewardSection:
        if self.judge.max_outage_s is None:
            self.judge.max_outage_s = _MAX_OUTAGE_S
        return self

    def scored_by(self) -> dict[str, Any]:
        """What decides the scores, by the settings' names: scores of two runs compare where it is the same."""
        used = {self.name, *self.parts}
        found: dict[str, Any] = {"reward.name": self.name}
        for name, changes_no_score in _CHANGES_NO_SCORE.items():
            section: Section = getattr(self, name)
            dumped = section.model_dump(mode="json", exclude=changes_no_score) if name in used else None
            found[f"reward.{name}"] = dumped
        # An empty field where there is none, not None: what was prepared without references lacks them.
        found["reward.reference.field"] = self.reference_field or ""
        for name in ("weights", "gates"):
            found[f"reward.{name}"] = getattr(self, name) if "longreward" in used else None
        of_a_package = self.name not in ("longreward", *_CHANGES_NO_SCORE)
        found["reward.options"] = self.options if of_a_package else None
        return found
