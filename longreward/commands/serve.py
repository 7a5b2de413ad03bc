"""`longreward serve`: the reward over HTTP, for OpenRLHF's remote reward and other clients of its protocol."""

from __future__ import annotations

import argparse
import importlib.util
import sys

from longreward.commands.options import add_judge, positive, server_config
from longreward.errors import ConfigError
from longreward.judge import offline
from longreward.judge.own_server.local import served

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Serve the reward to OpenRLHF (--reward.remote_url http://HOST:PORT/get_reward) and others. Off loopback it "
        "asks for the token in the environment variable LONGREWARD_SERVER_TOKEN. See docs/serve.md."
    )
    command.epilog = (
        "Settings of the server stand under serve: in the YAML file. Any setting can be given as section.key=value, "
        "for example serve.group_size=8."
    )
    add_judge(command)
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default 127.0.0.1)")
    command.add_argument("--port", type=_port, default=8400, metavar="N", help="default 8400; 0: any that is free")
    command.add_argument("--workers", type=positive, default=1, help=argparse.SUPPRESS)  # once the number of processes


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 to 65535")
    return int(text)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns 0.

    ConfigError where a package or the token is missing, the address cannot be used, or --workers is not 1.
    """
    config, workers = server_config(options, overrides), options.workers
    config.refuse_ranking("longreward serve")
    if workers != 1:
        raise ConfigError(
            f"--workers {workers}: the server is one process, which makes some 1000 judge calls a second; leave "
            "--workers out"
        )
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the server needs {', '.join(missing)}; pip install 'longreward[serve]'")
    from longreward.server import process
    from longreward.server.auth import token_for
    from longreward.server.protocols import chosen

    token = token_for(options.host, config.serve.token_env)
    # What is wrong is an error before anything starts.
    protocols = chosen(config)
    _ = config.token_spans
    listening = process.listen(options.host, options.port)
    if not config.judge.asks_endpoints:
        print(offline.NOTICE, file=sys.stderr)
    address, actual_port = listening.getsockname()[:2]
    url = f"http://[{address}]:{actual_port}" if ":" in address else f"http://{address}:{actual_port}"
    asks = "asks for the token" if token else "asks for no token"
    with served(config) as ready:
        served_at = ", ".join(protocol.paths[0] for protocol in protocols)
        return process.run(ready, protocols, listening, token, f"longreward: serving on {url} ({served_at}), {asks}")
