"""The key of a judge server in front of an application that answers everything."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import pytest

KEY = "sk-of-the-judge"
RIGHT = (b"authorization", f"Bearer {KEY}".encode())


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Any:
    path = Path(__file__).parents[2] / "longreward" / "judge" / "own_server" / "judge_key.py"
    spec = importlib.util.spec_from_file_location("judge_key", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    async def answers(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "reached"})

    monkeypatch.setenv("VLLM_API_KEY", KEY)
    return module.KeyOnEveryPath(answers)


def sent(guarded: Any, **scope: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    asyncio.run(guarded({"type": "http", "method": "POST", "path": "/v1/models", "headers": [], **scope}, None, send))
    return messages


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/invocations", "/tokenize", "/metrics", "//health", "/health/"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", KEY.encode())],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer \xff")],
        [(b"authorization", b"Bearer wrong"), RIGHT],
        [(b"x-authorization", RIGHT[1])],
    ],
)
def test_without_the_key_nothing_is_reached(guarded, path, method, headers):
    start, body = sent(guarded, path=path, method=method, headers=headers)
    assert start["status"] == 401 and KEY.encode() not in body["body"]


def test_with_the_key_all_is_reached(guarded):
    assert sent(guarded, headers=[(b"host", b"judge"), RIGHT]) == [{"type": "reached"}]


def test_health_and_the_servers_own_start_need_no_key(guarded):
    assert sent(guarded, path="/health") == sent(guarded, type="lifespan", path=None) == [{"type": "reached"}]


def test_a_web_socket_is_closed(guarded):
    assert sent(guarded, type="websocket", path="/v1/realtime") == [{"type": "websocket.close", "code": 1008}]
