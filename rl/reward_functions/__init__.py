"""Reward functions other than LongReward; rl/rewards.py knows them by name."""
