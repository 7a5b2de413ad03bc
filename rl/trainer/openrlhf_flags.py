"""OpenRLHF's flags: which of them we read, as typed values, and a configuration's section as a command line.

No other module reads a flag by OpenRLHF's name for it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from longreward.errors import ConfigError
from longreward.preflight.finding import Finding
from rl.trainer.cpu_backend import UNSUPPORTED_FLAGS
from rl.trainer.openrlhf_parser import MODULE, parser

F = TypeVar("F", bound="ProgramFlags")

AGENT = Path(__file__).parents[1] / "rollout" / "agent.py"

OWNED_BY_EVERY_RUN = {
    "data.apply_chat_template": "prompts are rendered when data.train is prepared",
    "data.input_template": "prompts are rendered when data.train is prepared",
    "ckpt.path": "checkpoints are kept in the run directory; set run.dir",
    "ckpt.load_enable": "set resume=true",
    "ckpt.output_dir": "the model is kept in the run directory; set run.dir",
    "logger.tensorboard_dir": "TensorBoard files are kept in the run directory; set run.dir",
    "logger.wandb.key": "export WANDB_API_KEY and set wandb.mode",
    "logger.wandb.project": "set wandb.project",
    "logger.wandb.org": "set wandb.entity",
    "logger.wandb.group": "set wandb.group",
    "logger.wandb.run_name": "set run.name",
}
"""Flags of all of OpenRLHF's programs that a run sets itself, and what to set instead."""

OWNED = OWNED_BY_EVERY_RUN | {
    "train.agent_func_path": "the reward comes from the reward: section",
    "reward.remote_url": "set reward.name=remote and reward.remote.url",
    "reward.model_name_or_path": "set reward.name=openrlhf and reward.openrlhf.model_name_or_path",
    "data.prompt_dataset": "set data.train",
    "data.input_key": "prompts are prepared from data.train",
    "data.label_key": "prompts are prepared from data.train",
    "eval.dataset": "set data.heldout and evaluation.every",
    "eval.steps": "set evaluation.every",
    "eval.n_samples_per_prompt": "set evaluation.n_samples_per_prompt",
    "eval.temperature": "set evaluation.temperature",
}
"""Those of train_ppo_ray."""

DEFAULTS: dict[str, Any] = {
    "ckpt.save_steps": 20,  # OpenRLHF's own is never
    "ckpt.max_num": 3,
}
"""Where our default is another than OpenRLHF's."""

WANDB_KEY_PLACEHOLDER = "the-key-is-in-WANDB_API_KEY"  # OpenRLHF starts its W&B logger only if this is not empty
_REQUIRED = ("actor.model_name_or_path", "rollout.max_new_tokens", "vllm.num_engines")
_COUNTS = (
    "actor.num_nodes actor.num_gpus_per_node vllm.num_engines vllm.tensor_parallel_size ds.ring_attn_size "
    "ds.tensor_parallel_size rollout.batch_size rollout.micro_batch_size rollout.n_samples_per_prompt train.batch_size "
    "train.micro_batch_size"
).split()
_CHANGE_NO_WEIGHT = ("logger.", "ckpt.", "eval.", "data.dataset", "local_rank")


@dataclass(frozen=True)
class ProgramFlags:
    """The flags of all of OpenRLHF's programs that we read. A name is OpenRLHF's with `_` for each dot: `ds.lora.rank`
    is `ds_lora_rank`."""

    data_max_samples: int
    train_batch_size: int
    train_micro_batch_size: int
    train_max_epochs: int
    ds_ring_attn_size: int
    ds_tensor_parallel_size: int
    ds_lora_rank: int
    ds_lora_target_modules: list[str] | str
    ds_param_dtype: str
    ds_load_in_4bit: bool
    ds_lora_alpha: int
    ds_lora_dropout: float
    ckpt_save_steps: int
    logger_logging_steps: int

    @property
    def gpus_per_answer(self) -> int:
        """GPUs that work on the same answer while learners train."""
        return self.ds_ring_attn_size * self.ds_tensor_parallel_size

    def never_zero(self, section: str) -> Iterator[Finding]:
        """A problem for each number of steps under `section` that is 0."""
        for name, every in (
            ("ckpt.save_steps", self.ckpt_save_steps),
            ("logger.logging_steps", self.logger_logging_steps),
        ):
            if every == 0:
                yield Finding.problem("steps", f"{section}.{name} is 0, and OpenRLHF divides by it", "set -1 for never")


