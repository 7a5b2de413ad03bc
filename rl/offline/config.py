"""The configuration of offline DPO: an online run's, with what collecting, pairing and train_dpo need beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from longreward.base_url import tidy
from longreward.config import Section
from longreward.config_file import load_yaml
from rl.config import DataSection, RunConfig, load_as
from rl.offline.pairs import PairSection

STAGES = ("collect", "pair", "train", "evaluate")
"""The stages of rl/dpo.py, in their order."""
_ROLLOUT = {
    "rollout.n_samples_per_prompt": 10,  # paper, section 3.3
    "rollout.temperature": 1.0,
    "train.colocate_all": True,
}


class ServedPolicySection(Section):
    base_url: str
    """URL of the OpenAI-compatible endpoint that serves the policy, such as http://host:8000/v1."""
    model: str
    """Name of the policy at that endpoint."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the endpoint's key. Null: OPENAI_API_KEY."""
    max_in_flight: int = Field(64, ge=1)
    """The most requests at once."""
    timeout_s: float = Field(600, gt=0)
    """Deadline in seconds for one attempt to get an answer. An endpoint that fails is tried again eight times."""

    @field_validator("base_url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        return tidy(value)


class CollectSection(Section):
    answers_in_flight: int = Field(512, ge=1)
    """The most answers in flight per engine. A kill loses at most these."""
    seed: int = 42
    """The random seed of each answer is made from this number, its prompt and its place in the group, so that a
    repeated run collects the same answers."""
    served: ServedPolicySection | None = None
    """Take answers from a policy behind an endpoint, instead of the run's own engines."""
    stores: list[Path] = Field(default_factory=list)
    """`store/` folders of other runs over the same prompts, online runs included. Their answers are paired too."""
    pairs: Path | None = None
    """Published preference pairs (idx, context, query, win_response, lose_response) to train on as they are. Then only
    held-out answers are generated and scored."""
    responses: Path | None = None
    """Answers that are there already, to be scored by this run's reward: a file (the published sampled responses: idx,
    query, answer), or the `store/` folder of another run. Their documents come from data.train. Then no training
    answers are generated."""


class ShortSection(Section):
    train: Path | None = None
    """Preference pairs of short conversations to mix in: rows with prompt (or query), chosen, rejected, as text or as
    chat messages that end with the assistant's answer."""
    share: float = Field(0.25, gt=0, le=1)
    """Share of short pairs among all pairs trained on, if there are enough of them. 1: short pairs alone, as many as
    there are long ones."""
    heldout: Path | None = None
    """Short instructions (idx, query, and reference if there is one). The judge compares the trained policy's answers
    with the first policy's, both ways round."""

    @model_validator(mode="after")
    def _short_alone_are_there(self) -> ShortSection:
        if self.share == 1 and self.train is None:
            raise ValueError("share is 1, short pairs alone, and short.train names none; set short.train")
        return self


class FinetuneConfig(RunConfig, ABC):
    """A run of train_dpo or train_sft, OpenRLHF's programs that are not Ray jobs."""

    processes: int | None = Field(None, ge=1)
    """Number of learners on this machine. Null: one per GPU, or one without GPUs."""

    @property
    @abstractmethod
    def examples(self) -> Path:
        """What is trained on: rows in the form that the program reads."""


class DpoConfig(FinetuneConfig):
    must_stay: ClassVar[tuple[str, ...]] = (
        "actor.model_name_or_path",
        "data.max_len",
        "rollout.max_new_tokens",
        "rollout.temperature",
    )
    collect: CollectSection = CollectSection()
    """Answers: `openrlhf:` has the policy, the engines and how many answers to a prompt, as in an online run."""
    pair: PairSection = PairSection()
    """Which answers become pairs."""
    short: ShortSection = ShortSection()
    """Short conversations, so that they are not forgotten over the long ones."""
    train_dpo: dict[str, Any] = Field(default_factory=dict)
    """Flags of OpenRLHF's train_dpo, nested or dotted: model.beta, adam.lr, model.ipo_enable, ds.lora.rank, ..."""

    @model_validator(mode="after")
    def _rollout_defaults(self) -> DpoConfig:
        self.openrlhf = _ROLLOUT | self.openrlhf
        return self

    @model_validator(mode="after")
    def _dimensions_have_weights(self) -> DpoConfig:
        if self.pair.by == "per_dimension" and not (self.pair.weights or self.reward.dimension_weights):
            raise ValueError(
                f"pair.by=per_dimension: the reward {self.reward.name} has no dimensions with weights; set "
                "pair.weights, or pair.by=total"
            )
        return self

    @property
    def evaluates(self) -> bool:
        """Whether something is held out, so that the policy's answers are looked at before and after training."""
        return self.data.heldout is not None or self.short.heldout is not None

    @property
    def pairs_others(self) -> bool:
        """Whether pairs can be made without answers of the run's own."""
        return bool(self.collect.stores) or self.collect.pairs is not None

    def scored_by(self) -> dict[str, Any]:
        evaluation = self.evaluation
        files = {"data.heldout": self.data.heldout, "short.heldout": self.short.heldout}
        found = super().scored_by() | {name: path and str(path.absolute()) for name, path in files.items()}
        found["reward (its judge, model or scoring)"] = self.scoring
        found["evaluation.judge"] = self.grading if evaluation.judge and self.short.heldout else None
        for name in ("temperature", "n_samples_per_prompt", "max_prompts"):
            found[f"evaluation.{name}"] = getattr(evaluation, name)
        return found

    @property
    def is_graded(self) -> bool:
        return super().is_graded or self.short.heldout is not None

    @property
    def examples(self) -> Path:
        """The preference pairs."""
        return self.directory / "pairs" / "train.jsonl"


class SftDataSection(DataSection):
    train: Path
    """What to train on: rows with idx (or id), context, query, answer, or conversations of several turns: messages
    (role, content), or ShareGPT's conversations (from, value). In the forms of an online run's."""
    conversations: Path | None = None
    """A second file of such rows, spread evenly at random over those of `train`: short conversations beside long
    documents, say."""
    chat_template: str | None = None
    """The chat template of a base model, whose tokenizer has none: a Jinja file, or a model that has one (a folder, or
    the hub name of its instruction model). The trained model then has it, and ends answers where it ends a turn."""


class SftConfig(FinetuneConfig):
    must_stay: ClassVar[tuple[str, ...]] = ()
    data: SftDataSection
    """Documents, questions and answers, and conversations."""
    train_sft: dict[str, Any] = Field(default_factory=dict)
    """Flags of OpenRLHF's train_sft, nested or dotted: adam.lr, train.max_epochs, ds.lora.rank, ..."""

    @model_validator(mode="after")
    def _without_engines(self) -> SftConfig:
        self.openrlhf = {"vllm.num_engines": 1} | self.openrlhf  # none is started, but its flags are checked
        return self

    def scored_by(self) -> dict[str, Any]:
        return {}  # nothing is

    @property
    def examples(self) -> Path:
        """Prompts with their answers."""
        return self.directory / "data" / "sft.jsonl"


def load_any(path: Path, overrides: list[str]) -> RunConfig:
    """The configuration of whatever kind of run it is: online, DPO or SFT. Errors as from `rl.config.load`."""
    sections = load_yaml(path).keys()
    if "train_sft" in sections:
        return load_as(SftConfig, path, overrides)
    return load_as(DpoConfig if {"train_dpo", "collect", "pair", "short"} & sections else RunConfig, path, overrides)
