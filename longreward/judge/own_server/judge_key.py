"""The judge's key on every path: vLLM's own `--api-key` leaves /invocations, /tokenize and others open to everyone.

launch/judge_server.sh and the judge of `judge.kind: vllm` give this to vLLM as `--middleware`. It imports nothing but
the standard library, because the script's server has an environment of its own.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable
from typing import Any

App = Callable[[dict[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Awaitable[None]]


class KeyOnEveryPath:
    """ASGI middleware: 401 without `Authorization: Bearer $VLLM_API_KEY`, for any method and path but /health."""

    def __init__(self, app: App) -> None:
        """KeyError where VLLM_API_KEY is not set."""
        self._app = app
        self._expected = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan" or scope.get("path") == "/health":
            return await self._app(scope, receive, send)
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) == 1 and hmac.compare_digest(given[0], self._expected):
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        body = b'{"error": {"message": "no key, or a wrong one", "type": "invalid_api_key", "code": 401}}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})
