"""The command `longreward`. Nothing heavy is imported before the arguments are understood."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from longreward.errors import ConfigError, LongRewardError

if TYPE_CHECKING:
    from longreward.config import RewardConfig
    from longreward.server.config import ServerConfig


def main(argv: list[str] | None = None) -> int:
    """Run a command. Returns 0 for success, 1 where some rows could not be scored, 2 for a user's error."""
    parser = _parser()
    # Overrides may stand between the options, where argparse would not look for a list of positionals.
    options, rest = parser.parse_known_args(argv)
    wrong = [word for word in rest if word.startswith("-") or "=" not in word]
    if wrong:
        parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    try:
        return _COMMANDS[options.command](options, rest)
    except LongRewardError as error:
        print(f"longreward: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = options.command != "report" and getattr(options, "out", None) is not None
        print(f"longreward: stopped{'; run the same command again to continue' * kept}", file=sys.stderr)
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
    _add_judge(score)
    _add_concurrency(score)

    agree = commands.add_parser(
        "agree",
        allow_abbrev=False,
        help="tell how well a judge agrees with humans, on pairs that they labelled",
        description="Score both answers of each pair and tell how often the judge gives more to the answer that the "
        "human prefers, per dimension and in total, with 95% intervals. Equal scores count half. A pair counts only "
        "where both answers have a score; pairs that the human calls a tie are left out.",
        epilog="With --out a run that is started again continues where it stopped. Any setting can be given as "
        "section.key=value, for example judge.max_in_flight=64.",
    )
    pairs = "rows with idx (or id), context, query, and win_response, lose_response (the human prefers the first), or "
    pairs += 'answer_a, answer_b, preference ("a", "b" or "tie")'
    agree.add_argument("input", type=Path, metavar="PAIRS.jsonl", help=pairs)
    agree.add_argument("--out", type=Path, metavar="SCORED.jsonl", help="where the scores go; kept nowhere without it")
    agree.add_argument("--json", type=Path, metavar="FILE", help="the agreement, and each pair's scores, as JSON")
    _add_judge(agree)
    _add_concurrency(agree)

    estimate = commands.add_parser(
        "estimate",
        allow_abbrev=False,
        help="tell what scoring will cost, before anything is spent",
        description="Tell the judge calls, tokens, cost and time that scoring a file will take. Nothing is asked. Rows "
        "without an answer are prompts whose answers are yet to be written, as in training.",
        epilog="Prices are judge.price.prompt_per_million=... and judge.price.completion_per_million=...; any other "
        "setting can be given as section.key=value too.",
    )
    estimate.add_argument("input", type=Path, metavar="IN.jsonl", help="rows with idx (or id), context, query, answer")
    _add_judge(estimate)
    answers = "answers to each prompt (default 1); answers in the file are then left out"
    estimate.add_argument("--answers", type=_positive, metavar="N", help=answers)
    tokens = "length of an answer that is not written yet (default 300)"
    estimate.add_argument("--answer-tokens", type=_positive, default=300, metavar="T", help=tokens)
    estimate.add_argument("--latency", type=_seconds, default=2.0, metavar="S", help="seconds per call (default 2)")
    against = "scores of these answers: tell what they really took"
    estimate.add_argument("--against", type=Path, metavar="OUT.jsonl", help=against)

    doctor = commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="find out what will not work, before it is used",
        description="Ask every endpoint of the judge each kind of question, about right and wrong answers, and look at "
        "keys and limits: some 16 short calls per endpoint. Exit code 1 where there is a problem. A training "
        "configuration has a doctor of its own: python rl/doctor.py.",
        epilog="Any setting can be given as section.key=value, for example judge.max_in_flight=64.",
    )
    _add_judge(doctor)
    about = "rows to be scored: are they readable, what will they take, and how long at the judge's measured pace"
    doctor.add_argument("--input", type=Path, metavar="IN.jsonl", help=about)

    report = commands.add_parser(
        "report",
        allow_abbrev=False,
        help="turn runs or scored files into one page to look into",
        description="Write one self-contained page, which opens from disk: curves, every answer with the verdicts and "
        "evidence behind its reward, alarms; of several runs side by side. Also while a run goes on.",
    )
    report.add_argument("paths", type=Path, nargs="+", metavar="RUN", help="run directories, or files of scores")
    where = "the page (default report.html in the first RUN, or beside it)"
    report.add_argument("--out", type=Path, metavar="FILE", help=where)
    rows = "the rows that a file of scores is about: it has no documents, questions and answers itself"
    kept = "keep all that the judge said; else its replies are shortened where the page would pass 100 MB"
    report.add_argument("--whole", action="store_true", help=kept)
    report.add_argument("--input", type=Path, metavar="IN.jsonl", help=rows)

    serve = commands.add_parser(
        "serve",
        allow_abbrev=False,
        help="serve the reward over HTTP, by OpenRLHF's remote reward protocol",
        description="Serve the reward to OpenRLHF (--reward.remote_url http://HOST:PORT/get_reward) and others. Off "
        "loopback it asks for the token in the environment variable LONGREWARD_SERVER_TOKEN. See docs/serve.md.",
        epilog="Settings of the server stand under serve: in the YAML file. Any setting can be given as "
        "section.key=value, for example serve.group_size=8.",
    )
    _add_judge(serve)
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (default 127.0.0.1)")
    serve.add_argument("--port", type=_port, default=8400, metavar="N", help="default 8400; 0: any that is free")
    workers = "processes (default 1, which is enough for some 1000 judge calls a second)"
    serve.add_argument("--workers", type=_positive, default=1, metavar="N", help=workers)
    return parser


