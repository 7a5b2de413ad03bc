"""A training run's configuration: ours section by section, OpenRLHF's flags as they are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from longreward import config_file
from longreward.config import PAPER_WEIGHTS, CacheConfig, HelpfulnessConfig, JudgeConfig, RewardConfig, Section
from longreward.errors import ConfigError
from longreward.fingerprint import fingerprint
from rl.evaluation_config import EvaluationSection
from rl.reward_functions.config import RewardSection
from rl.watch_config import WatchSection

C = TypeVar("C", bound="RunConfig")


class RunSection(Section):
    name: str
    """Name of the run: letters, digits, `_`, `-` and dots, but not dots alone. Its directory is `dir`/`name`."""
    dir: Path = Path("runs")
    """Folder of all run directories. On a cluster of several machines it must be on a file system that all of them
    share."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto` uses the GPUs if there are any. `cpu` replaces the places of OpenRLHF and vLLM that need CUDA."""
    trust_remote_code: bool = False
    """Run the Python code that a model brings along (`auto_map` in its config.json or tokenizer_config.json), in every
    process of the run. That code has all your keys in reach: read it first. False: such a model is refused, or loaded
    by the class that transformers has for it."""
    deadline_start_s: float = Field(120, gt=0)
    """Longest wait in seconds for each of: Ray to start, Ray to place engines and learners, the workers that score to
    start, the judge's first reply."""
    stall_s: float = Field(1800, gt=0)
    """The run stops when nothing has moved for this many seconds: no answer was scored, and no process logged a line. A
    pause at the spend cap does not count."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        # "." and ".." would be the folder of all runs, and the one above it.
        if not re.fullmatch(r"[\w.-]+", value) or not value.strip("."):
            raise ValueError("it names a folder; write letters, digits, _, - and dots, not dots alone, such as grpo-1")
        return value


class DataSection(Section):
    train: Path
    """Documents and questions to train on: rows with idx (or id), context, query, as JSON lines, Parquet and others, or
    OWNER/NAME:SPLIT for a data set of the Hugging Face hub."""
    heldout: Path | None = None
    """Documents and questions that are never trained on, in the same format. They are scored before and after training.
    Null: no such scores."""


class WandbSection(Section):
    mode: Literal["disabled", "offline", "online"] = "disabled"
    """`online` needs the key in the environment variable WANDB_API_KEY on the machine that runs the trainer. `offline`
    writes files for `wandb sync`."""
    project: str = "longreward"
    """W&B project."""
    entity: str | None = None
    """W&B user or team."""
    group: str | None = None
    """W&B group."""
    run_id: str | None = None
    """W&B's id of the run. It is made when the run begins, and stays the same when the run is resumed."""


class RaySection(Section):
    address: str | None = None
    """Address of a running Ray cluster, or `auto`. Null: the environment variable RAY_ADDRESS; without it the run
    starts its own cluster."""
    object_store_gb: float = Field(1.0, gt=0)
    """Shared memory in GB, if the run starts its own cluster."""


PASSED_ON = ("openrlhf", "train_dpo", "train_sft")
"""Sections whose keys are another program's own flags, nested or dotted."""
_PROGRAMS = {**dict.fromkeys(("train_dpo", "collect", "pair", "short"), "rl/dpo.py"), "train_sft": "rl/sft.py"}
"""Sections that only one program's configurations have."""


