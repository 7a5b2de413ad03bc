"""What the commands of rl/ have in common: options, overrides, and errors as sentences with an exit code."""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from longreward.errors import LongRewardError
from longreward.redaction import keep_environment, redacted
from rl.config import RunConfig
from rl.errors import RUN_FAILED, last_line
from rl.plan import RunPlan
from rl.run import cluster

C = TypeVar("C", bound=RunConfig)


def parser(description: str | None, *, dry_run: bool = False) -> argparse.ArgumentParser:
    """With --config and --verbose, and with --dry-run where `dry_run` is set. Overrides may stand between the options,
    where argparse would not look for a list of positionals: use `parse_known_args`."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    made.add_argument("--config", type=Path, required=True, help="a YAML file, see configs/")
    made.add_argument("--verbose", action="store_true", help="show the logs of engines and learners on the screen too")
    if dry_run:
        what = "check all that a run would refuse, write config.yaml and command.txt, and exit"
        made.add_argument("--dry-run", action="store_true", help=what)
    return made


@contextmanager
def waiting(text: str, *, verbose: bool) -> Iterator[None]:
    """Show `text` with a spinner on a terminal: there is no run directory yet, and so no log to look at."""
    console = Console()
    if verbose or not console.is_terminal:
        yield
        return
    with console.status(text):
        console.show_cursor(True)  # a run that is killed would leave the terminal without one
        yield


def plan_and_run(
    name: str,
    options: argparse.Namespace,
    config: C,
    plan: Callable[[], RunPlan[C]],
    run: Callable[[RunPlan[C], bool], int],
    *,
    whole: bool = True,
    always_planned: bool = False,
    expected: Callable[[RunPlan[C]], Iterable[str]] | None = None,
) -> int:
    """Plan a run and start it, with `options.verbose`, or tell what it would do where `options.dry_run` is set: in the
    sentences of `expected`, where the run is no training. Returns what `run` does; 0 where a `whole` run that is to be
    resumed has ended already: one that is `always_planned` only if the plan does not refuse it."""
    from rl.run import planning

    ended = config.resume and whole and not options.dry_run and (config.directory / "summary.json").is_file()
    if always_planned or not ended:
        with waiting("checking the configuration", verbose=options.verbose):
            made = plan()
    if ended:
        print(f"{name}: {config.directory} is finished, see its summary.json; begin another run with run.name")
        return 0
    if options.dry_run:
        planning.refuse(made.findings)
        return planning.dry_run(made, expected and expected(made))
    return run(made, options.verbose)


def carry_out(name: str, load: Callable[[], C], work: Callable[[C], int]) -> int:
    """Load a configuration and work on it. Returns what `work` does; 1 if the run failed; 2 for a user's error; 130 if
    it was stopped. Each with one sentence on the screen, which begins with `name`."""
    config = None
    keep_environment()
    try:
        config = load()
        if config.needs_own_cluster:
            cluster.require_token()
        return work(config)
    except KeyboardInterrupt:
        _tell(name, "stopped; everything it started is gone")
        return 130
    except Exception as error:
        # Ray's form of an error that was raised in a worker has a cause: the run failed, not the user.
        users = isinstance(error, LongRewardError) and not isinstance(error, RUN_FAILED)
        if users and not hasattr(error, "cause"):
            _tell(name, str(error))
            return 2
        if config is None:
            raise
        return _failed(name, error, config)


def _failed(name: str, error: Exception, config: RunConfig) -> int:
    """The run ended in an exception: its root in one line on the screen, all of it in the log."""
    log, told = config.log, redacted("".join(traceback.format_exception(error)))
    if not log.parent.is_dir():
        print(told, file=sys.__stderr__, flush=True)
        return 1
    with log.open("a", encoding="utf-8") as file:
        file.write(told)
    # Our own errors are sentences; others need their type.
    happened = redacted(re.sub(r"^rl\.[\w.]+: ", "", last_line(error)))
    _tell(name, f"failed: {happened}\n{name}: the whole log is in {log}")
    return 1


def _tell(name: str, sentence: str) -> None:
    print(f"{name}: {sentence}", file=sys.__stderr__, flush=True)
