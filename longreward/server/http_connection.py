"""A connection that does not wait for its client for ever: uvicorn limits neither the time of a head nor of a reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from longreward.server import metrics
from longreward.server.connections import Connections, Place

_PROGRESS = 16 * 1024  # bytes of a body that a slow client does not send


class HttpConnection(H11Protocol):
    """One client. The application finds its place among all connections in the request's state."""

    def __init__(self, server: uvicorn.Server, connections: Connections, place: Place, timeout_s: float) -> None:
        """`timeout_s`: within which a head must come, and a reply be taken."""
        super().__init__(server.config, server.server_state, {"place": place})
        self._connections, self._place, self._timeout_s = connections, place, timeout_s
        self._state: object = h11.IDLE
        self._received = 0
        self._head, self._reply = _Limit(timeout_s), _Limit(timeout_s)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._place.gone:
            transport.abort()
            return
        self._place.abort = transport.abort
        # So that `pause_writing` tells of every byte that the client does not take.
        transport.set_write_buffer_limits(high=0)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.off()
        self._reply.off()
        self._connections.closed(self._place)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._received += len(data)
        self._look()

    def on_response_complete(self) -> None:
        # Who sends the next request before this reply may read none of them: they cost the client nothing.
        if self.conn.trailing_data[0]:
            self.transport.close()
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reply.on(self._reply_not_taken)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reply.off()

    def _look(self) -> None:
        """See what we wait for."""
        state = self.conn.their_state
        if state is not self._state or self._received >= _PROGRESS:
            self._state, self._received = state, 0
            self._connections.progressed(self._place)
        # Between two requests uvicorn's own limit holds.
        if state is h11.IDLE and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self._head.on(self._head_not_sent)
        else:
            self._head.off()

    def _head_not_sent(self) -> None:
        metrics.DROPPED.labels("head_timeout").inc()
        said = json.dumps({"detail": f"the head of a request did not come within {self._timeout_s:g} s"}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(said))), ("Connection", "close")]
        response = h11.Response(status_code=408, reason=b"Request Timeout", headers=headers)
        for event in (response, h11.Data(data=said), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _reply_not_taken(self) -> None:
        metrics.DROPPED.labels("reply_timeout").inc()
        self.transport.abort()


class _Limit:
    """Calls `late` after it has been on for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def on(self, late: Callable[[], None]) -> None:
        # Not kept: it holds the connection, which would then be freed by the rare collections alone.
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, late)

    def off(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
