"""The judge of `judge.kind: vllm` for one command: a server on this machine that ends with it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from longreward.config import RewardConfig
from longreward.judge.own_server import settings
from longreward.judge.own_server.process import ServerProcess
from longreward.redaction import keep_secret

C = TypeVar("C", bound=RewardConfig)
_HOST = "127.0.0.1"


def as_served(config: C) -> C:
    """The configuration that `served` gives, but for where the server is: it scores alike, and none has to run."""
    if config.judge.kind != "vllm":
        return config
    return config.model_copy(update={"judge": settings.asked_at(config.judge, [])})


@contextmanager
def served(config: C) -> Iterator[C]:
    """The configuration with a judge that can be asked: itself, or with `judge.kind: vllm` one whose server runs while
    the context lasts. One server, whatever `judge.replicas` says.

    ConfigError where it does not start.
    """
    if config.judge.kind != "vllm":
        yield config
        return
    port, key = settings.free_port(), settings.new_key()
    keep_secret(key)
    os.environ.update({settings.KEY: key} | settings.without_proxy([_HOST]))
    log = Path(tempfile.mkdtemp(prefix="longreward-judge-"), "judge.log")
    print(f"longreward: vLLM loads the judge {config.judge.model} (log: {log})", file=sys.stderr)
    command, environment = settings.command(config.judge, _HOST, port), settings.environment(key)
    server = ServerProcess(command, environment, settings.url(_HOST, port), log)
    try:
        server.wait_until_ready(config.judge.start_timeout_s)
        yield config.model_copy(update={"judge": settings.asked_at(config.judge, [(_HOST, port)])})
    finally:
        server.stop()
    shutil.rmtree(log.parent)  # where all went well: after an error it is looked for
