"""The `watch:` section of a run's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from longreward.config import JudgeConfig, Section


class ShadowSection(Section):
    share: float = Field(0.05, gt=0, le=1)
    """Share of the groups whose answers it scores."""
    judge: JudgeConfig
    """The judge: another model, or the same one with another `verdict` or `temperature`. What it costs counts under
    `reward.judge.spend`."""
    prompts: Path | None = None
    """A folder with prompts of its own, as `reward.prompts`. Null: ours."""

    @field_validator("judge")
    @classmethod
    def _is_there_already(cls, value: JudgeConfig) -> JudgeConfig:
        if value.kind == "vllm":
            raise ValueError(
                "kind is vllm, and a run serves no second judge; start it with ./launch/judge_server.sh and give its "
                "base_url with kind=openai"
            )
        if value.spend.max_cost is not None or value.spend.max_tokens is not None:
            raise ValueError("spend is set; the run has one cap, reward.judge.spend: leave the shadow's out")
        return value


class WatchSection(Section):
    every: int = Field(10, ge=1)
    """Number of steps after which some answers with their verdicts are sent to TensorBoard and W&B."""
    samples: int = Field(4, ge=0)
    """How many answers are sent: the best, the worst, and some between. 0: none."""
    canaries: Path | None = None
    """Answers of known quality (JSON lines with idx, context, query, answer) that the judge scores again and again, to
    notice when it drifts. The reference is the reward in `total` or `scores` of the row; without one, the reward of the
    first round."""
    canaries_every: int = Field(50, ge=1)
    """Number of steps between two rounds of canaries. Their verdicts are never taken from the cache."""
    max_drift: float = Field(1.0, gt=0)
    """The alarm is raised when the canaries' mean reward moves by more than this (0..10)."""
    on_drift: Literal["warn", "stop"] = "warn"
    """`warn` prints the alarm and continues. `stop` ends the run, which can be resumed at its last checkpoint."""
    noise_share: float = Field(0.0, ge=0, le=1)
    """Share of the groups whose answers the judge scores a second time, past the cache, to measure its noise. It costs
    that share of the judge's calls; 0.02 is enough for a long run. 0: its noise is not known."""
    shadow: ShadowSection | None = None
    """A second judge for a share of the answers. Nothing is trained on its scores: where the reward rises and they do
    not, the policy has learned the judge and not the task."""
