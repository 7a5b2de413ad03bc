"""A server process of our own: started, started again when it dies, and ended with all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from longreward.errors import ConfigError
from longreward.judge.own_server.run_vllm import GRACE_S
from longreward.redaction import redacted

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_ASK_EVERY_S = 0.2
_REPLY_S = 5.0
_LAST_LINES = 15
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerProcess:
    """Keeps a server alive from the moment it is made until `stop`, or until this process ends."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], root: str, log: Path) -> None:
        """`root` is the URL of the server that the command starts. What it prints is appended to `log`."""
        self._command, self._environment, self._root, self._log = list(command), dict(environment), root, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._stopping = threading.Event()
        self._changing = threading.Lock()
        self._last_code: int | None = None
        self._process = self._spawn()
        threading.Thread(target=self._supervise, name="longreward-judge-server", daemon=True).start()

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait for its first answer. ConfigError with the end of its log where it ended before, or took too long."""
        deadline = time.monotonic() + timeout_s
        while not self._healthy():
            if self._last_code is not None:
                code = self._last_code
                raise ConfigError(f"the judge's server ended with code {code} while it started{self._tail()}")
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"the judge's server did not answer within {timeout_s:g} s (judge.start_timeout_s){self._tail()}"
                )
            time.sleep(_ASK_EVERY_S)

    def stop(self) -> None:
        """End it and all that it has started, in order within some seconds, or else by force. Safe to repeat."""
        self._stopping.set()
        with self._changing:
            process = self._process
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        _end_group(process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._opened_log() as log:
            return subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,  # run_vllm.py ends when nobody holds it open
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _supervise(self) -> None:
        pause_s = 0.0
        while True:
            begun = time.monotonic()
            code = self._process.wait()
            _end_group(self._process)  # its engine is a process of its own
            if self._stopping.is_set():
                return
            self._last_code = code
            # One that dies while it starts will hardly do better at once.
            lasted_s = time.monotonic() - begun
            pause_s = min(max(_FIRST_PAUSE_S, pause_s * 2 * (lasted_s < _LONGEST_PAUSE_S)), _LONGEST_PAUSE_S)
            with self._opened_log() as log:
                log.write(f"longreward: the server ended with code {code}; it is started again in {pause_s:g} s\n")
            if self._stopping.wait(pause_s):
                return
            with self._changing:
                if self._stopping.is_set():
                    return
                self._process = self._spawn()

    def _opened_log(self) -> TextIO:
        return open(self._log, "a", opener=lambda path, flags: os.open(path, flags, 0o600))

    def _healthy(self) -> bool:
        try:
            with _DIRECT.open(f"{self._root}/health", timeout=_REPLY_S) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        said = [line for line in lines if line.strip() and not line.startswith("longreward:")][-_LAST_LINES:]
        return redacted("\n".join([f"; the end of {self._log}:", *said]))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
