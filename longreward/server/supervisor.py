"""The parent of the worker processes: holds the port, starts and restarts them, and ends them without losing anything.

uvicorn's own supervisor ignores a second signal while it waits, and keeps the port open to clients nobody will answer.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from longreward.errors import ConfigError
from longreward.server.config import ServerConfig
from longreward.server.coordinator import Coordinator

_BACKLOG = 4096
_AFTER_THE_DEADLINE_S = 20.0
_SHORT_LIFE_S, _MOST_WAIT_S = 30.0, 15.0
_USER_ERROR = 2


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. ConfigError where the address is not to be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from None
    listening.listen(_BACKLOG)
    return listening


class Supervisor:
    """Keeps `workers` processes at work on one listening socket."""

    def __init__(self, config: ServerConfig, listening: socket.socket, workers: int) -> None:
        self._config, self._listening, self._workers = config, listening, workers
        self._coordinator = Coordinator(config.judge, workers, config.serve.group_size)
        self._ending = asyncio.Event()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._names = itertools.count(1)
        self._metrics = ""

    async def run(self) -> int:
        """Until SIGTERM or SIGINT, then until the workers have answered all they had accepted; a second signal kills
        them. The exit code: 0, or 2 where a worker told of a user's error, 1 where one was killed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        with tempfile.TemporaryDirectory(prefix="longreward-serve-") as self._metrics:
            codes = await asyncio.gather(*(self._keep_running() for _ in range(self._workers)))
        return max((_USER_ERROR if code == _USER_ERROR else int(code != 0) for code in codes), default=0)

    def _signalled(self) -> None:
        if self._ending.is_set():
            self._tell_all(signal.SIGKILL)
        else:
            self._end()

    def _end(self) -> None:
        self._ending.set()
        self._coordinator.end()
        self._listening.close()  # ours; the workers have theirs
        self._tell_all(signal.SIGTERM)

    def _tell_all(self, number: signal.Signals) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):  # it has just ended
                process.send_signal(number)

    async def _keep_running(self) -> int:
        """Start a worker, and another one whenever it dies. The last one's exit code."""
        wait_s = 0.5
        while not self._ending.is_set():
            started = time.monotonic()
            code = await self._run_one()
            if self._ending.is_set():
                return code
            if code == _USER_ERROR:
                self._end()
                return code
            print(f"longreward: a worker ended with {code}; another one is started", file=sys.stderr, flush=True)
            wait_s = 0.5 if time.monotonic() - started > _SHORT_LIFE_S else min(2 * wait_s, _MOST_WAIT_S)
            try:
                async with asyncio.timeout(wait_s):
                    await self._ending.wait()
            except TimeoutError:
                continue
        return 0

    async def _run_one(self) -> int:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "longreward.server.worker"),
                *("--listen", str(self._listening.fileno()), "--parent", str(theirs.fileno())),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(self._listening.fileno(), theirs.fileno()),
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._metrics},
            )
        self._running[process.pid] = process
        if self._ending.is_set():  # while it was being started
            self._tell_all(signal.SIGTERM)
        assert process.stdin is not None
        process.stdin.write(self._config.model_dump_json().encode())
        process.stdin.close()
        serving = asyncio.create_task(self._coordinator.serve(ours, f"worker-{next(self._names)}"))
        try:
            return await self._end_of(process)
        finally:
            del self._running[process.pid]
            _forget_gauges(Path(self._metrics), process.pid)
            serving.cancel()

    async def _end_of(self, process: asyncio.subprocess.Process) -> int:
        """Its exit code; killed where it does not end in time."""
        gone = asyncio.create_task(process.wait())
        ending = asyncio.create_task(self._ending.wait())
        await asyncio.wait({gone, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        serve = self._config.serve
        done, _ = await asyncio.wait({gone}, timeout=serve.body_timeout_s + serve.deadline_s + _AFTER_THE_DEADLINE_S)
        if not done:
            print(f"longreward: worker {process.pid} does not end; killed", file=sys.stderr, flush=True)
            process.kill()
        code = await gone
        # One that dies of SIGTERM was still starting and had accepted nothing.
        return 0 if code == -signal.SIGTERM else code


def _forget_gauges(metrics: Path, pid: int) -> None:
    """What a dead process had under way is not under way any more; its counts stay."""
    for path in metrics.glob(f"gauge_live*_{pid}.db"):
        path.unlink()
