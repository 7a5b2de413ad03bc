"""LongReward for other trainers."""
