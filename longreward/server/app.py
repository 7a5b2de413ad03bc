"""The paths of the server, as /openapi.json describes them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, TypeAdapter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import longreward
from longreward.server import metrics
from longreward.server.auth import loopback_guard, shows_token, token_guard
from longreward.server.protocols.protocol import Protocol
from longreward.server.refusals import Refusal, RefusedError
from longreward.server.service import Service
from longreward.server.streams import NDJSON
from longreward.server.unread_bodies import certain_lengths, closing_unread

_log = logging.getLogger("longreward")

_STREAM: dict[str, Any] = {"content": {NDJSON: {"schema": {"type": "string"}}}}
_UNCOUNTED = ("/healthz", "/readyz", "/metrics")


class State(BaseModel):
    """Whether the process is up, or ready."""

    status: str
    detail: str = ""
    """Why it is not ready: for a request that shows the token in full, for others in a word or two."""


def make_app(service: Service, protocols: Sequence[Protocol], token: str | None) -> ASGIApp:
    """The application of one process. With a `token` all paths but health and readiness ask for it."""
    everywhere = {400: "Two lengths of one body"} | ({421: "Host is not loopback"} if token is None else {})
    app = FastAPI(
        title="LongReward",
        version=longreward.__version__,
        description=longreward.__doc__ or "",
        redirect_slashes=False,
        root_path_in_servers=False,
        responses=_described(everywhere),
    )
    refusals = {408: "Too slow", 413: "Too large", 415: "No JSON", 422: "Malformed, or too much of it"}
    refusals |= {429: "Queue full, see Retry-After", 503: "Not ready, or shutting down"}
    unauthorized = {} if token is None else {401: "No token, or a wrong one"}
    guarded = [] if token is None else [Security(HTTPBearer(auto_error=False))]

    parts: dict[str, Any] = {}

    def described_body(kind: Any) -> dict[str, Any]:
        schema = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}")
        parts.update(schema.pop("$defs", {}))
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    for protocol in protocols:
        for number, path in enumerate(protocol.paths):
            app.post(
                path,
                operation_id=type(protocol).__name__ + "_" * number,
                summary=protocol.summary,
                response_model=protocol.reply_type,
                responses=_described(refusals | unauthorized) | ({200: _STREAM} if protocol.streams else {}),
                openapi_extra=described_body(protocol.request),
                dependencies=guarded,
                include_in_schema="{" not in path,
            )(_replying(partial(service.reply, protocol)))
        for path, route in protocol.beside.items():
            without_body = route.request is None
            app.api_route(
                path,
                methods=["GET" if without_body else "POST"],
                operation_id=path.strip("/"),
                summary=route.summary,
                response_model=route.reply_type,
                responses=_described(({503: refusals[503]} if without_body else refusals) | unauthorized),
                openapi_extra={} if without_body else described_body(route.request),
                dependencies=guarded,
                include_in_schema="{" not in path,
            )(_replying(partial(service.beside, route)))
    _add_health(app, service)

    @app.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=PlainTextResponse,
        responses=_described(unauthorized),
        dependencies=guarded,
    )
    async def metrics_page() -> Response:
        return PlainTextResponse(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.openapi()["components"]["schemas"].update(parts)
    guarded_app = loopback_guard(app) if token is None else token_guard(app, token)
    return _counted(closing_unread(certain_lengths(guarded_app)))


def _replying(reply_to: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def reply(request: Request) -> Response:
        try:
            return await reply_to(request)
        except RefusedError as refused:
            return refused.response()
        except Exception:
            _log.exception("a request failed")
            return RefusedError(503, "an internal error, see the server's log", retry_after_s=1).response()

    return reply


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process is up")
    async def healthz() -> State:
        return State(status="ok")

    @app.get("/readyz", summary="Whether requests should be sent here", responses={503: {"model": State}})
    async def readyz(request: Request) -> Response:
        why = service.not_ready
        if why is None:
            return JSONResponse(State(status="ok").model_dump())
        detail = why.detail if shows_token(request.scope) else why.code
        return JSONResponse(State(status="not ready", detail=detail).model_dump(), 503)


def _described(refusals: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refusal, "description": text} for status, text in refusals.items()}


def _counted(app: ASGIApp) -> ASGIApp:
    """Counts all replies by status, those of refused requests too."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start" and not scope["path"].endswith(_UNCOUNTED):
                metrics.REQUESTS.labels(str(message["status"])).inc()
            await send(message)

        await app(scope, receive, counting)

    return counted
