"""Who may use the server: everybody on this machine, or the clients that know the token."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from longreward.errors import ConfigError
from longreward.server.refusals import RefusedError

OPEN = (b"/healthz", b"/readyz")
"""Paths that need no token."""
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,}")


def token_for(host: str, variable: str) -> str | None:
    """The token that clients must know, from the environment; None where none is set and none needed.

    ConfigError where `host` is not loopback and there is none, or where it is too short or unfit for a path.
    """
    token = os.environ.get(variable)
    if token:
        if not _TOKEN.fullmatch(token):
            raise ConfigError(
                f"the token in {variable} must have at least 16 characters of A-Z a-z 0-9 . _ ~ -, for it may stand in "
                "a path; make one with: openssl rand -hex 32"
            )
        return token
    if not _is_loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from other machines and {variable} is not set; export a token there, such "
            "as that of `openssl rand -hex 32`, or listen on 127.0.0.1"
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TokenGuard:
    """Lets a request through that has the token, as `Authorization: Bearer ...` or as the first part of its path.

    Only the path as it was sent counts, never a decoded or tidied one.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._token is not None and scope["type"] == "http" and scope["raw_path"] not in OPEN:
            if self._in_path(scope["raw_path"]):
                # Documentation pages find their other parts by it.
                scope = {**scope, "root_path": f"/{self._token.decode()}"}
            elif not self._in_headers(scope["headers"]):
                refused = RefusedError(401, "unauthorized", unread=True).response()
                refused.headers["WWW-Authenticate"] = "Bearer"
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _in_path(self, raw_path: bytes) -> bool:
        assert self._token is not None
        first, slash, _ = raw_path.removeprefix(b"/").partition(b"/")
        return hmac.compare_digest(first, self._token) and bool(slash)

    def _in_headers(self, headers: list[tuple[bytes, bytes]]) -> bool:
        assert self._token is not None
        given = [value for name, value in headers if name == b"authorization"]
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        return hmac.compare_digest(token.strip(), self._token) and scheme.lower() == b"bearer"
