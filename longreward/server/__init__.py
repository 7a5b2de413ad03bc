"""`longreward serve`: the reward over HTTP, by OpenRLHF's remote reward protocol."""
