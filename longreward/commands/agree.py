"""`longreward agree`: how often the judge prefers the answer that a human prefers, per dimension and in total."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from longreward import store
from longreward.commands.accounts import table
from longreward.commands.options import SETTINGS, add_concurrency, add_judge, reward_config
from longreward.commands.rows import LabelledPair, Pairs
from longreward.commands.score import Run, print_run, score_samples
from longreward.errors import InputError, Reason
from longreward.evaluation.agreement import CONFIDENCE, Agreement, Judged, Proportion, agreement, preference
from longreward.files import jsonlines
from longreward.fingerprint import fingerprint
from longreward.judge.own_server.local import served
from longreward.schema import Sample
from longreward.text.amounts import duration, in_words

_LOST = (
    "without --out nothing is kept: a run that ends early is paid again from the start; give --out SCORED.jsonl, or "
    "cache.path=..., to continue where it stopped"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Score both answers of each pair and show how often the judge gives more to the answer that the human prefers, "
        "per dimension and in total, with 95% intervals. Equal scores count half. A pair counts only where both "
        "answers have a score; pairs that the human calls a tie do not count."
    )
    command.epilog = f"With --out a run that is started again continues where it stopped. {SETTINGS}"
    pairs = "rows with idx (or id), context, query, and win_response, lose_response (the human prefers the first), or "
    pairs += 'answer_a, answer_b, preference ("a", "b" or "tie")'
    command.add_argument("input", type=Path, metavar="PAIRS.jsonl", help=pairs)
    where = "where the scores go; without it they are not kept"
    command.add_argument("--out", type=Path, metavar="SCORED.jsonl", help=where)
    command.add_argument("--json", type=Path, metavar="FILE", help="the agreement, and each pair's scores, as JSON")
    add_judge(command)
    add_concurrency(command)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Score both answers of each pair, kept in --out if given, and show how the judge agrees with humans; the same goes
    to --json. Returns 0, or 1 where rows were unreadable, the spend cap ended the run, or no pair has two totals.

    Raises as `score_samples` does, and InputError where there is nothing to agree about or --json cannot be written.
    """
    config = reward_config(options, overrides)
    screen = Console(stderr=True, soft_wrap=True)
    rows = Pairs(options.input, criteria=config.uses_criteria)
    pairs: list[LabelledPair] = []
    samples: dict[str, Sample] = {}
    for pair, a, b in rows.pairs():
        pairs.append(pair)
        samples.setdefault(pair.a, a)
        samples.setdefault(pair.b, b)
    _check(rows, pairs)
    if options.json is not None:
        _check_writable(options.json, [options.input, *([options.out] if options.out else [])])
    for line in _about_labels(pairs, samples):
        screen.print(line, highlight=False)
    if options.out is None and config.judge.kind != "offline" and config.cache.path is None:
        screen.print(_LOST, style="yellow", highlight=False)

    with served(config) as asked:
        scoring = asyncio.run(score_samples(samples, options.out, asked, options.concurrency, screen))
    if options.out is not None:
        # Other pairs may have been scored into the same file: what they cost is not thrown away.
        others = [row for key, row in scoring.known.items() if key not in samples]
        store.rewrite(options.out, [*scoring.rows, *others])
    names = [*map(str, config.needed), "total"]
    judged = [{name: _judged(pair, name, scoring) for name in names} for pair in pairs]
    found = {name: agreement(one[name] for one in judged) for name in names}
    console = Console()
    _print(console, found, scoring, len(pairs))
    if options.json is not None:
        about = {"pairs_file": str(options.input), "skipped_rows": len(rows.broken)}
        jsonlines.rewrite(options.json, [about | _as_json(found, zip(pairs, judged, strict=True), scoring)])
    for file, what in ((options.out, "scores"), (options.json, "agreement as JSON")):
        if file is not None:
            console.print(f"{what}: {file}", highlight=False, markup=False, soft_wrap=True)
    print_run(screen, scoring)
    rows.report(screen)
    return 1 if rows.broken or scoring.stopped or not found["total"].share.n else 0


def _check(rows: Pairs, pairs: Sequence[LabelledPair]) -> None:
    if not pairs:
        formats = "context, query, and win_response and lose_response, or answer_a, answer_b and preference"
        raise InputError(f"{rows.source} holds no readable pair, which has {formats}{rows.first_problem}")
    if all(pair.human == "tie" for pair in pairs):
        what = (
            f"{rows.source}: in all {len(pairs):,} pairs preference is 'tie', with which no judge can agree or disagree"
        )
        raise InputError(f'{what}; add pairs in which a human prefers an answer: "a" or "b"')


