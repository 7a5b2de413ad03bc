"""LongReward: a judge's reward for answers about long documents (arXiv 2410.21252), fit to train on."""

from longreward.config import RewardConfig
from longreward.errors import ConfigError, InputError, JudgeError, LongRewardError, VerdictError
from longreward.reward import LongReward
from longreward.schema import DIMENSIONS, DimensionScore, Reward, Sample

__version__ = "0.1.0"

__all__ = [
    "DIMENSIONS",
    "ConfigError",
    "DimensionScore",
    "InputError",
    "JudgeError",
    "LongReward",
    "LongRewardError",
    "Reward",
    "RewardConfig",
    "Sample",
    "VerdictError",
]
