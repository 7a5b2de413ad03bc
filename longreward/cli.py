"""The command `longreward`: finds the module of the command and hands over. Each command is a module in commands/."""

from __future__ import annotations

import argparse
import importlib
import sys

from longreward.errors import LongRewardError

_COMMANDS = {
    "score": "score the answers of a JSON-lines file",
    "agree": "measure how well a judge agrees with humans, on pairs that they labelled",
    "audit": "plant flaws in answers and show which of them a judge sees",
    "rejudge": "score answers again with another judge, weights or rules, and ask only what changed",
    "blind": "have people compare two policies' answers without knowing whose is whose, and tally what they say",
    "instruct": "make supervised data from documents: questions, answers, and the judge's score of each",
    "estimate": "estimate what scoring will cost, before anything is spent",
    "doctor": "check the judge, its keys and limits before they are used",
    "report": "make one page of runs or scored files: curves, answers, alarms",
    "serve": "serve the reward over HTTP, with OpenRLHF's remote reward protocol",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command. Returns 0 for success, 1 where some rows could not be scored, 2 for a user's error, 130 if
    stopped."""
    words = sys.argv[1:] if argv is None else argv
    commands = parser(next(iter(words), ""))
    # Overrides may stand between the options, where argparse would not look for a list of positionals.
    options, overrides = commands.parse_known_args(words)
    wrong = [word for word in overrides if word.startswith("-") or "=" not in word]
    if wrong:
        commands.error(f"unrecognized arguments: {' '.join(wrong)}")
    try:
        return options.run(options, overrides)
    except LongRewardError as error:
        print(f"longreward: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = options.command not in ("report", "blind") and getattr(options, "out", None) is not None
        print(f"longreward: stopped{'; run the same command again to continue' * kept}", file=sys.stderr)
        return 130


def parser(command: str) -> argparse.ArgumentParser:
    """The parser of all commands, which knows the options of `command` alone: only its module is imported, so that
    help comes at once."""
    whole = argparse.ArgumentParser(
        prog="longreward", description="Score answers about long documents with a judge.", allow_abbrev=False
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, sentence in _COMMANDS.items():
        made = commands.add_parser(name, help=sentence, allow_abbrev=False)
        if name == command:
            module = importlib.import_module(f"longreward.commands.{name}")
            module.add_arguments(made)
            made.set_defaults(run=module.run)
    return whole
