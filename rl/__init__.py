"""The training: LongReward as the reward of OpenRLHF's own loop."""

import os

# Otherwise any call of Ray's that comes when no cluster is connected, such as one of a thread that outlives the run,
# starts a cluster of its own. Ray reads it when it is imported.
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
