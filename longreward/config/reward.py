"""All settings of a reward."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from longreward.config.cache import CacheConfig
from longreward.config.dimensions import CompletenessConfig, CopyingConfig, FaithfulnessConfig, HelpfulnessConfig
from longreward.config.judge import QUESTIONS, JudgeConfig
from longreward.config.model import ModelConfig, Section
from longreward.config.retrieval import ChunkingConfig, RetrievalConfig
from longreward.errors import ConfigError
from longreward.schema import DIMENSIONS, EVERY_DIMENSION, Dimension

PAPER_WEIGHTS: dict[Dimension, float] = dict.fromkeys(DIMENSIONS, 1.0)


class RewardConfig(Section):
    judge: JudgeConfig = JudgeConfig()
    """The judge and its limits."""
    cache: CacheConfig = CacheConfig()
    """The cache of verdicts."""
    retrieval: RetrievalConfig = RetrievalConfig()
    """How evidence is found in the document."""
    chunking: ChunkingConfig = ChunkingConfig()
    """How the document is cut into chunks."""
    helpfulness: HelpfulnessConfig = HelpfulnessConfig()
    """How helpfulness is found."""
    faithfulness: FaithfulnessConfig = FaithfulnessConfig()
    """How statements are verified."""
    completeness: CompletenessConfig = CompletenessConfig()
    """How completeness is judged."""
    copying: CopyingConfig = CopyingConfig()
    """What answers lose that are copied from the document."""
    truncated_loss: float = Field(0.0, ge=0, le=1)
    """What an answer loses of its total that was cut at `openrlhf.rollout.max_new_tokens`; training knows that, the
    commands do not. OpenRLHF's own reward.stop_properly_penalty_coef trains alike, but the held-out rewards do not show
    it. 0: nothing, as in the paper."""
    prompts: Path | None = None
    """A folder with your own texts of the reward's prompts: en/NAME.txt and zh/NAME.txt (docs/how-to/your-prompts.md).
    Null: ours."""
    strip_thoughts: bool = True
    """Judge an answer without the thoughts of a reasoning policy: what stands in <think>...</think>, [THINK], channels
    and the like, or before a </think> whose beginning is in the prompt. An answer that never closes its first thought
    is empty. False: thoughts are judged as part of the answer."""
    weights: dict[Dimension, float] = Field(default_factory=lambda: dict(PAPER_WEIGHTS))
    """Weight of each dimension in the mean: helpfulness, logicality, faithfulness, completeness, and criteria, which
    every row must then have (docs/rewards.md). The judge is not asked about a dimension that is missing or 0, unless it
    has a gate. Paper: its four, all equal."""
    gates: dict[Dimension, float] = Field(default_factory=dict)
    """The lowest allowed score per dimension. An answer below it gets a total of 0: `logicality: 3` against answers
    that contradict themselves, `faithfulness: 5` against answers that contradict the document."""

    @field_validator("gates")
    @classmethod
    def _gates_are_on_the_scale(cls, value: dict[Dimension, float]) -> dict[Dimension, float]:
        if any(not 0 <= gate <= 10 for gate in value.values()):
            raise ValueError(f"a gate is a score from 0 to 10; got {value}")
        return value

    @field_validator("weights")
    @classmethod
    def _weights_make_a_mean(cls, value: dict[Dimension, float]) -> dict[Dimension, float]:
        if any(not 0 <= weight < float("inf") for weight in value.values()) or not sum(value.values()) > 0:
            raise ValueError(
                f"weights must be finite, not negative, and at least one above 0; got {value}; give one a weight"
            )
        return value

    @model_validator(mode="after")
    def _a_gate_needs_a_rating(self) -> Self:
        if self.helpfulness.way == "ranking" and "helpfulness" in self.gates:
            raise ValueError(
                f"gates.helpfulness is {self.gates['helpfulness']:g} and helpfulness.way is ranking, where half of all "
                "answers are below 5, good or bad; take the gate out, or set helpfulness.way=rating"
            )
        return self

    @model_validator(mode="after")
    def _embeddings_have_an_endpoint(self) -> Self:
        if self.retrieval.embedder and self.judge.kind == "offline":
            raise ValueError(
                f"retrieval.kind is {self.retrieval.kind}, which asks an endpoint, and judge.kind is offline; set "
                "judge.kind=openai, or retrieval.kind=bm25"
            )
        if self.retrieval.embedder and self.judge.kind == "vllm" and not self.retrieval.embeddings.base_url:
            raise ValueError(
                f"retrieval.kind is {self.retrieval.kind}, and the judge of judge.kind=vllm has no embeddings; set "
                "retrieval.embeddings.base_url, or retrieval.kind=bm25"
            )
        return self

    @model_validator(mode="after")
    def _routes_are_used(self) -> Self:
        self.check_routes()
        return self

    def check_routes(self) -> None:
        """ValueError where a route is asked nothing, or what it cannot answer."""
        first, routes = self.faithfulness.first, self.judge.routes
        if first is not None and first not in routes:
            raise ValueError(
                f"faithfulness.first is {first}, and judge.routes has no {first}; put its model and endpoint there"
            )
        if first in QUESTIONS:
            raise ValueError(
                f"faithfulness.first is {first}, the name of a question; give the route of the first model another name"
            )
        for name, route in routes.items():
            if name != first and name not in QUESTIONS:
                known = ", ".join(QUESTIONS)
                raise ValueError(
                    f"judge.routes.{name} is asked nothing: name it after a question ({known}), or set "
                    f"faithfulness.first={name}"
                )
            if route.way == "chat":
                continue
            if name not in ("verify", first):
                raise ValueError(
                    f"judge.routes.{name}.way={route.way} verifies statements and nothing else; take it out"
                )
            if name == "verify" and self.faithfulness.statements_per_call > 1:
                raise ValueError(
                    f"judge.routes.verify.way={route.way} takes one statement at a time; set "
                    "faithfulness.statements_per_call=1"
                )

    def route_of(self, kind: str) -> str | None:
        """The name of the route that a kind of question (`JudgeRequest.kind`) takes; None for the judge itself."""
        shared = {"verify_many": "verify", "write_questions": "write", "write_answer": "write"}
        name = self.faithfulness.first if kind == "check" else shared.get(kind, kind)
        return name if name in self.judge.routes else None

    def model_for(self, kind: str) -> ModelConfig:
        """The settings of the model that a kind of question is asked of."""
        name = self.route_of(kind)
        return self.judge if name is None else self.judge.route(name)

    @property
    def needed(self) -> list[Dimension]:
        """The dimensions with a weight or a gate, in the order of `EVERY_DIMENSION`."""
        return [name for name in EVERY_DIMENSION if self.weights.get(name, 0) > 0 or name in self.gates]

    @property
    def uses_criteria(self) -> bool:
        """Whether each row needs criteria of its own."""
        return "criteria" in self.needed

    @property
    def ranks(self) -> bool:
        """Whether the judge ranks the answers to a prompt, so that each has to come with its siblings."""
        return self.helpfulness.way == "ranking" and "helpfulness" in self.needed

    def refuse_criteria(self, whose: str) -> None:
        """ConfigError where criteria count, for a caller of this name that has no use for them."""
        if self.uses_criteria:
            raise ConfigError(f"{whose} knows nothing of criteria; take criteria out of weights and gates")

    def refuse_ranking(self, whose: str) -> None:
        """ConfigError where answers are ranked, for a caller of this name that does not know which are siblings."""
        if self.ranks:
            raise ConfigError(
                f"helpfulness.way is ranking, and {whose} does not know all answers to a prompt; set "
                "helpfulness.way=rating"
            )
