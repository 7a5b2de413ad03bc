"""A policy behind an endpoint: where its prompts and its key go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("ray")

from rl.offline.config import ServedPolicySection
from rl.offline.served_policy import ServedPolicy
from rl.rollout.reward_client import Settings


@contextmanager
def server(location: str = "") -> Iterator[tuple[str, list[str]]]:
    """URL and the requests seen of a server that sends all of them on to `location`, method and all."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.path)
            self.send_response(307 if location else 500)
            self.send_header("Location", location)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", seen
    finally:
        http.shutdown()
        http.server_close()


def test_a_redirect_carries_no_prompt_elsewhere(monkeypatch):
    nothing_scored = Settings(
        [],
        [],
        1.0,
        1.0,
        1,
        0.0,
        shuffle=False,
        ranks=False,
        compares=False,
        compared=[],
        filtering=False,
        synchronous=True,
        late={},
    )
    for name, value in nothing_scored.environment().items():
        monkeypatch.setenv(name, value)

    async def ready(url: str) -> str:
        return await ServedPolicy(ServedPolicySection(base_url=url, model="m"), "sk-abc").ready()

    with server() as (other, reached), server(f"{other}/chat/completions") as (url, seen):
        assert "307" in asyncio.run(ready(url))
    assert seen and not reached
