"""Options that several commands share, and the configuration that they give."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

from longreward import config_file
from longreward.commands.rows import Rows
from longreward.config import PAPER_WEIGHTS, RewardConfig
from longreward.errors import ConfigError, InputError
from longreward.server.config import ServerConfig

SETTINGS = "Any setting can be given as section.key=value, for example judge.max_in_flight=64."


def add_judge(command: argparse.ArgumentParser) -> None:
    """The options that say which judge is asked, and how."""
    command.add_argument("--config", type=Path, metavar="YAML", help="the reward's configuration")
    command.add_argument("--judge", choices=["offline", "openai", "vllm"], help="short for judge.kind=...")
    command.add_argument("--base-url", metavar="URL", help="short for judge.base_url=...")
    command.add_argument("--model", metavar="NAME", help="short for judge.model=...")


def add_contexts(command: argparse.ArgumentParser) -> None:
    joined = (
        "rows with idx, context, query: the documents of responses without a context, whose idx is document-sample "
    )
    joined += "(11-7, llama-11-7)"
    command.add_argument("--contexts", type=Path, metavar="SFT.jsonl", help=joined)


def add_concurrency(command: argparse.ArgumentParser) -> None:
    how_many = "answers in flight (default 64)"
    command.add_argument("--concurrency", type=positive, default=64, metavar="N", help=how_many)


def reward_config(options: argparse.Namespace, overrides: list[str]) -> RewardConfig:
    """The reward's configuration from --config, the judge's options and `overrides`. ConfigError where it is wrong."""
    return server_config(options, overrides).reward


def server_config(
    options: argparse.Namespace, overrides: list[str], base: dict[str, Any] | None = None
) -> ServerConfig:
    """As `reward_config`, with the section `serve:`. All commands read the same file and check all of it. `base` are
    the sections that hold where there is no --config."""
    data = config_file.load_yaml(options.config) if options.config else copy.deepcopy(base or {})
    judge = data.setdefault("judge", {})
    if not isinstance(judge, dict):
        raise ConfigError(f"{options.config}: judge holds {judge!r}, not a section")
    for key, value in (("kind", options.judge), ("base_url", options.base_url), ("model", options.model)):
        if value is not None:
            judge[key] = value
    config_file.apply_overrides(data, overrides, {"weights": PAPER_WEIGHTS})
    return config_file.validate(ServerConfig, data, str(options.config or "arguments"))


def scored_rows(options: argparse.Namespace) -> Rows | None:
    """The rows of --input, joined with --contexts; None without --input. InputError for --contexts without it."""
    if options.input is None and options.contexts is not None:
        raise InputError(
            f"--contexts {options.contexts} has no rows to join; give the rows that were scored as --input"
        )
    return None if options.input is None else Rows(options.input, contexts=options.contexts)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
