"""Requests whose body is not read to its end: where it ends must be certain, and nobody waits for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longreward.server.refusals import RefusedError

_LINGER_S = 2.0


def certain_lengths(app: ASGIApp) -> ASGIApp:
    """Refuses what two servers could read as requests of different length, so that none is smuggled past a proxy."""

    async def certain(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers:
            why = None
            if "content-length" in headers:
                why = "Content-Length and Transfer-Encoding in one request; send one of them"
            elif scope["http_version"] == "1.0":
                why = "Transfer-Encoding in an HTTP/1.0 request; send Content-Length, or HTTP/1.1"
            if why:
                await RefusedError(400, why).response()(scope, receive, send)
                return
        await app(scope, receive, send)

    return certain


def closing_unread(app: ASGIApp) -> ASGIApp:
    """Closes a connection after the reply to a request whose body was not read.

    Not at once: a client that is still sending would see a reset connection instead of the reply. What comes meanwhile
    is thrown away.
    """

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        read = "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"
        close = False

        async def receiving() -> Message:
            nonlocal read
            message = await receive()
            read = not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal close
            if message["type"] == "http.response.start" and not read:
                close = True
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            if message["type"] != "http.response.body" or not close or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    while not read:
                        await receiving()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await app(scope, receiving, sending)

    return closing
