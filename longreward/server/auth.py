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
_HOST = re.compile(r"(?:\[([0-9a-f:]+)\]|([^:\[\]]+))(?::[0-9]{1,5})?", re.IGNORECASE)  # the port is optional


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


def loopback_guard(app: ASGIApp) -> ASGIApp:
    """Lets requests through that are for this machine by name, for a server without a token.

    A page in a browser can give its own host name this machine's address (DNS rebinding) and then ask us as if we were
    its own server. What it cannot do is change the header Host, which has that name.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            parts = _HOST.fullmatch(given[0]) if len(given) == 1 else None
            if parts is None or not _is_loopback((parts[1] or parts[2]).lower()):
                why = f"the header Host is {given[0][:100]!r}" if given else "the header Host is missing"
                why += "; without a token only requests for localhost, 127.0.0.1 or [::1] are served: send them there, "
                await RefusedError(421, why + "or set a token (docs/serve.md)").response()(scope, receive, send)
                return
        await app(scope, receive, send)

    return guarded


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
                refused = RefusedError(401, "unauthorized").response()
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
