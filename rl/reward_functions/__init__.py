"""Reward functions other than LongReward; rl/reward_functions/registry.py knows them by name."""
