"""A worker process of `longreward serve`: its parent starts it, hands it its sockets and tells it to end.

It reads its settings from standard input as JSON. SIGTERM, or the end of its parent, makes it drain and exit 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from longreward.errors import LongRewardError
from longreward.judge.engine import shares
from longreward.pacing import rare_collections
from longreward.reward import LongReward
from longreward.server import metrics
from longreward.server.app import make_app
from longreward.server.config import ServerConfig
from longreward.server.coordinator import Link
from longreward.server.rollout_rewards import RolloutRewards
from longreward.server.service import Service
from longreward.tokenizer import token_spans

_METERED_EVERY_S = 0.5
_LAST_BYTES_S = 10
_LAST_CALL_S = 0.5
_KEEP_ALIVE_S = 30


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would close the door before anybody is told to stay away."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(config: ServerConfig, listening: socket.socket, parent: socket.socket, token: str | None) -> None:
    """Serve until SIGTERM or the parent's end, then until all that was accepted is answered."""
    link = await Link.open(parent)
    spans = token_spans(config.serve.tokenizer, "serve.tokenizer")
    reward = LongReward.from_config(config.reward, spans)
    settings = config.serve
    service = Service(RolloutRewards(reward, link.settle, settings.deadline_s, settings.void, metrics.count), settings)
    server = _Server(
        uvicorn.Config(
            make_app(service, token),
            # h11 bounds a request's head; httptools takes one without end.
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            access_log=False,  # the token may stand in paths
            log_level="warning",
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_LAST_BYTES_S,
        )
    )
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    tasks = [
        asyncio.create_task(_until_parent_is_gone(link, end)),
        asyncio.create_task(_drain(end, service, link, server, listening)),
        asyncio.create_task(service.become_ready()),
        asyncio.create_task(_meter(reward)),
    ]
    endpoints = reward.endpoints
    if endpoints is not None:
        endpoints.share()
        tasks.append(asyncio.create_task(shares.follow(link.exchange, f"worker {os.getpid()}", endpoints)))
    rare_collections()
    try:
        await server.serve(sockets=[listening])
    finally:
        for task in tasks:
            task.cancel()
        await reward.aclose()


async def _until_parent_is_gone(link: Link, end: asyncio.Event) -> None:
    await link.listen()
    end.set()


async def _drain(
    end: asyncio.Event, service: Service, link: Link, server: uvicorn.Server, listening: socket.socket
) -> None:
    """The door stays open in the meantime, so that who comes is told to go elsewhere."""
    await end.wait()
    await service.drain()
    await link.leave()
    # Closing resets who is still in the backlog: let hardly anybody else in, and tell those who are.
    listening.listen(0)
    await asyncio.sleep(_LAST_CALL_S)
    for door in server.servers:
        door.close()
    await asyncio.sleep(_LAST_CALL_S)
    server.should_exit = True


async def _meter(reward: LongReward) -> None:
    meter = metrics.JudgeMeter()
    while True:
        meter.read(reward.stats())
        await asyncio.sleep(_METERED_EVERY_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", type=int, required=True, help="descriptor of the listening socket")
    parser.add_argument("--parent", type=int, required=True, help="descriptor of the socket to the parent")
    options = parser.parse_args()
    # Ctrl-C goes to the parent as well, which tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = logging.StreamHandler()
    told.setFormatter(logging.Formatter("longreward: %(message)s"))
    logging.getLogger("longreward").addHandler(told)
    # Each rollout in flight is a connection.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    config = ServerConfig.model_validate_json(sys.stdin.read())
    token = os.environ.get(config.serve.token_env) or None
    try:
        asyncio.run(serve(config, socket.socket(fileno=options.listen), socket.socket(fileno=options.parent), token))
    except LongRewardError as error:
        print(f"longreward: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
