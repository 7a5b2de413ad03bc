"""Answering a request that is not served, and reading one that may be too large or too slow."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

_LINGER_S = 2.0


class RefusedError(Exception):
    """A request that is not served: the status, why, and seconds after which to try again."""

    def __init__(self, status: int, detail: str, *, retry_after_s: int | None = None, unread: bool = False) -> None:
        """`unread`: its body, or a part of it, has not been read."""
        super().__init__(detail)
        self.status, self.detail, self.retry_after_s, self.unread = status, detail, retry_after_s, unread

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        headers |= {"Connection": "close"} if self.unread else {}
        kind = EarlyRefusal if self.unread else JSONResponse
        return kind({"detail": self.detail}, self.status, headers)


class EarlyRefusal(JSONResponse):
    """A response to a request whose body is not read.

    The connection is closed after it, but not at once: a client that is still sending would see a reset connection
    instead of the reason. What comes meanwhile is thrown away.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class BodyReader:
    """Reads bodies of at most `max_bytes`, four times as much of all that are on their way at once."""

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max, self._timeout_s = max_bytes, timeout_s
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The whole body. RefusedError where it is not JSON, too large, too slow, or too many come at once."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusedError(415, "send JSON, with Content-Type: application/json", unread=True)
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self._timeout_s):
                async for part in request.stream():
                    body += part
                    self._held += len(part)
                    if len(body) > self._max:
                        raise self._too_large()
                    if self._held > 4 * self._max:
                        raise RefusedError(429, "too many large requests at once", retry_after_s=1, unread=True)
        except TimeoutError:
            raise RefusedError(408, f"the body did not come within {self._timeout_s:g} s", unread=True) from None
        except ClientDisconnect:
            raise RefusedError(408, "the client is gone") from None
        finally:
            self._held -= len(body)
        return bytes(body)

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the body is larger than serve.max_body_mb allows, {self._max} bytes", unread=True)
