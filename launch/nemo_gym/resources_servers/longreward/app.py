"""NeMo Gym starts this as its resources server `longreward`: it becomes `longreward serve` where Gym asks for it.

It runs in the environment that Gym makes for it, which has omegaconf. The reward may be installed in another one, even
for another Python: `command` in configs/longreward.yaml names its executable.
"""

from __future__ import annotations

import os
import sys

from omegaconf import OmegaConf


def main() -> None:
    """Does not return, but for Gym's dry run. Exits with 2 where the executable cannot be started."""
    everything = OmegaConf.create(os.environ["NEMO_GYM_CONFIG_DICT"])
    if everything.get("dry_run"):
        return
    name = os.environ["NEMO_GYM_CONFIG_PATH"]
    ((kind, given),) = everything[name].resources_servers.items()
    words = [given.command, "serve", "--config", given.reward, "--host", given.host, "--port", str(given.port)]
    os.environ.pop("PYTHONPATH", None)  # for Gym's own Python
    try:
        os.execvp(given.command, words)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(
            f"{given.command} cannot be started: {error}; set {name}.resources_servers.{kind}.command to the "
            "longreward in the bin folder of the environment where it is installed"
        )


if __name__ == "__main__":
    main()
