"""`longreward estimate`: what a file and a configuration will cost, printed; and how far that was off, afterwards."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console

from longreward import store
from longreward.commands.accounts import Account, table
from longreward.commands.options import add_contexts, add_judge, positive, reward_config
from longreward.commands.rows import Rows
from longreward.config import JudgeConfig, RewardConfig
from longreward.errors import InputError
from longreward.fingerprint import fingerprint
from longreward.preflight.estimate import Estimate, Throughput, estimate, throughput
from longreward.schema import ScoredAnswer
from longreward.text.amounts import caps, duration, money, rounded
from longreward.text.tokens import ASCII_BYTES_PER_TOKEN, OTHER_BYTES_PER_TOKEN


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Show the judge calls, tokens, cost and time that scoring a file will take. The judge is not asked. Rows "
        "without an answer are prompts whose answers are not written yet, as in training."
    )
    command.epilog = (
        "Prices are judge.price.prompt_per_million=... and judge.price.completion_per_million=...; any other "
        "setting can be given as section.key=value too."
    )
    command.add_argument("input", type=Path, metavar="IN.jsonl", help="rows with idx (or id), context, query, answer")
    add_contexts(command)
    add_judge(command)
    answers = "answers to each prompt (default 1); answers in the file then do not count"
    command.add_argument("--answers", type=positive, metavar="N", help=answers)
    tokens = "length of an answer that is not written yet (default 300)"
    command.add_argument("--answer-tokens", type=positive, default=300, metavar="T", help=tokens)
    command.add_argument("--latency", type=_seconds, default=2.0, metavar="S", help="seconds per call (default 2)")
    against = "scores of these answers: show what they really took"
    command.add_argument("--against", type=Path, metavar="OUT.jsonl", help=against)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Print what scoring the rows of a file will take and, with --against, what the file of scores says it took.

    Returns 0, or 1 where rows were unreadable. InputError where none is readable or --against holds no scores.
    """
    config = reward_config(options, overrides)
    out, err = Console(), Console(stderr=True, soft_wrap=True)
    found = _account(options.against, config) if options.against else None
    rows = Rows(options.input, criteria=config.uses_criteria, contexts=options.contexts)
    with err.status(f"reading {options.input}"):
        expected = estimate(
            rows.to_estimate(), config, answers_per_prompt=options.answers, answer_tokens=options.answer_tokens
        )

    _print_costs(out, expected, config.judge)
    _say(out, _pace(throughput(expected, config.judge, options.latency)))
    _say(out, _spend(expected, config.judge))
    if found is not None:
        account, same_configuration = found
        _print_comparison(out, expected, account, config.judge)
        if account.rows != rows.answers:
            _say(out, [f"compare with care: {account.rows:,} answers are scored, the input has {rows.answers:,}"])
        if not same_configuration:
            _say(out, ["compare with care: they were scored with another configuration, judge or prompt version"])
    out.print()
    if rows.prompts or options.answers:
        per_prompt = f"{options.answers or 1} per prompt, of {options.answer_tokens} tokens"
        _say(out, [f"Answers not written yet: {per_prompt}."])
    _say(out, _notes(expected, config))
    rows.report(err)
    return 1 if rows.broken else 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


class _KeyFields(store.Fields, kw_only=True):
    total: float | None
    key: str = ""


def _account(scored: Path, config: RewardConfig) -> tuple[Account, bool]:
    """What the answers of a file of scores have used, and whether all were scored with this configuration.

    InputError if the file holds no scores.
    """
    account, configurations = Account(config), set()
    broken: list[str] = []
    # If an answer was scored again, its last row counts: that row knows what the earlier ones have used.
    last = {row.key or number: number for number, _, row in store.read(scored, broken, _KeyFields)}
    if not last:
        problem = f"; first problem: {broken[0]}" if broken else ""
        raise InputError(f"{scored} holds no scores{problem}; give the --out of `longreward score`")
    for number, _, row in store.read(scored, [], ScoredAnswer):
        if last[row.key or number] == number:
            account.add(row)
            configurations.add(row.config)
    return account, configurations == {fingerprint(config)}


