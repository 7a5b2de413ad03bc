"""The argument parsers of OpenRLHF's programs, built from their source, which is read and not imported."""

from __future__ import annotations

import argparse
import ast
import importlib.util
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from longreward.errors import ConfigError

MODULE = "openrlhf.cli.train_ppo_ray"
"""The program of the online loop."""


class _Parser(argparse.ArgumentParser):
    module = MODULE

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"openrlhf: {message}; see `python -m {self.module} --help`")


@cache
def parser(module: str = MODULE) -> argparse.ArgumentParser:
    """An OpenRLHF program's own argument parser, built from its own source without importing torch, ray or vllm.

    ConfigError when openrlhf is not installed or its source has another shape than the version this was written for.
    """
    spec = importlib.util.find_spec(module) if importlib.util.find_spec("openrlhf") else None
    if spec is None or spec.origin is None:
        raise ConfigError("openrlhf is not installed; run ./launch/install.sh (CPU), or see README.md for GPUs")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    main = next((n for n in tree.body if isinstance(n, ast.If) and "__main__" in ast.unparse(n.test)), None)
    body = main.body if main else []
    end = next((i for i, n in enumerate(body) if "parser.parse_args()" in ast.unparse(n)), None)
    if end is None:
        raise ConfigError(f"{module} has no argument parser where openrlhf 0.11.2 has it; install openrlhf==0.11.2")
    names: dict[str, Any] = {"argparse": _ArgparseWithOurErrors, "datetime": datetime}
    exec(compile(ast.Module(body=body[:end], type_ignores=[]), spec.origin, "exec"), names)  # noqa: S102 - the installed OpenRLHF
    names["parser"].module = module
    return names["parser"]


class _ArgparseWithOurErrors:
    ArgumentParser = _Parser
