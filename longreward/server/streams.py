"""Replies that are sent in parts, and clients that are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

NDJSON = "application/x-ndjson"


async def until_gone(receive: Receive) -> None:
    """Returns when the client of a request whose body was read disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Stream(Response):
    """A reply of lines, each sent as it comes. The work that makes them is stopped where the client is gone.

    Where the work fails, the reply breaks off, so that no client takes it for whole.
    """

    media_type = NDJSON

    def __init__(self, work: Callable[[Callable[[bytes], None]], Coroutine[Any, Any, None]], held: ExitStack) -> None:
        """`work` is given what takes a line. `held` is closed at the end."""
        super().__init__()
        del self.headers["content-length"]
        self._work, self._held = work, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            lines: asyncio.Queue[bytes | None] = asyncio.Queue()
            working = asyncio.create_task(self._work(lines.put_nowait))
            gone = asyncio.create_task(until_gone(receive))
            for task in (working, gone):
                task.add_done_callback(lambda _: lines.put_nowait(None))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                while (line := await lines.get()) is not None:
                    await send({"type": "http.response.body", "body": line, "more_body": True})
                if not gone.done():
                    working.result()
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                gone.cancel()
                working.cancel()
