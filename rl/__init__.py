"""The training: LongReward as the reward of OpenRLHF's own loop."""
