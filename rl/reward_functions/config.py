"""The `reward:` section of a run's configuration: the library's settings, other reward functions, workers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from longreward.config import RewardConfig, Section
from rl.reward_functions.composite import CompositeSection
from rl.reward_functions.python import PythonSection
from rl.reward_functions.reference import ReferenceSection
from rl.reward_functions.remote import RemoteSection
from rl.reward_functions.reward_model import RewardModelSection

MAX_OUTAGE_S = 600.0
_CHANGES_NO_SCORE: dict[str, set[str]] = {
    "reference": set(),
    "remote": {"token_env", "timeout_s", "max_in_flight"},
    "python": {"allow"},
    "openrlhf": {"gpus", "batch_size"},
    "composite": set(),
}
"""The reward functions that have a section of their own, and what in it may differ when a run is continued."""


class LateSection(Section):
    share: float = Field(0.0, ge=0, lt=0.5)
    """When only this share of a step's answers, or less, has no scores yet, they are late once they have taken
    `patience` times as long as the slowest of the others. 0: a step waits for all. Only in synchronous training."""
    patience: float = Field(3.0, ge=1)
    """How many times as long."""


class RewardSection(RewardConfig):
    name: str = "longreward"
    """The reward function: longreward, reference, remote, python, openrlhf, composite, or the name that an installed
    package registers. criteria: longreward whose `weights` are `{criteria: 1}` if they are not given."""
    reference: ReferenceSection = ReferenceSection()
    """Agreement with reference answers."""
    remote: RemoteSection = RemoteSection()
    """A server that speaks OpenRLHF's remote reward protocol."""
    python: PythonSection = PythonSection()
    """A function of a Python file of yours."""
    openrlhf: RewardModelSection = RewardModelSection()
    """A reward model that OpenRLHF loads."""
    composite: CompositeSection = CompositeSection()
    """Several reward functions at once."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of a reward function from an installed package."""
    workers: int = Field(1, ge=1)
    """Number of Ray actors that score answers. It must be 1 for a reward that asks a judge: one worker makes about 1000
    calls per second and keeps to the judge's limits. More are for rewards that compute, such as reward models on
    GPUs."""
    tokenizer: Literal["policy", "words"] = "policy"
    """Unit of chunk sizes: the policy's tokens, or words if its tokenizer gives no character offsets."""
    answer_timeout_s: float = Field(600, gt=0)
    """Deadline in seconds for scoring one answer, waiting included. After it the reward is void."""
    max_void_rate: float = Field(0.5, gt=0, le=1)
    """The run stops when more than this share of an engine's last `void_window` answers is void."""
    void_window: int = Field(256, ge=1)
    """Number of latest answers over which the void rate is computed."""
    min_group_spread: Annotated[float, Field(ge=0)] | Literal["auto"] = 0.0
    """Groups whose rewards have a smaller standard deviation than this (0..10) are masked: below the judge's own noise
    there is nothing to learn. `auto` is that noise as `watch.noise_share` has measured it so far. 0 masks none. With
    `algo.dynamic_filtering_enable` such groups are replaced by others."""
    late: LateSection = LateSection()
    """A step does not wait for the last few answers: they are void, for the reason `late`, unless their group would
    then have no spread. Their scores go into the store and the cache all the same."""
    on_spend_cap: Literal["stop", "pause"] = "stop"
    """When `judge.spend` is used up, `stop` saves a checkpoint and ends the run; `pause` makes answers wait until
    rl/spend.py raises the cap."""
    advantage: Literal["total", "per_dimension"] = "total"
    """What answers to one prompt are compared by. `total`: their rewards. `per_dimension`: each dimension, or part of a
    composite reward, is normalised within the group before they are weighed and added up (GDPO), so that one with a
    small spread counts as much as the others; only with the estimator group_norm."""
    shuffle: bool = False
    """Control experiment: each answer gets the reward of a random sibling, so that nothing can be learned."""

    @model_validator(mode="before")
    @classmethod
    def _criteria_are_a_dimension(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("name") != "criteria":
            return given
        found = {"weights": {"criteria": 1.0}} | given | {"name": "longreward"}
        if isinstance(found["weights"], dict) and not found["weights"].get("criteria"):
            raise ValueError("name is criteria, which weights does not have; add it there, or leave weights out")
        return found

    @model_validator(mode="after")
    def _the_policy_counts_tokens(self) -> RewardSection:
        if self.chunking.tokenizer is not None:
            raise ValueError(
                f"chunking.tokenizer is {self.chunking.tokenizer}, and in training reward.tokenizer says what counts "
                "chunk sizes: the policy's tokens, or words; take chunking.tokenizer out"
            )
        return self

    @model_validator(mode="after")
    def _one_worker_asks_the_judge(self) -> RewardSection:
        if self.asks_judge and self.workers > 1:
            raise ValueError(
                f"workers={self.workers}: a reward that asks a judge has one worker, which makes some 1000 calls a "
                "second; leave reward.workers out"
            )
        return self

    @model_validator(mode="after")
    def _dimensions_have_weights(self) -> RewardSection:
        if self.advantage == "total":
            return self
        if not self.dimension_weights:
            raise ValueError(
                f"advantage=per_dimension: the reward {self.name} has no dimensions with weights; name it as a part of "
                "reward.name=composite, or set reward.advantage=total"
            )
        if self.shuffle:
            raise ValueError("shuffle exchanges totals alone; set reward.advantage=total with it")
        return self

    @property
    def dimension_weights(self) -> dict[str, float]:
        """Weights of what the total is the weighted mean of, by the names in logs and store; none where that is not
        known."""
        if self.name == "composite":
            return {name: part.weight for name, part in self.composite.parts.items() if part.weight}
        if self.name == "longreward":
            return {str(name): self.weights[name] for name in self.needed if self.weights.get(name)}
        return {}

    @property
    def compared(self) -> dict[str, float]:
        """What answers to one prompt are compared by, with the weights."""
        return {"total": 1.0} if self.advantage == "total" else self.dimension_weights

    @property
    def parts(self) -> list[str]:
        """The reward functions that are asked, by name."""
        return list(self.composite.parts) if self.name == "composite" else [self.name]

    @property
    def ranks(self) -> bool:
        return "longreward" in self.parts and super().ranks

    @property
    def asks_judge(self) -> bool:
        """Whether scoring an answer takes calls to a judge's endpoint."""
        return "longreward" in self.parts and self.judge.asks_endpoints

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
        for model in (self.judge, *self.judge.routes.values()):
            if model.max_outage_s is None:
                model.max_outage_s = MAX_OUTAGE_S
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
        for name in ("weights", "gates", "truncated_loss", "strip_thoughts"):
            found[f"reward.{name}"] = getattr(self, name) if "longreward" in used else None
        found["reward.helpfulness.way"] = self.helpfulness.way if "longreward" in used else None
        found["reward.copying"] = self.copying.used if "longreward" in used else None
        found["reward.completeness"] = self.completeness.used if "longreward" in used else None
        of_a_package = self.name not in ("longreward", *_CHANGES_NO_SCORE)
        found["reward.options"] = self.options if of_a_package else None
        return found
