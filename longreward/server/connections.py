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
from enum import IntEnum
from itertools import chain, islice
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
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Phase(IntEnum):
    """What a connection is at. Connections of a lower phase are closed first where there are too many."""

    HEAD = 0
    BODY = 1
    WHOLE = 2
    """The request is here, and not accepted; or its reply is on its way."""
    ACCEPTED = 3
    """It is being scored. Never closed to make room."""
    GONE = 4


class Place:
    """One connection, as `Connections` sees it."""

    def __init__(self) -> None:
        self.phase = Phase.HEAD
        self.abort: Callable[[], None] | None = None
        """Ends the connection. None: it is not ready yet."""

    @property
    def gone(self) -> bool:
        return self.phase is Phase.GONE


def descriptors_of_others(config: RewardConfig) -> int:
    """How many clients never get: those open now, those of the judge, those of the disk."""
    endpoints = config.judge.resolved_endpoints if config.judge.kind == "openai" else []
    judge = sum((each.max_in_flight or 1) + _BESIDE_THE_JUDGE for each in endpoints)
    return sum(1 for _ in Path("/dev/fd").iterdir()) + judge * (2 if config.retrieval.embedder else 1) + _DISK_AND_NAMES


class Connections:
    """All connections. Where one is too many, that is closed which has kept us waiting for its request the longest."""

    def __init__(self, others: int, queue: int) -> None:
        """`others`: descriptors that clients never get. `queue`: the most requests that are accepted at once.

        ConfigError where the limit of open files leaves too few for clients.
        """
        self._others, self._queue = others, queue
        # The oldest first: dicts keep their order.
        self._places: tuple[dict[Place, None], ...] = tuple({} for phase in Phase if phase is not Phase.GONE)
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
        return sum(map(len, self._places))

    @property
    def full(self) -> str | None:
        """Why no further request can be accepted; None: it can."""
        if len(self._places[Phase.ACCEPTED]) < self.most_accepted:
            return None
        return f"{self.most_accepted} requests are being scored, all that a limit of {_limit()} open files allows"

    @contextmanager
    def accepted(self, place: Place) -> Iterator[None]:
        """Keep this connection while its request is being scored."""
        self._put(place, Phase.ACCEPTED)
        try:
            yield
        finally:
            self._put(place, Phase.WHOLE)

    def moved(self, place: Place, phase: Phase) -> None:
        """The client has sent more, or taken its reply. Nothing changes for an accepted request."""
        if place.phase not in (phase, Phase.ACCEPTED):
            self._put(place, phase)

    def closed(self, place: Place) -> None:
        self._put(place, Phase.GONE)

    def _put(self, place: Place, phase: Phase) -> None:
        if place.gone:
            return
        self._places[place.phase].pop(place, None)
        place.phase = phase
        if place.gone:
            place.abort = None
        else:
            self._places[phase][place] = None

    async def let_in(self, listening: socket.socket, protocol: Callable[[Place], asyncio.Protocol]) -> None:
        """Accept connections until cancelled.

        Not with asyncio's own server: that accepts as many as wait in one go, and where descriptors run out it writes a
        traceback for each that waits and accepts none for a second.
        """
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        async with asyncio.TaskGroup() as opening:
            while True:
                # Few at once, so that those that are closed for them are gone before more come.
                for _ in range(max(1, self.most // 32)):
                    try:
                        client, _ = await loop.sock_accept(listening)
                    except OSError as error:
                        if error.errno in _NO_DESCRIPTOR:
                            await asyncio.sleep(0 if self._make_room(1) else _BREATH_S)
                        continue  # any other: the client is gone
                    place = Place()
                    self._places[Phase.HEAD][place] = None
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
        dropped = list(islice(chain(*self._places[: Phase.ACCEPTED]), too_many))
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