@dataclass(frozen=True)
class Flags(ProgramFlags):
    """The flags of train_ppo_ray that we read."""

    actor_model_name_or_path: str
    actor_num_nodes: int
    actor_num_gpus_per_node: int
    ref_num_nodes: int
    ref_num_gpus_per_node: int
    critic_num_nodes: int
    critic_num_gpus_per_node: int
    vllm_num_engines: int
    vllm_tensor_parallel_size: int
    vllm_enable_prefix_caching: bool
    vllm_enforce_eager: bool
    vllm_enable_sleep: bool
    vllm_gpu_memory_utilization: float
    ds_zero_stage: int
    ds_value_head_prefix: str
    data_max_len: int
    rollout_batch_size: int
    rollout_micro_batch_size: int
    rollout_n_samples_per_prompt: int
    rollout_max_new_tokens: int
    rollout_temperature: float
    rollout_vllm_generate_batch_size: int | None
    train_num_episodes: int
    train_seed: int
    train_full_determinism_enable: bool
    train_colocate_all: bool
    train_colocate_actor_ref: bool
    train_async_enable: bool
    train_enable_ema: bool
    train_partial_rollout_enable: bool
    train_dynamic_batch_enable: bool
    algo_kl_init_coef: float
    algo_advantage_estimator: str
    algo_dynamic_filtering_enable: bool
    ckpt_max_num: int
    ckpt_max_mem: float
    ckpt_save_hf: bool
    ckpt_disable_ds: bool
    eval_dataset: str | None
    eval_steps: int

    @property
    def policy(self) -> str:
        """The model that is trained: a folder, absolute, or a hub name."""
        return self.actor_model_name_or_path

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of a prompt: what an answer of full length leaves."""
        return self.data_max_len - self.rollout_max_new_tokens

    @property
    def prompts_at_once(self) -> int:
        """Prompts whose answers are generated at a time: more than a step's in asynchronous training."""
        return self.rollout_vllm_generate_batch_size or self.rollout_batch_size

    @property
    def prompts_per_step(self) -> int:
        """Prompts of a full training step."""
        return max(1, min(self.rollout_batch_size, self.prompts_at_once))

    @property
    def answers_per_step(self) -> int:
        """Answers of a full training step."""
        return self.rollout_batch_size * self.rollout_n_samples_per_prompt

    def steps(self, prompts: int) -> int:
        """Steps of the whole run where `prompts` are trained on in each episode."""
        return math.ceil(prompts / self.prompts_per_step) * self.train_num_episodes

    @property
    def models(self) -> list[str]:
        """The models that learners hold, by the first part of their flags: actor, perhaps ref and critic."""
        reference, critic = self.algo_kl_init_coef > 0, self.algo_advantage_estimator == "gae"
        return ["actor", *["ref"] * reference, *["critic"] * critic]

    def nodes_and_gpus(self, model: str) -> tuple[int, int]:
        """Nodes of a model's learners, and GPUs on each."""
        return getattr(self, f"{model}_num_nodes"), getattr(self, f"{model}_num_gpus_per_node")

    def gpus(self, model: str) -> int:
        """GPUs of a model's learners."""
        return math.prod(self.nodes_and_gpus(model))

    @property
    def engine_gpus(self) -> int:
        """GPUs of all vLLM engines."""
        return self.vllm_num_engines * self.vllm_tensor_parallel_size

    def learners(self, model: str) -> int:
        """Learners of a model that work on different answers."""
        return max(1, self.gpus(model) // self.gpus_per_answer)


@dataclass(frozen=True)
class LearnerFlags(ProgramFlags):
    """The flags of train_dpo and train_sft that we read."""

    model_model_name_or_path: str
    ds_packing_samples: bool


def with_absolute_folders(section: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration's section with absolute paths of model folders: workers may have another working directory."""
    models = {"actor.model_name_or_path", "critic.model_name_or_path"}
    local = {name for name in models & section.keys() if section[name] and Path(str(section[name])).is_dir()}
    return {**section, **{name: str(Path(section[name]).absolute()) for name in local}}


def refuse_owned(section: str, flags: Iterable[str], owned: Mapping[str, str]) -> None:
    """ConfigError for the first of `flags` that the run sets itself; `owned` says what to set instead."""
    for flag in flags:
        if flag in owned:
            raise ConfigError(f"{section}.{flag} is set by the run itself: {owned[flag]}")


def parse(argv: list[str], device: str) -> Flags:
    """The flags of a train_ppo_ray command line, OpenRLHF's defaults included.

    ConfigError where one that every run needs is missing, or one cannot work, on `device` (cpu or gpu) or anywhere.
    """
    parsed = vars(parser().parse_args(argv))
    for name in _REQUIRED:
        if not parsed[name]:
            raise ConfigError(f"openrlhf.{name} is not set; set it in the configuration's openrlhf section")
    for name in _COUNTS:
        if parsed[name] < 1:
            raise ConfigError(f"openrlhf.{name} is {parsed[name]}; set it to 1 at least")
    if parsed["data.max_len"] <= parsed["rollout.max_new_tokens"]:
        raise ConfigError(
            f"openrlhf.data.max_len ({parsed['data.max_len']}) leaves no room for a prompt beside "
            f"openrlhf.rollout.max_new_tokens ({parsed['rollout.max_new_tokens']})"
        )
    _refuse_without_gpu("openrlhf", parsed, device)
    return _typed(Flags, parsed)


def parse_learner(argv: list[str], module: str, section: str, device: str) -> tuple[LearnerFlags, dict[str, Any]]:
    """The flags of a train_dpo or train_sft command line, and by OpenRLHF's names those that the trained weights depend
    on: a training is only continued with the same ones.

    ConfigError where one cannot work on `device`.
    """
    parsed = vars(parser(module).parse_args(argv))
    _refuse_without_gpu(section, parsed, device)
    deciding = {name: value for name, value in parsed.items() if not name.startswith(_CHANGE_NO_WEIGHT)}
    return _typed(LearnerFlags, parsed), deciding


def _typed(kind: type[F], parsed: Mapping[str, Any]) -> F:
    values = {name.replace(".", "_"): value for name, value in parsed.items()}
    return kind(**{field.name: values[field.name] for field in fields(kind)})


def _refuse_without_gpu(section: str, parsed: Mapping[str, Any], device: str) -> None:
    """ConfigError for one of the flags under `section` that does not work on `device`."""
    if device != "cpu":
        return
    for flag, why in UNSUPPORTED_FLAGS.items():
        value = parsed.get(flag)  # train_dpo and train_sft do not have them all
        if value is True or (value or 0) > 1:
            raise ConfigError(
                f"{section}.{flag} does not run without a GPU ({why}); leave it out, or set run.device=gpu"
            )


def to_argv(flags: Mapping[str, Any], module: str = MODULE, section: str = "openrlhf") -> list[str]:
    """`{"actor.adam.lr": 1e-6, "vllm.enforce_eager": True}` -> the words of a command line; null leaves a flag out.

    `section` is where the configuration has them.
    """
    actions = parser(module)._actions
    known = {option[2:]: action for action in actions for option in action.option_strings if option[:2] == "--"}
    argv: list[str] = []
    for flag, value in flags.items():
        action = known.get(flag)
        if action is None or flag == "help":
            close = difflib.get_close_matches(flag, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"see `python -m {module} --help`"
            raise ConfigError(f"{section}.{flag} is not a flag of OpenRLHF; {hint}")
        # The default of a flag that takes a list may be a word, and given here the word would be a list.
        if value is None or (action.nargs == "*" and value in (action.default, [action.default])):
            continue
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise ConfigError(f"{section}.{flag} is a switch: true or false, got {value!r}")
            argv += [f"--{flag}"] * value
        else:
            values = value if isinstance(value, list | tuple) else [value]
            argv += [f"--{flag}", *map(str, values)]
    return argv