def _add_judge(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, metavar="YAML", help="the reward's configuration")
    command.add_argument("--judge", choices=["offline", "openai"], help="short for judge.kind=...")
    command.add_argument("--base-url", metavar="URL", help="short for judge.base_url=...")
    command.add_argument("--model", metavar="NAME", help="short for judge.model=...")


def _add_concurrency(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--concurrency", type=_positive, default=64, metavar="N", help="answers in flight (default 64)"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _score(options: argparse.Namespace, overrides: list[str]) -> int:
    from longreward.commands import score

    config = _config(options, overrides)
    return asyncio.run(score.score_file(options.input, options.out, config, options.concurrency))


def _agree(options: argparse.Namespace, overrides: list[str]) -> int:
    from longreward.commands import agree

    config = _config(options, overrides)
    return asyncio.run(agree.agree_file(options.input, options.out, options.json, config, options.concurrency))


def _estimate(options: argparse.Namespace, overrides: list[str]) -> int:
    from longreward.commands import estimate

    return estimate.estimate_file(
        options.input,
        _config(options, overrides),
        answers_per_prompt=options.answers,
        answer_tokens=options.answer_tokens,
        latency_s=options.latency,
        scored=options.against,
    )


def _doctor(options: argparse.Namespace, overrides: list[str]) -> int:
    from longreward.commands import doctor

    return doctor.check_reward(_config(options, overrides), options.input)


def _report(options: argparse.Namespace, overrides: list[str]) -> int:
    from longreward.commands import report

    if overrides:
        raise ConfigError(f"report takes no settings, found {' '.join(overrides)}; leave them out")
    return report.report(options.paths, options.out, options.input, whole=options.whole)


def _serve(options: argparse.Namespace, overrides: list[str]) -> int:
    from longreward.commands import serve

    return serve.serve(_server_config(options, overrides), options.host, options.port, options.workers)


def _config(options: argparse.Namespace, overrides: list[str]) -> RewardConfig:
    return _server_config(options, overrides).reward


def _server_config(options: argparse.Namespace, overrides: list[str]) -> ServerConfig:
    """One file for all commands: what it says about the server is checked, whoever reads it."""
    from longreward import config
    from longreward.server.config import ServerConfig

    data = config.load_yaml(options.config) if options.config else {}
    judge = data.setdefault("judge", {})
    if not isinstance(judge, dict):
        raise ConfigError(f"{options.config}: judge holds {judge!r}, not a section")
    for key, value in (("kind", options.judge), ("base_url", options.base_url), ("model", options.model)):
        if value is not None:
            judge[key] = value
    config.apply_overrides(data, overrides)
    return config.validate(ServerConfig, data, str(options.config or "arguments"))


_COMMANDS = {
    "score": _score,
    "agree": _agree,
    "estimate": _estimate,
    "doctor": _doctor,
    "report": _report,
    "serve": _serve,
}
