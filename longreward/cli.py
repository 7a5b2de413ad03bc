"""The command `longreward`. Nothing heavy is imported before the arguments are understood."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from longreward.errors import ConfigError, LongRewardError


def main(argv: list[str] | None = None) -> int:
    """Run a command. Returns 0 for success, 1 where some rows could not be scored, 2 for a user's error."""
    parser = _parser()
    # Overrides may stand between the options, where argparse would not look for a list of positionals.
    options, rest = parser.parse_known_args(argv)
    wrong = [word for word in rest if word.startswith("-") or "=" not in word]
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    try:
        return _score(options, rest)
    except LongRewardError as error:
        print(f"longreward: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("longreward: stopped; run the same command again to continue", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="longreward", description="Score answers about long documents with a judge.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    score = commands.add_parser(
        "score",
        allow_abbrev=False,
        help="score the answers of a JSON-lines file",
        description="Score each answer on helpfulness, logicality, faithfulness and completeness (0-10). A run that is "
        "started again continues where it stopped and asks again for what was void.",
        epilog="Any setting can be given as section.key=value, for example judge.max_in_flight=64.",
    )
    score.add_argument("input", type=Path, metavar="IN.jsonl", help="rows with idx (or id), context, query, answer")
    score.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl", help="where the scores go")
    score.add_argument("--config", type=Path, metavar="YAML", help="the reward's configuration")
    score.add_argument("--judge", choices=["offline", "openai"], help="short for judge.kind=...")
    score.add_argument("--base-url", metavar="URL", help="short for judge.base_url=...")
    score.add_argument("--model", metavar="NAME", help="short for judge.model=...")
    score.add_argument("--concurrency", type=_positive, default=64, metavar="N", help="answers in flight (default 64)")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _score(options: argparse.Namespace, overrides: list[str]) -> int:
    from longreward import config, scoring

    data = config.load_yaml(options.config) if options.config else {}
    judge = data.setdefault("judge", {})
    if not isinstance(judge, dict):
        raise ConfigError(f"{options.config}: judge holds {judge!r}, not a section")
    for key, value in (("kind", options.judge), ("base_url", options.base_url), ("model", options.model)):
        if value is not None:
            judge[key] = value
    config.apply_overrides(data, overrides)
    reward_config = config.validate(config.RewardConfig, data, str(options.config or "arguments"))
    return asyncio.run(scoring.score_file(options.input, options.out, reward_config, options.concurrency))
