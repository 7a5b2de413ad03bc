"""The connections of clients: how many there may be, and which one is closed where another needs its descriptor."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from longreward.config import RewardConfig
from longreward.errors import ConfigError
from longreward.server import metrics

_log = logging.getLogger("longreward")

_FOR_HEALTH = 16  # connections that accepted requests leave to health, readiness and metrics
_IDLE = 1024  # connections beside those of a full queue
_DISK_AND_NAMES = 32  # descriptors for the verdict cache and look-ups of host names, and for what is just closing
_BESIDE_THE_JUDGE = 8  # an endpoint's connections beside max_in_flight
_TOLD_EVERY_S = 60.0
_BREATH_S = 0.1
_SEND_BUFFER = 32 * 1024  # bytes
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Place:
    """One connection, as `Connections` sees it."""

    def __init__(self) -> None:
        self.gone = False
        self.abort: Callable[[], None] | None = None
        """Ends the connection. None: it is not ready yet."""


def descriptors_of_others(config: RewardConfig) -> int:
    """How many clients never get: those open now, those of the judge, those of the disk."""
    asked = [model for model in (config.judge, *config.judge.routes.values()) if model.kind == "openai"]
    endpoints = [endpoint for model in asked for endpoint in model.resolved_endpoints]
    judge = sum((each.max_in_flight or 1) + _BESIDE_THE_JUDGE for each in endpoints)
    return sum(1 for _ in Path("/dev/fd").iterdir()) + judge * (2 if config.retrieval.embedder else 1) + _DISK_AND_NAMES


class Connections:
    """All connections. Where one is too many, that is closed whose client has kept us waiting the longest: for its
    request, for more of it, or to take a reply. One whose request is being scored is never closed."""

    def __init__(self, others: int, queue: int) -> None:
        """`others`: descriptors that clients never get. `queue`: the most requests that are accepted at once.

        ConfigError where the limit of open files leaves too few for clients.
        """
        self._others, self._queue = others, queue
        # In order, and the one that has kept us waiting the longest comes first: a dict, for a set has no order.
        self._waiting: dict[Place, None] = {}
        self._accepted: set[Place] = set()
        self._told_at = -_TOLD_EVERY_S
        metrics.CONNECTIONS.set_function(lambda: self.count)
        if self.most < 2 * _FOR_HEALTH:
            raise ConfigError(
                f"the limit of {_limit()} open files is too low: the judge and the server itself need {others}, their "
                f"clients at least {2 * _FOR_HEALTH}; raise it to {others + 2 * _FOR_HEALTH} or more (ulimit -n, "
                "LimitNOFILE=), or lower judge.max_in_flight"
            )

    @property
    def most(self) -> int:
        """How many there may be, by the limit of open files as it is now."""
        return min(_limit() - self._others, self._queue + _IDLE)

    @property
    def most_accepted(self) -> int:
        """How many of them may be those of accepted requests."""
        return self.most - _FOR_HEALTH

    @property
    def count(self) -> int:
        return len(self._waiting) + len(self._accepted)

    @property
    def full(self) -> str | None:
        """Why no further request can be accepted; None: it can."""
        if len(self._accepted) < self.most_accepted:
            return None
        return f"{self.most_accepted} requests are being scored, all that a limit of {_limit()} open files allows"

    @contextmanager
    def accepted(self, place: Place) -> Iterator[None]:
        """Keep this connection while its request is being scored."""
        if place.gone:
            yield
            return
        del self._waiting[place]
        self._accepted.add(place)
        try:
            yield
        finally:
            if not place.gone:
                self._accepted.remove(place)
                self._waiting[place] = None

    def progressed(self, place: Place) -> None:
        """Its client has sent what counts, or has its reply: others have kept us waiting for longer now."""
        if place in self._waiting:
            self._waiting[place] = self._waiting.pop(place)

    def closed(self, place: Place) -> None:
        """It is gone."""
        self._waiting.pop(place, None)
        self._accepted.discard(place)
        place.gone, place.abort = True, None

    async def let_in(self, listening: socket.socket, protocol: Callable[[Place], asyncio.Protocol]) -> None:
        """Accept connections until cancelled.

        Not with asyncio's own server: that accepts as many as wait in one go, and where descriptors run out it writes a
        traceback for each that waits and accepts none for a second.
        """
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        # Of each connection: what the kernel takes from us for a client that takes nothing, it has to compute first.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        async with asyncio.TaskGroup() as opening:
            while True:
                # Few at once, so that those that are closed for them are gone before more come.
                for _ in range(max(1, min(_DISK_AND_NAMES // 2, self.most // 8))):
                    try:
                        client, _ = await loop.sock_accept(listening)
                    except OSError as error:
                        if error.errno in _NO_DESCRIPTOR:
                            await asyncio.sleep(0 if self._make_room(1) else _BREATH_S)
                        continue  # any other: the client is gone
                    place = Place()
                    self._waiting[place] = None
                    self._make_room(0)
                    opening.create_task(self._open(client, place, protocol))
                await asyncio.sleep(0)

    async def _open(self, client: socket.socket, place: Place, protocol: Callable[[Place], asyncio.Protocol]) -> None:
        try:
            if not place.gone:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol(place), client)
                return
        except OSError:
            self.closed(place)  # the client is gone
        client.close()

    def _make_room(self, least: int) -> int:
        """Close as many as are too many, `least` or more. Returns how many are closed."""
        too_many = max(least, self.count - self.most)
        dropped = list(islice(self._waiting, too_many))
        for place in dropped:
            abort = place.abort
            self.closed(place)
            if abort is not None:
                abort()
        metrics.DROPPED.labels("no_room").inc(len(dropped))
        now = asyncio.get_running_loop().time()
        if (dropped or least) and now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            _log.warning(
                "%d clients are connected, all that the limit of %d open files and serve.queue allow; those that have "
                "not sent their request are closed for new ones (told once a minute)",
                self.count,
                _limit(),
            )
        return len(dropped)


def _limit() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
