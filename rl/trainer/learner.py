"""One process of an OpenRLHF program that is not a Ray job: python -m rl.trainer.learner openrlhf.cli.train_dpo FLAGS

DeepSpeed's launcher starts as many as there are learners (rl/offline/finetune.py). Without CUDA it gets
what cpu_backend.py replaces. It ends when the driver is gone, which nothing else would tell it.
"""

from __future__ import annotations

import os
import runpy
import select
import sys
import threading

from rl.trainer import cpu_backend

DRIVER = "LONGREWARD_DRIVER"
"""The variable with the driver's process id."""


def main() -> None:
    if driver := os.environ.get(DRIVER):
        _end_with(int(driver))
    cpu_backend.apply()
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__")


def _end_with(driver: int) -> None:
    try:
        descriptor = os.pidfd_open(driver)
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        select.select([descriptor], [], [])
        os._exit(1)

    threading.Thread(target=wait, name="end-with-driver", daemon=True).start()


if __name__ == "__main__":
    main()
