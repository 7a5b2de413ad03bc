"""The reward's configuration: one model per section of the YAML file. An unknown key is an error.

The docstring under a field is its text in docs/config.md (written by docs/make_config.py).
"""

from longreward.config.cache import CacheConfig
from longreward.config.dimensions import (
    MOST_RANKED,
    CompletenessConfig,
    CopyingConfig,
    FaithfulnessConfig,
    HelpfulnessConfig,
)
from longreward.config.judge import QUESTIONS, JudgeConfig, LikelihoodConfig, RouteConfig, SpendConfig
from longreward.config.model import (
    NO_KEY,
    OF_ENDPOINTS,
    PAPER_FORM,
    EndpointConfig,
    HedgeConfig,
    ModelConfig,
    PriceConfig,
    ReplyForm,
    Section,
    VerdictForm,
    Way,
)
from longreward.config.retrieval import ChunkingConfig, EmbeddingsConfig, RetrievalConfig
from longreward.config.reward import PAPER_WEIGHTS, RewardConfig

__all__ = [
    "MOST_RANKED",
    "NO_KEY",
    "OF_ENDPOINTS",
    "PAPER_FORM",
    "PAPER_WEIGHTS",
    "QUESTIONS",
    "CacheConfig",
    "ChunkingConfig",
    "CompletenessConfig",
    "CopyingConfig",
    "EmbeddingsConfig",
    "EndpointConfig",
    "FaithfulnessConfig",
    "HedgeConfig",
    "HelpfulnessConfig",
    "JudgeConfig",
    "LikelihoodConfig",
    "ModelConfig",
    "PriceConfig",
    "ReplyForm",
    "RetrievalConfig",
    "RewardConfig",
    "RouteConfig",
    "Section",
    "SpendConfig",
    "VerdictForm",
    "Way",
]
