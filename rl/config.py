"""A training run's configuration: ours section by section, OpenRLHF's flags as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator

from longreward import config as base
from longreward.config import Section
from longreward.errors import ConfigError
from rl.reward_functions.config import RewardSection

C = TypeVar("C", bound="RunConfig")


class RunSection(Section):
    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    """The run's name; its directory is `dir`/`name`."""
    dir: Path = Path("runs")
    """Where run directories are kept. On a cluster of several machines: a file system that all of them share."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` uses the GPUs if there are any; `cpu` replaces the CUDA-only places of OpenRLHF and vLLM."""
    deadline_start_s: float = Field(120, gt=0)
    """Longest wait in seconds for Ray to start and to place what it is asked for, for judge workers and for the judge's
    first reply."""
    stall_s: float = Field(1800, gt=0)
    """The run stops when nothing has moved for so many seconds: no answer scored, no line logged by any process. A
    pause for money does not count."""


class DataSection(Section):
    train: Path
    """JSON lines with idx (or id), context, query: the documents and questions to train on."""
    heldout: Path | None = None
    """The same, never trained on: scored before and after. Left out: no such scores."""


class EvaluationSection(Section):
    n_samples_per_prompt: int = Field(4, ge=1)
    """Answers per held-out prompt."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature on the held-out set; 1.0 measures the policy as it is."""
    max_prompts: int | None = Field(None, ge=1)
    """At most so many held-out prompts, the first ones; all when null."""
    longbench: Path | None = None
    """LongBench, for rl/evaluate.py: the JSON that the LongReward repository aggregates, or the raw JSON lines."""
    longbench_chat: Path | None = None
    """LongBench-Chat's test cases, for rl/evaluate.py."""
    few_shots: Path | None = None
    """LongBench-Chat's scored examples; few_shots.json beside the test cases when null."""
    short: Path | None = None
    """Short instructions (idx, query, and reference if there is one), for rl/evaluate.py with two policies."""
    every: int | None = Field(None, ge=1)
    """Held-out reward also every so many training steps, as eval/ in TensorBoard and W&B (there on OpenRLHF's scale of
    0 to 10, named pass1); null: only before and after training."""


class WandbSection(Section):
    mode: Literal["disabled", "offline", "online"] = "disabled"
    """`online` needs the key in WANDB_API_KEY on the machine that runs the trainer; it is never a flag here."""
    project: str = "longreward"
    """W&B project."""
    entity: str | None = None
    """W&B user or team."""
    group: str | None = None
    """W&B group."""
    run_id: str | None = None
    """W&B's id of the run: made when it begins, and the same when it is continued."""


class WatchSection(Section):
    every: int = Field(10, ge=1)
    """Every so many steps some answers with their verdicts go to TensorBoard and W&B."""
    samples: int = Field(4, ge=0)
    """How many answers: the best, the worst, and some between; 0 for none."""
    canaries: Path | None = None
    """JSON lines with idx, context, query, answer, of known quality: the judge scores them again and again, and must
    not drift. The rewards that `total` or `scores` give there are the reference, else those of the first time."""
    canaries_every: int = Field(50, ge=1)
    """Steps between two times. The cache is not used for them."""
    max_drift: float = Field(1.0, gt=0)
    """Alarm when the canaries' mean reward moves by more than this (0..10)."""
    on_drift: Literal["warn", "stop"] = "warn"
    """`warn` says so and goes on; `stop` ends the run, which can be continued at its last checkpoint."""


class RaySection(Section):
    address: str | None = None
    """A running cluster's address, or `auto`; else the variable RAY_ADDRESS; else a cluster of its own is started."""
    object_store_gb: float = Field(1.0, gt=0)
    """Shared memory of a cluster of its own, in GB."""


_MUST_STAY = (
    "actor.model_name_or_path",
    "critic.model_name_or_path",
    "actor.num_nodes",
    "actor.num_gpus_per_node",
    "ds.zero_stage",
    "ds.param_dtype",
    "ds.ring_attn_size",
    "ds.tensor_parallel_size",
    "ds.lora.rank",
    "data.max_samples",
    "data.max_len",
    "rollout.batch_size",
    "rollout.n_samples_per_prompt",
    "rollout.vllm_generate_batch_size",
    "train.batch_size",
    "train.async_enable",
    "algo.advantage.estimator",
)


