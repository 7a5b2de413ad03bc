"""One process of an OpenRLHF program that is not a Ray job: python -m rl.trainer.learner openrlhf.cli.train_dpo FLAGS

DeepSpeed's launcher starts as many as there are learners (rl/offline/finetune.py). Without CUDA it gets
what cpu_backend.py replaces. It ends when the driver is gone, which nothing else would tell it.
"""

from __future__ import annotations

import os
import runpy
import sys

from rl.trainer import cpu_backend
from rl.trainer.seams import remote_code

DRIVER = "LONGREWARD_DRIVER"
"""The variable with the driver's process id."""


def main() -> None:
    if driver := os.environ.get(DRIVER):
        cpu_backend.end_with(int(driver))
    cpu_backend.apply()
    remote_code.apply()
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__")


if __name__ == "__main__":
    main()