def _check_writable(file: Path, others: Sequence[Path]) -> None:
    """Before anything is paid for."""
    if any(file.resolve() == other.resolve() for other in others):
        raise InputError(f"--json {file} would overwrite that file of pairs or scores; choose another --json")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new = not file.exists()
        file.open("ab").close()
        if new:
            file.unlink()
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}; choose another --json") from None


def _about_labels(pairs: Sequence[LabelledPair], samples: dict[str, Sample]) -> Iterator[str]:
    human_ties = sum(pair.human == "tie" for pair in pairs)
    ties = f", {human_ties:,} of them ties" if human_ties else ""
    yield f"{len(pairs):,} human labels{ties}, {len(samples):,} answers"
    repeated = len(pairs) - len({frozenset((pair.a, pair.b)) for pair in pairs})
    if repeated:
        yield (
            f"labels about two answers that were labelled before: {repeated:,}; each counts, and the intervals are "
            "narrower than they should be"
        )


def _judged(pair: LabelledPair, name: str, scoring: Run) -> Judged:
    rows = [scoring.known.get(key) for key in (pair.a, pair.b)]
    a, b = (None if row is None else row.score_of(name) for row in rows)
    # An answer without a row was not reached: a spend cap ended the run.
    void = [{name: str(Reason.SPEND_CAP)} if row is None else row.void_reasons for row in rows]
    reasons = {reason for one in void for part, reason in one.items() if name in ("total", part)}
    return Judged(pair.human, a, b, " + ".join(sorted(reasons)))


def _print(console: Console, found: dict[str, Agreement], scoring: Run, pairs: int) -> None:
    used = in_words(scoring.account.usage, scoring.config.judge.price)
    title = f"{pairs:,} pairs in {duration(scoring.seconds)}, {used}"
    result = table(title, "dimension", ["pairs", "agree", f"{CONFIDENCE:.0%} interval", "decided", "ties", "void"])
    result.add_column("why")
    for name, one in found.items():
        interval = one.share.interval
        cells = [
            f"{one.share.n:,}",
            _percent(one.share),
            "-" if interval is None else f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}%",
            _percent(one.decided),
            _percent(one.ties),
            f"{one.void.total():,}",
            ", ".join(f"{reason} {count:,}" for reason, count in one.void.most_common()),
        ]
        result.add_row(name, *cells, style="bold" if name == "total" else None)
    console.print(result)
    for line in [*_notes(found["total"]), *([scoring.account.free] if scoring.account.free else [])]:
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)


def _notes(total: Agreement) -> Iterator[str]:
    yield "agree: the judge gives more to the answer that the human prefers; equal scores (ties) count half"
    yield "decided: the same without ties; pairs with a void score, or that the human calls a tie, are in neither"
    if total.human_ties and total.gap is not None:
        yield (
            f"human ties: {total.human_ties:,}; the two totals are {total.gap_of_human_ties:.2f} apart there on "
            f"average, and {total.gap:.2f} where the human prefers one"
        )
    interval = total.share.interval
    if interval is not None and interval[0] <= 0.5 <= interval[1]:
        yield "50% lies in the total's interval: on these pairs the judge is not better than guessing"


def _percent(share: Proportion) -> str:
    return "-" if share.value is None else f"{share.value:.1%}"


def _as_json(
    found: dict[str, Agreement], pairs: Iterable[tuple[LabelledPair, dict[str, Judged]]], scoring: Run
) -> dict[str, Any]:
    """With each pair's scores, so that two judges can be compared on the pairs that both have scored."""
    judge = scoring.config.judge
    return {
        "judge": {"kind": judge.kind, "model": judge.model},
        "config": fingerprint(scoring.config),
        "confidence": CONFIDENCE,
        "headline": "agree_ties_half",
        "usage": (scoring.earlier + scoring.account.usage).model_dump(),
        "complete": not scoring.stopped,
        "agreement": {name: one.summary() for name, one in found.items()},
        "pairs": [_pair_as_json(pair, judged) for pair, judged in pairs],
    }


def _pair_as_json(pair: LabelledPair, judged: dict[str, Judged]) -> dict[str, Any]:
    return {
        "idx": pair.idx,
        "line": pair.line,
        "human": pair.human,
        "judge": {n: None if j.a is None or j.b is None else preference(j.a, j.b) for n, j in judged.items()},
        "scores": {"a": {n: j.a for n, j in judged.items()}, "b": {n: j.b for n, j in judged.items()}},
        "void": {n: j.reason for n, j in judged.items() if j.reason},
        "keys": {"a": pair.a, "b": pair.b},
    }
