"""Answering a request that is not served, and reading one that may be too large or too slow."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse


class Refusal(BaseModel):
    """Why there is no reply."""

    detail: str


class RefusedError(Exception):
    """A request that is not served: the status, why, and seconds after which to try again."""

    def __init__(self, status: int, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after_s = status, detail, retry_after_s

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return JSONResponse(Refusal(detail=self.detail).model_dump(), self.status, headers)


class BodyReader:
    """Reads bodies of at most `max_bytes`, four times as much of all that are on their way at once."""

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max, self._timeout_s = max_bytes, timeout_s
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The whole body. RefusedError where it is not JSON, too large, too slow, or too many come at once."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RefusedError(415, "send JSON, with Content-Type: application/json")
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
                        raise RefusedError(429, "too many large requests at once", retry_after_s=1)
        except TimeoutError:
            raise RefusedError(408, f"the body did not come within {self._timeout_s:g} s") from None
        except ClientDisconnect:
            raise RefusedError(408, "the client is gone") from None
        finally:
            self._held -= len(body)
        return bytes(body)

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"the body is larger than serve.max_body_mb allows, {self._max} bytes")
