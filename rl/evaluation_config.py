"""The section about evaluations: held-out answers, the benchmarks of rl/evaluate.py, and the judge of these."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from longreward.config import JudgeConfig, Section
from rl.reward_functions.config import MAX_OUTAGE_S


class EvaluationSection(Section):
    n_samples_per_prompt: int = Field(4, ge=1)
    """Answers per held-out prompt."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature for held-out answers. 1.0 measures the policy as it is."""
    max_prompts: int | None = Field(None, ge=1)
    """Number of held-out prompts to use, from the first one. Null: all."""
    longbench: Path | None = None
    """For rl/evaluate.py: LongBench, as the JSON that the LongReward repository aggregates or as raw JSON lines."""
    longbench_chat: Path | None = None
    """For rl/evaluate.py: the test cases of LongBench-Chat."""
    few_shots: Path | None = None
    """The scored examples of LongBench-Chat. Null: few_shots.json in the folder of the test cases."""
    short: Path | None = None
    """For rl/evaluate.py with two policies: short instructions (idx, query, and reference if there is one)."""
    mt_bench: Path | None = None
    """For rl/evaluate.py: FastChat's question.jsonl of MT-Bench (question_id, category, turns). The answers are written
    for FastChat, which judges them."""
    alpaca_eval: Path | None = None
    """For rl/evaluate.py: AlpacaEval's instructions (instruction, and dataset if there is one). The answers are written
    for alpaca_eval, which judges them."""
    judge: JudgeConfig | None = None
    """The judge of LongBench, LongBench-Chat and short instructions, with a `spend` of its own, such as GPT-4o in the
    paper, whose rewards are GLM-4's. Null: reward.judge. Held-out answers are scored by reward.judge all the same."""
    every: int | None = Field(None, ge=1)
    """Score the held-out set also every so many training steps; shown under eval/ in TensorBoard and W&B, named pass1
    (0 to 10). Null: only before and after training."""

    @field_validator("judge")
    @classmethod
    def _judge_is_served_elsewhere(cls, value: JudgeConfig | None) -> JudgeConfig | None:
        if value is None:
            return None
        if "kind" not in value.model_fields_set:
            raise ValueError("kind is not set; set evaluation.judge.kind=openai, or leave evaluation.judge out")
        if value.kind == "vllm":
            raise ValueError(
                "kind is vllm, and a run serves reward.judge alone; start it with launch/judge_server.sh, and set "
                "evaluation.judge.kind=openai and evaluation.judge.base_url"
            )
        if value.routes:
            raise ValueError(
                f"routes.{next(iter(value.routes))} is asked nothing: routes are the reward's; take it out"
            )
        if value.max_outage_s is None:
            value.max_outage_s = MAX_OUTAGE_S
        return value

    @property
    def graded(self) -> dict[str, Path]:
        """What the judge grades or compares, by the settings' names."""
        files = {"longbench": self.longbench, "longbench_chat": self.longbench_chat, "short": self.short}
        return {name: path for name, path in files.items() if path is not None}