class RunConfig(Section):
    must_stay: ClassVar[tuple[str, ...]] = (
        "actor.model_name_or_path",
        "critic.model_name_or_path",
        "actor.num_nodes",
        "actor.num_gpus_per_node",
        "ds.zero_stage",
        "ds.param_dtype",
        "ds.ring_attn_size",
        "ds.tensor_parallel_size",
        "ds.lora.rank",
        "ds.lora.alpha",
        "ds.lora.target_modules",
        "data.max_samples",
        "data.max_len",
        "rollout.batch_size",
        "rollout.n_samples_per_prompt",
        "rollout.vllm_generate_batch_size",
        "train.batch_size",
        "train.async_enable",
        "algo.advantage.estimator",
    )
    """OpenRLHF's flags that a run which is continued may not change: its checkpoints do not fit others."""
    resume: bool = False
    """Continue the run of this name at its last complete checkpoint. If there is no such run, begin it."""
    run: RunSection
    """The run and its directory."""
    data: DataSection
    """Documents and questions."""
    reward: RewardSection = RewardSection()
    """The reward function: the library's sections (judge, cache, retrieval, chunking, faithfulness, weights, gates) and
    how answers are scored in a run."""
    evaluation: EvaluationSection = EvaluationSection()
    """How the held-out set is sampled."""
    watch: WatchSection = WatchSection()
    """What is watched while the run is going: sampled answers, canaries, the judge's noise, a shadow judge."""
    wandb: WandbSection = WandbSection()
    """W&B. TensorBoard files are written as well, except by train_dpo and train_sft, which write one or the other."""
    ray: RaySection = RaySection()
    """The Ray cluster."""
    openrlhf: dict[str, Any] = Field(default_factory=dict)
    """OpenRLHF's own flags, nested or dotted: actor.adam.lr, algo.kl.init_coef, ... See `python -m
    openrlhf.cli.train_ppo_ray --help`."""

    @field_validator(*PASSED_ON, check_fields=False)
    @classmethod
    def _flat(cls, value: dict[str, Any]) -> dict[str, Any]:
        return flatten(value)

    def scored_by(self) -> dict[str, Any]:
        """Settings that a run which is continued may not change because scores of before and after are compared."""
        return self.reward.scored_by()

    @property
    def evaluated_by(self) -> dict[str, Any]:
        """What decides the answers and the verdicts of an evaluation, by the settings' names: those of two evaluations
        compare where it is the same. None for what takes no part."""
        section, reward = self.evaluation, self.reward
        files = ("longbench", "longbench_chat", "few_shots", "short", "mt_bench", "alpaca_eval")
        paths = {name: getattr(section, name) for name in files}
        found = {f"evaluation.{name}": path and str(path.absolute()) for name, path in paths.items()}
        found["evaluation.judge"] = self.grading if self.is_graded else None
        found["evaluation.temperature"] = section.temperature
        for flag in ("data.max_len", "rollout.max_new_tokens"):
            found[f"openrlhf.{flag}"] = self.openrlhf.get(flag)
        found["reward.strip_thoughts"] = reward.strip_thoughts
        if self.data.heldout is not None:
            found["data.heldout"] = str(self.data.heldout.absolute())
            for name in ("n_samples_per_prompt", "max_prompts"):
                found[f"evaluation.{name}"] = getattr(section, name)
            found |= RunConfig.scored_by(self) | {"reward (its judge, model or scoring)": self.scoring}
        if self.data.heldout is not None and reward.tokenizer == "policy":
            # It counts the chunks' tokens.
            found["openrlhf.actor.model_name_or_path"] = self.openrlhf.get("actor.model_name_or_path")
        return found

    @property
    def scoring(self) -> str:
        """A hash of what decides LongReward's scores."""
        settings = {name: getattr(self.reward, name) for name in RewardConfig.model_fields}
        return fingerprint(RewardConfig.model_construct(**settings))

    @property
    def grader(self) -> JudgeConfig:
        """The judge of LongBench, LongBench-Chat and short instructions."""
        return self.evaluation.judge or self.reward.judge

    @property
    def grading(self) -> str:
        """The grader's name, with a hash of what decides its verdicts."""
        judge = self.grader.model_copy(update={"routes": {}})
        return f"{judge.model or judge.kind} {fingerprint(RewardConfig.model_construct(judge=judge))}"

    @property
    def is_graded(self) -> bool:
        """Whether there is something for the grader."""
        return bool(self.evaluation.graded)

    @property
    def needs_judge(self) -> bool:
        """Whether reward.judge, of whatever kind, has a part in the rewards or in an evaluation."""
        return "longreward" in self.reward.parts or (self.is_graded and self.evaluation.judge is None)

    @property
    def starts_judge(self) -> bool:
        """Whether the run serves its judge itself."""
        return self.needs_judge and self.reward.judge.kind == "vllm"

    @property
    def shadow_reward(self) -> RewardSection | None:
        """The reward as the shadow judge gives it: that of the run, or LongReward where the run's asks no judge: then
        answers come without their siblings, and are rated."""
        shadow, reward = self.watch.shadow, self.reward
        if shadow is None:
            return None
        other: dict[str, Any] = {"judge": shadow.judge, "prompts": shadow.prompts, "cache": CacheConfig()}
        if "longreward" not in reward.parts:
            other |= {"name": "longreward", "helpfulness": HelpfulnessConfig()}
        if reward.faithfulness.first not in (None, *shadow.judge.routes):
            other["faithfulness"] = reward.faithfulness.model_copy(update={"first": None})
        return reward.model_copy(update=other)

    @model_validator(mode="after")
    def _shadow_is_whole(self) -> Self:
        if (shadow := self.shadow_reward) is not None:
            try:
                shadow.check_routes()
            except ValueError as error:
                raise ValueError(f"watch.shadow: {error}") from None
        return self

    @model_validator(mode="after")
    def _noise_is_a_judges(self) -> Self:
        auto = self.reward.min_group_spread == "auto"
        if auto and not self.watch.noise_share:
            raise ValueError(
                "reward.min_group_spread=auto takes the judge's noise, which is not measured; set watch.noise_share, "
                "such as 0.02, or give a number"
            )
        if self.watch.noise_share and not self.reward.asks_judge:
            raise ValueError(
                f"watch.noise_share is {self.watch.noise_share:g}, and the reward asks no judge over the network: it "
                "gives the same answer the same score; set watch.noise_share=0"
            )
        return self

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
    data = config_file.load_yaml(path)
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
            data[name] = (data.get(name) or {}) | flatten(config_file.apply_overrides({}, flags))
    config_file.apply_overrides(
        data,
        [o for o in overrides if not o.startswith(tuple(f"{name}." for name in PASSED_ON))],
        {"reward.weights": PAPER_WEIGHTS},
    )
    return config_file.validate(model, data, str(path))


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"actor": {"adam": {"lr": 1}}}` -> `{"actor.adam.lr": 1}`; dotted keys stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