PASSED_ON = ("openrlhf", "train_dpo", "train_sft")
"""Sections whose keys are another program's own flags, nested or dotted."""
_PROGRAMS = {**dict.fromkeys(("train_dpo", "collect", "pair", "short"), "rl/dpo.py"), "train_sft": "rl/sft.py"}
"""Sections that only one program's configurations have."""


class RunConfig(Section):
    must_stay: ClassVar[tuple[str, ...]] = _MUST_STAY
    """OpenRLHF's flags that a run which is continued may not change: its checkpoints do not fit others."""
    resume: bool = False
    """Continue the run of this name at its last complete checkpoint; begin it where there is none."""
    run: RunSection
    """The run and where it is kept."""
    data: DataSection
    """Documents and questions."""
    reward: RewardSection = RewardSection()
    """The reward function: the library's sections (judge, cache, retrieval, chunking, weights) and the workers."""
    evaluation: EvaluationSection = EvaluationSection()
    """How the held-out set is sampled."""
    watch: WatchSection = WatchSection()
    """What is looked at while the run goes on."""
    wandb: WandbSection = WandbSection()
    """W&B. Beside it TensorBoard files are written, but for train_dpo and train_sft, which write one or the other."""
    ray: RaySection = RaySection()
    """The Ray cluster."""
    openrlhf: dict[str, Any] = Field(default_factory=dict)
    """OpenRLHF's own flags, nested or dotted: actor.adam.lr, algo.kl.init_coef, ... See its --help."""

    @field_validator(*PASSED_ON, check_fields=False)
    @classmethod
    def _flat(cls, value: dict[str, Any]) -> dict[str, Any]:
        return flatten(value)

    def scored_by(self) -> dict[str, Any]:
        """Settings that a run which is continued may not change because scores of before and after are compared."""
        return self.reward.scored_by()

    @property
    def needs_judge(self) -> bool:
        """Whether a judge, of whatever kind, has a part in the rewards or in an evaluation."""
        evaluation = self.evaluation
        judged = (evaluation.longbench, evaluation.longbench_chat, evaluation.short)
        return "longreward" in self.reward.parts or any(path is not None for path in judged)

    @property
    def directory(self) -> Path:
        """The run directory, absolute: workers may have another working directory."""
        return (self.run.dir / self.run.name).absolute()

    @property
    def checkpoints(self) -> Path:
        """Where OpenRLHF keeps them."""
        return self.directory / "checkpoints"

    @property
    def log(self) -> Path:
        """All that engines, learners and the driver print."""
        return self.directory / "logs" / "train.log"

    def prompts(self, split: str) -> Path:
        """The prepared prompts of `train` or `heldout`."""
        return self.directory / "data" / f"{split}.jsonl"

    @property
    def needs_own_cluster(self) -> bool:
        return not (self.ray.address or os.environ.get("RAY_ADDRESS"))


def load(path: Path, overrides: list[str]) -> RunConfig:
    """Read a run's YAML and apply `section.key=value` overrides. ConfigError says what is wrong and where."""
    return load_as(RunConfig, path, overrides)


def load_as(model: type[C], path: Path, overrides: list[str]) -> C:
    """As `load`, for a kind of run with sections of its own."""
    if wrong := [word for word in overrides if word.startswith("-")]:
        raise ConfigError(f"unrecognized arguments: {' '.join(wrong)}; settings are given as section.key=value")
    data = base.load_yaml(path)
    for name, program in _PROGRAMS.items():
        if name in data and name not in model.model_fields:
            raise ConfigError(
                f"config file {path} is one of {program}'s: it has the section {name!r}; run "
                f"`python {program} --config {path}`, with --dry-run to check it only"
            )
    for name in PASSED_ON:
        section = data.get(name)
        if isinstance(section, dict):
            # Flat before the overrides, so that both spellings in a file (nested, dotted) are overridden alike.
            data[name] = flatten(section)
        flags = [o.removeprefix(f"{name}.") for o in overrides if o.startswith(f"{name}.")]
        if flags:
            data[name] = (data.get(name) or {}) | flatten(base.apply_overrides({}, flags))
    base.apply_overrides(data, [o for o in overrides if not o.startswith(tuple(f"{name}." for name in PASSED_ON))])
    return base.validate(model, data, str(path))


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"actor": {"adam": {"lr": 1}}}` -> `{"actor.adam.lr": 1}`; dotted keys stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
