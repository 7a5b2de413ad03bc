"""LongReward as a plugin of verifiers, which finds plugins by the name of a top-level module only."""

from longreward.adapters.verifiers import LongRewardJudge, LongRewardTaskset

__all__ = ["LongRewardJudge", "LongRewardTaskset"]
