"""Who may use the server: everybody on this machine, or the clients that know the token."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from longreward.errors import ConfigError
from longreward.redaction import keep_secret
from longreward.server.refusals import RefusedError

OPEN = (b"/healthz", b"/readyz")
"""Paths that need no token."""
_SHOWN = "longreward.token"
"""What the scope of a request has that showed the token."""
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
        keep_secret(token)
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


def token_guard(app: ASGIApp, token: str) -> ASGIApp:
    """Lets a request through that has the token, as `Authorization: Bearer ...` or as the first part of its path.

    Only the path as it was sent counts, never a decoded or tidied one.
    """
    secret = token.encode()

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            first, slash, _ = scope["raw_path"].removeprefix(b"/").partition(b"/")
            if hmac.compare_digest(first, secret) and slash:
                # Documentation pages find their other parts by it.
                scope = {**scope, "root_path": f"/{token}", _SHOWN: True}
            elif _in_headers(secret, scope["headers"]):
                scope = {**scope, _SHOWN: True}
            elif scope["raw_path"] not in OPEN:
                refused = RefusedError(401, "unauthorized", unread=True).response()
                refused.headers["WWW-Authenticate"] = "Bearer"
                await refused(scope, receive, send)
                return
        await app(scope, receive, send)

    return guarded


def shows_token(scope: Scope) -> bool:
    """Whether a request that was let through knows the token; never where the server asks for none."""
    return scope.get(_SHOWN) is True


def _in_headers(secret: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1:
        return False
    scheme, _, token = given[0].partition(b" ")
    return hmac.compare_digest(token.strip(), secret) and scheme.lower() == b"bearer"
