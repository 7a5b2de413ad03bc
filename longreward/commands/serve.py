"""`longreward serve`: the reward over HTTP, for OpenRLHF's remote reward and whoever speaks its protocol."""

from __future__ import annotations

import asyncio
import importlib.util
import sys

from longreward.errors import ConfigError
from longreward.judge import offline
from longreward.server.config import ServerConfig

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def serve(config: ServerConfig, host: str, port: int, workers: int) -> int:
    """Serve until SIGTERM or Ctrl-C. Returns 0, or 1 where answers were lost.

    ConfigError where a package or the token is missing, or the address is not to be had.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the server needs {', '.join(missing)}; pip install 'longreward[serve]'")
    from longreward.server.auth import token_for
    from longreward.server.openrlhf_protocol import SpecialTokens
    from longreward.server.supervisor import Supervisor, listen
    from longreward.tokenizer import token_spans

    token = token_for(host, config.serve.token_env)
    # A wrong folder is told before anything starts.
    SpecialTokens(config.serve.tokenizer)
    token_spans(config.serve.tokenizer, "serve.tokenizer")
    listening = listen(host, port)
    if config.judge.kind == "offline":
        print(offline.NOTICE, file=sys.stderr)
    address, actual_port = listening.getsockname()[:2]
    url = f"http://[{address}]:{actual_port}" if ":" in address else f"http://{address}:{actual_port}"
    asks = "asks for the token" if token else "asks for no token"
    print(f"longreward: serving on {url}/get_reward, {workers} worker(s), {asks}", flush=True)

    async def run() -> int:
        return await Supervisor(config, listening, workers).run()

    return asyncio.run(run())
