"""Score a policy on held-out prompts, through the same engines, agent and judge workers as training.

python rl/evaluate.py --config configs/grpo_cpu.yaml [--model PATH] [section.key=value ...]
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from longreward import store
from longreward.errors import ConfigError
from longreward.schema import DIMENSIONS
from rl.config import RunConfig

_Z95 = 1.96


@dataclass(frozen=True)
class Scores:
    """Held-out scores of one policy: per prompt, the mean over its answers that are not void."""

    prompts: dict[str, dict[str, float]] = field(default_factory=dict)
    """Prompt id -> total and dimensions, 0..10. A prompt whose answers are all void is not in it."""
    answers: int = 0
    void: int = 0

    def means(self) -> dict[str, float | None]:
        """`total` and each dimension over the prompts; None where nothing was scored."""
        names = ["total", *DIMENSIONS]
        return {n: _mean([s[n] for s in self.prompts.values() if n in s]) for n in names}

    @classmethod
    def read(cls, path: Path) -> Scores | None:
        """What `write` wrote; None where there is nothing."""
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def write(self, path: Path) -> None:
        """For a run that is continued: the scores before training are taken once."""
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        part.replace(path)

    def summary(self) -> dict[str, Any]:
        rounded = {name: None if value is None else round(value, 4) for name, value in self.means().items()}
        return {"n": len(self.prompts), "answers": self.answers, "void": self.void, **rounded}


def gain(before: Scores, after: Scores) -> dict[str, Any]:
    """After - before over the prompts scored in both: mean and 95% interval (normal approximation)."""
    ids = before.prompts.keys() & after.prompts.keys()
    differences = [after.prompts[i]["total"] - before.prompts[i]["total"] for i in sorted(ids)]
    if len(differences) < 2:
        return {"n": len(differences), "total": None, "interval": None}
    mean = statistics.fmean(differences)
    half = _Z95 * statistics.stdev(differences) / math.sqrt(len(differences))
    return {"n": len(differences), "total": round(mean, 4), "interval": [round(mean - half, 4), round(mean + half, 4)]}


def evaluate(config: RunConfig, model: str, prompts: Path, flags: Mapping[str, Any]) -> Scores:
    """Sample `evaluation.n_samples_per_prompt` answers per prompt from `model` and score them.

    Needs a connected Ray and running judge workers; the engines are started for this and stopped before it returns.
    `flags` are OpenRLHF's, flat.
    """
    import ray
    from openrlhf.trainer.ray.vllm_engine import create_vllm_engines
    from vllm import SamplingParams

    from rl.openrlhf_args import AGENT
    from rl.prepare_data import load_tokenizer

    rows = [row for _, row in store.read(prompts)]
    count, parallel = flags["vllm.num_engines"], flags["vllm.tensor_parallel_size"]
    group = ray.util.placement_group([{"GPU": 1, "CPU": 1}] * (count * parallel), strategy="PACK")
    engines: list[Any] = []
    try:
        if not group.wait(config.run.deadline_start_s):
            raise ConfigError(
                f"Ray did not place {count * parallel} vLLM engines within {config.run.deadline_start_s:.0f} s; "
                "see `ray status` for what holds its GPUs"
            )
        engines = create_vllm_engines(
            count,
            parallel,
            model,
            flags["train.seed"],
            flags["train.full_determinism_enable"],
            flags["vllm.enable_prefix_caching"],
            flags["vllm.enforce_eager"],
            flags["data.max_len"],
            group,  # ours, so that it can be given back: OpenRLHF keeps its own for good
            flags["vllm.gpu_memory_utilization"],
            agent_func_path=str(AGENT),
        )
        sampling = SamplingParams(
            temperature=config.evaluation.temperature,
            top_p=1.0,
            max_tokens=flags["rollout.max_new_tokens"],
            skip_special_tokens=False,
            seed=None,
        )
        tokenizer = load_tokenizer(model)
        pending = [
            engines[i % count].generate_responses.remote(
                prompt=row["input"],
                label=row["label"],
                sampling_params=sampling,
                max_length=flags["data.max_len"],
                hf_tokenizer=tokenizer,
                num_samples=config.evaluation.n_samples_per_prompt,
            )
            for i, row in enumerate(rows)
        ]
        return collect([response for group_of_one in ray.get(pending) for response in group_of_one])
    finally:
        for engine in engines:
            ray.kill(engine)
        ray.util.remove_placement_group(group)


def collect(responses: list[dict[str, Any]]) -> Scores:
    """Scores of rollouts as the agent returns them. Void ones are counted, never averaged in."""
    from rl.prompts import Label

    by_prompt: dict[str, list[dict[str, float]]] = {}
    void = 0
    for response in responses:
        logs = response["extra_logs"]
        if logs["longreward/void"]:
            void += 1
            continue
        scores = {name: logs[f"longreward/{name}"] for name in ["total", *DIMENSIONS] if f"longreward/{name}" in logs}
        by_prompt.setdefault(Label.from_json(response["label"]).id, []).append(scores)
    means = {i: {n: statistics.fmean(s[n] for s in scores) for n in scores[0]} for i, scores in by_prompt.items()}
    return Scores(means, len(responses), void)


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


if __name__ == "__main__":
    from rl.train import main

    sys.exit(main(sys.argv[1:], evaluate_only=True))
