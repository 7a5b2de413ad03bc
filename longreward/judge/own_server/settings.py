"""What a server of our own is started with, and how the judge engine then asks it."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from longreward.config import EndpointConfig, JudgeConfig
from longreward.errors import ConfigError

KEY = "LONGREWARD_JUDGE_KEY"
"""The variable that holds the key which only the run and its judge know."""
_PORTS = range(20000, 32000)  # neither those that Linux gives to clients nor those of Ray's workers
_OF_ENGINES = "LONGREWARD_DEVICE"  # in a run without a GPU it lets vLLM's engines take new weights, which costs time
_MIDDLEWARE = "longreward.judge.own_server.judge_key.KeyOnEveryPath"
# Otherwise a small model fills the space between two marks of JSON with white space until its reply is cut.
_COMPACT = {"backend": "xgrammar", "disable_any_whitespace": True}


def url(host: str, port: int) -> str:
    """The root of a server there."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_hex(32)


def free_port() -> int:
    """A port that nobody listens on, on this machine. ConfigError where there is none."""
    for _ in range(100):
        port = secrets.choice(_PORTS)
        with socket.socket() as one:
            try:
                one.bind(("", port))
            except OSError:
                continue
            return port
    raise ConfigError(f"no port from {_PORTS.start} to {_PORTS.stop} is free for the judge's server")


def command(judge: JudgeConfig, host: str, port: int) -> list[str]:
    """The command line of a server on this machine. ConfigError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "judge.kind is vllm and vLLM is not installed here; install it, or start launch/judge_server.sh elsewhere "
            "and set judge.kind=openai"
        )
    flags: dict[str, Any] = {
        "model": judge.model,
        "served-model-name": judge.model,
        "host": host,
        "port": port,
        "middleware": _MIDDLEWARE,
        "allowed-origins": [],
        "tensor-parallel-size": judge.gpus,
        "max-model-len": "auto",
        "enable-prefix-caching": True,
        "enable-prompt-tokens-details": True,
        "disable-uvicorn-access-log": True,
        "structured-outputs-config": _COMPACT,
    }
    if _without_gpu():
        flags |= {"tensor-parallel-size": 1, "enforce-eager": True}  # compiling takes minutes
    flags |= {name.lstrip("-").replace("_", "-"): value for name, value in judge.args.items()}
    # -P: nothing is imported from the folder where the run was started.
    words = [sys.executable, "-P", "-m", "longreward.judge.own_server.run_vllm"]
    return [*words, *(word for name, value in flags.items() for word in _words(name, value))]


def environment(key: str) -> dict[str, str]:
    """All variables of a server."""
    given = {name: value for name, value in os.environ.items() if name != _OF_ENGINES}
    if _without_gpu():
        # Without a limit the cache takes nearly all of the memory; the sampler would compile C++ at the first request;
        # and vLLM would be imported once more, by a process that it needs to bind threads to cores.
        ours = {"VLLM_CPU_KVCACHE_SPACE": "2", "TORCH_COMPILE_DISABLE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        given = ours | given
    return given | {"VLLM_API_KEY": key}


def asked_at(judge: JudgeConfig, hosts: Sequence[tuple[str, int]]) -> JudgeConfig:
    """The same judge as one behind endpoints: the servers at these hosts and ports, with the key in `KEY`."""
    endpoints = [EndpointConfig(base_url=f"{url(*each)}/v1", api_key_env=KEY) for each in hosts]
    plain = {"api_key_header": None}
    routes = {name: r if r.elsewhere else r.model_copy(update=plain) for name, r in judge.routes.items()}
    return judge.model_copy(update={"kind": "openai", "endpoints": endpoints, "routes": routes} | plain)


def without_proxy(hosts: Sequence[str]) -> dict[str, str]:
    """Variables with which these hosts are asked directly, whatever proxy the environment names."""
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    named = ",".join(dict.fromkeys([*(name for name in before.split(",") if name), *hosts]))
    return {"no_proxy": named, "NO_PROXY": named}


def _words(name: str, value: Any) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, bool):
        yield f"--{name}" if value else f"--no-{name}"
        return
    yield f"--{name}"
    yield json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _without_gpu() -> bool:
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        return False
    return True