def _print_costs(console: Console, expected: Estimate, judge: JudgeConfig) -> None:
    title = f"{expected.answers:,} answers about {expected.documents:,} documents, judge {judge.model or judge.kind}"
    costs = table(title, "dimension", ["calls", "prompt tokens", "completion tokens", "cost"])
    for name, usage in (*expected.dimensions.items(), ("total", expected)):
        tokens = (rounded(usage.prompt_tokens), rounded(usage.completion_tokens))
        cost = money(usage.cost) if judge.knows_prices else "-"
        costs.add_row(name, f"{usage.calls:,}", *tokens, cost, style="bold" if name == "total" else None)
    console.print(costs)
    if not judge.knows_prices:
        _say(console, ["cost: unknown; give judge.price.prompt_per_million=... judge.price.completion_per_million=..."])


def _pace(pace: Throughput) -> Iterator[str]:
    for name, seconds in pace.seconds_by.items():
        line = f"time: {duration(seconds)} by {name}"
        if name == "judge.max_in_flight":
            line += (
                f" ({pace.in_flight:,} calls at once, {pace.latency_s:g} s each), for which the judge must serve "
                f"{rounded(pace.calls_per_second)} calls/s, {rounded(pace.tokens_per_minute)} tokens/min"
            )
        yield line + (" <- this decides" if name == pace.binding and len(pace.seconds_by) > 1 else "")


def _spend(expected: Estimate, judge: JudgeConfig) -> Iterator[str]:
    for name, cap, amount, words in caps(judge, expected):
        verdict = "fits" if amount <= cap else "DOES NOT FIT, the run would stop there"
        yield f"spend: {words(amount)} of judge.spend.{name}={cap:.12g}, {verdict}"


def _print_comparison(console: Console, expected: Estimate, account: Account, judge: JudgeConfig) -> None:
    console.print()
    title = f"{account.rows:,} answers scored: calls and tokens they took, ratio to the estimate"
    amounts = {"calls": "calls", "prompt": "prompt_tokens", "completion": "completion_tokens"}
    amounts |= {"cost": "cost"} if judge.knows_prices else {}
    costs = table(title, "dimension", [heading for name in amounts for heading in (name, "ratio")])
    for name, was, estimated in (
        *((name, account.dimensions[name], usage) for name, usage in expected.dimensions.items()),
        ("total", account.usage + account.earlier, expected),
    ):
        cells = []
        for field in amounts.values():
            actual, planned = getattr(was, field), getattr(estimated, field)
            cells += [money(actual) if field == "cost" else rounded(actual)]
            cells += [f"{actual / planned:.2f}" if planned else "-"]
        costs.add_row(name, *cells, style="bold" if name == "total" else None)
    console.print(costs)
    if account.free:
        _say(console, [account.free])
    if account.earlier.calls:
        _say(console, [f"The total includes {account.earlier.calls:,} calls of earlier attempts that ended void."])


def _notes(expected: Estimate, config: RewardConfig) -> Iterator[str]:
    """How the figures were worked out."""
    if expected.sampled < expected.documents:
        yield f"Counted on {expected.sampled:,} of the documents, evenly spread; the others by their size."
    yield (
        f"A token is {ASCII_BYTES_PER_TOKEN:g} bytes of English or {OTHER_BYTES_PER_TOKEN:g} of Chinese. A judge that "
        "reasons before it answers writes several times the completion tokens."
    )
    yield "Not counted: retries, discounts for cached prompts, and that verdicts in cache.path cost nothing."
    if config.chunking.tokenizer is None:
        yield (
            "Documents are cut by words here. In training, the policy's tokenizer makes slightly more or fewer chunks; "
            "chunking.tokenizer=FOLDER counts in its tokens."
        )


def _say(console: Console, lines: Iterable[str]) -> None:
    """Print lines: wrapped on a terminal, else not."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)
