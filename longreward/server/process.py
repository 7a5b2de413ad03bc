"""The process of `longreward serve`: it listens, serves, and ends without losing anything that it has accepted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import uvicorn

from longreward.concurrency.pacing import rare_collections
from longreward.concurrency.tasks import task_group
from longreward.errors import ConfigError
from longreward.redaction import redacted
from longreward.reward import LongReward
from longreward.server import metrics
from longreward.server.app import make_app
from longreward.server.config import ServerConfig
from longreward.server.connections import Connections, descriptors_of_others
from longreward.server.http_connection import HttpConnection
from longreward.server.protocols import Protocol
from longreward.server.rollout_rewards import RolloutRewards
from longreward.server.service import Service
from longreward.voids import Siblings

_BACKLOG = 4096
_LAST_BYTES_S = 10
_LAST_CALL_S = 0.5
_KEEP_ALIVE_S = 30
_AFTER_THE_DEADLINE_S = 20.0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. ConfigError where the address cannot be used."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from None
    listening.listen(_BACKLOG)
    return listening


def run(
    config: ServerConfig, protocols: Sequence[Protocol], listening: socket.socket, token: str | None, hello: str
) -> int:
    """Serve until SIGTERM or SIGINT, then until everything accepted is answered; returns 0.

    `hello` is printed when requests can come. A second signal, or a drain that takes longer than the deadlines of all
    requests allow, ends the process at once with exit code 1.
    """
    told = logging.StreamHandler()
    told.setFormatter(_WithoutSecrets("longreward: %(message)s"))
    # Not of ours alone: asyncio's and other libraries' words are shown as well.
    logging.getLogger().addHandler(told)
    # Each request under way is a connection.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connections = Connections(descriptors_of_others(config), config.serve.queue)
    if connections.most_accepted < config.serve.queue:
        print(
            f"longreward: the limit of {most} open files allows {connections.most_accepted} requests at once, fewer "
            f"than serve.queue={config.serve.queue}; raise it for more (ulimit -n, LimitNOFILE=)",
            file=sys.stderr,
        )
    asyncio.run(_serve(config, protocols, listening, connections, token, hello))
    return 0


class _WithoutSecrets(logging.Formatter):
    """For tracebacks of other libraries: our own messages hold none."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would close the port at once, and late clients would see no reason."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    config: ServerConfig,
    protocols: Sequence[Protocol],
    listening: socket.socket,
    connections: Connections,
    token: str | None,
    hello: str,
) -> None:
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _signalled, end)
    settings = config.serve
    reward = LongReward.from_config(config.reward, config.token_spans)
    metrics.JudgeMetrics(reward.stats)
    settle = Siblings(settings.group_size).settle
    service = Service(RolloutRewards(reward, settle, metrics.count), settings, connections)
    server = _Server(
        uvicorn.Config(
            make_app(service, protocols, token),
            # h11 bounds a request's head; httptools takes one without end.
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            access_log=False,  # the token may stand in paths
            log_level="error",  # a warning for each request that is no HTTP would fill the disk
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_LAST_BYTES_S,
        )
    )
    connected = partial(HttpConnection, server, connections, timeout_s=settings.body_timeout_s)
    rare_collections()
    print(hello, flush=True)
    try:
        # Where one of them fails, the others end and the process says why.
        async with task_group() as group:
            letting_in = group.create_task(connections.let_in(listening, connected))
            tasks = [
                letting_in,
                group.create_task(_drain(end, service, server, listening, letting_in)),
                group.create_task(service.become_ready()),
            ]
            await server.serve(sockets=[])
            for task in tasks:
                task.cancel()
    finally:
        await reward.aclose()


def _signalled(end: asyncio.Event) -> None:
    if end.is_set():
        _end_now("a second signal")
    end.set()


def _end_now(why: str) -> None:
    print(f"longreward: ended at once by {why}; requests under way are lost", file=sys.stderr, flush=True)
    os._exit(1)


async def _drain(
    end: asyncio.Event,
    service: Service,
    server: uvicorn.Server,
    listening: socket.socket,
    letting_in: asyncio.Task[None],
) -> None:
    """Answer all that was accepted. The port stays open until then, so that late requests are refused with a reason."""
    await end.wait()
    settings = service.config
    limit_s = settings.body_timeout_s + settings.deadline_s + _AFTER_THE_DEADLINE_S
    asyncio.get_running_loop().call_later(limit_s, _end_now, f"its limit of {limit_s:g} s for the last answers")
    while not server.started:  # noqa: ASYNC110 - the signal may come while it starts
        await asyncio.sleep(_LAST_CALL_S)
    await service.drain()
    # Closing resets connections that are still in the backlog: let as few as possible in, and answer those.
    listening.listen(0)
    await asyncio.sleep(_LAST_CALL_S)
    letting_in.cancel()
    await asyncio.wait([letting_in])
    listening.close()
    await asyncio.sleep(_LAST_CALL_S)
    server.should_exit = True
