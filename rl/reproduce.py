"""Reproduce the paper's table: every row trained, evaluated alike, and put beside the paper's figures.

    python rl/reproduce.py --config configs/paper/llama31_8b.yaml [--only ROW ...] [--dry-run] [section.key=value ...]

It runs rl/sft.py, rl/dpo.py, rl/train.py and rl/evaluate.py for what is not there yet. Started again after a kill, it
continues. The table is in runs/<name>/reproduction.md, and on the first page of report.html.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from longreward.errors import LongRewardError


def main(argv: list[str] | None = None) -> int:
    """Returns 0; what a command ended with that failed: 1, 2 for a user's error, 130 if stopped."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, required=True, help="a YAML file of configs/paper/")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="this row and what it builds on")
    parser.add_argument("--dry-run", action="store_true", help="dry runs of what is not there yet; nothing is started")
    options, overrides = parser.parse_known_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, between two steps
    try:
        return reproduce(options.config, overrides, options.only, only_checks=options.dry_run)
    except LongRewardError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("reproduce: stopped; run the same command again to continue", file=sys.stderr)
        return 130


def reproduce(path: Path, overrides: list[str], only: list[str], *, only_checks: bool) -> int:
    """Carry out what is not there yet, and write the table after each row."""
    from longreward import cli
    from rl.paper import config as paper
    from rl.paper import steps, table
    from rl.paper.dry_run import dry_run

    config = paper.load(path, overrides)
    todo = steps.steps(config, only)
    steps.check(config.directory, todo)
    if only_checks:
        return dry_run(todo)
    with steps.alone(config.directory) as lock:
        for number, step in enumerate(todo, 1):
            if step.is_done:
                print(f"reproduce: {number} of {len(todo)}: {step.name} is there", flush=True)
                continue
            print(f"reproduce: {number} of {len(todo)}: {step.shown}", flush=True)
            if code := steps.run(config.directory, step, lock):
                print(
                    f"reproduce: {step.name} ended with exit code {code}, see above; mend that and run the same "
                    "command again",
                    file=sys.stderr,
                )
                return code if code > 0 else 1
            if step.program == "evaluate.py":
                table.write(config)
        print(table.write(config))
        return cli.main(["report", str(config.directory)])


if __name__ == "__main__":
    sys.exit(main())
