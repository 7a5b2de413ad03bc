"""`longreward instruct`: documents in, supervised data out. A model writes questions and answers, the judge scores."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from rich.console import Console

from longreward.commands.instruct.making import Making, held
from longreward.commands.instruct.outcome import Outcome, print_outcome
from longreward.commands.instruct.writing import Document
from longreward.commands.options import SETTINGS, add_judge, positive, reward_config
from longreward.commands.rows import Documents
from longreward.commands.score import print_run
from longreward.errors import ConfigError
from longreward.files import jsonlines
from longreward.judge.own_server.local import as_served, served
from longreward.judge.requests.writing import WriteQuestions


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Make supervised data by self-instruct: a model reads each document, writes questions of several kinds about "
        "it and answers them; LongReward scores the answers, and those below --min-score are left out. "
        "judge.routes.write says who writes; without it the judge does. A run that is started again continues where it "
        "stopped, and asks again what failed."
    )
    command.epilog = SETTINGS
    command.add_argument("input", type=Path, metavar="DOCUMENTS.jsonl", help="rows with idx (or id) and context")
    out = "where the data goes; OUT.work.jsonl keeps all that was written, OUT.scores.jsonl all scores"
    command.add_argument("--out", type=Path, required=True, metavar="OUT.jsonl", help=out)
    questions = "questions about each document, of different kinds (default 1)"
    command.add_argument("--questions", type=positive, default=1, metavar="N", help=questions)
    score = "the lowest score, 0 to 10, of an answer that is kept (default 8; 0 keeps all that have a score)"
    command.add_argument("--min-score", type=_score, default=8.0, metavar="X", help=score)
    how_many = "documents in flight (default 64)"
    command.add_argument("--concurrency", type=positive, default=64, metavar="N", help=how_many)
    add_judge(command)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Make the data. Returns 0, or 1 where rows were unreadable, nothing was good enough, or the spend cap ended it.

    InputError where the file holds no document, files of an earlier run cannot be continued, or another run works on
    them; ConfigError where settings are wrong or nobody can write; JudgeError where the writer or the judge answers
    nothing at all.
    """
    config = reward_config(options, overrides)
    config.refuse_ranking("longreward instruct")
    config.refuse_criteria("longreward instruct")
    if config.model_for(WriteQuestions.kind).kind == "offline":
        raise ConfigError(
            "the offline judge cannot write; set judge.routes.write.base_url and judge.routes.write.model to the model "
            "that writes, or judge.kind=openai with judge.base_url and judge.model"
        )
    rows, console = Documents(options.input), Console(stderr=True, soft_wrap=True)
    documents = [Document(name, text) for name, text in rows.by_id().items()]
    with held(options.out) as files:
        making = Making(documents, as_served(config), files, options.questions)
        with served(config) as asked:
            asyncio.run(making.work(asked, options.concurrency, console))
        outcome = Outcome.of(making, options.min_score)
        jsonlines.rewrite(options.out, outcome.rows)
    print_outcome(outcome, making, options.out)
    print_run(console, making.run)
    if rows.repeated:
        console.print(f"{rows.repeated:,} rows hold a document that came before: they are left out")
    rows.report(console)
    return int(bool(rows.broken) or making.run.stopped or not outcome.rows)


def _score(text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a score from 0 to 10")
    return score
