"""Labelled pairs: how often the judge prefers the answer that a human prefers, per dimension and in total; and the
paper's baselines beside it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from rich.console import Console

from longreward.commands.accounts import table
from longreward.commands.agree import totals
from longreward.commands.agree.baselines import Baselines
from longreward.commands.agree.output import (
    LOST,
    about_judge,
    check_writable,
    percent,
    print_files,
    reasons,
    span,
)
from longreward.commands.rows import LabelledPair, Pairs
from longreward.commands.score import Run, Way, print_run, score_samples
from longreward.config import RewardConfig
from longreward.errors import InputError, Reason
from longreward.evaluation.intervals import Interval
from longreward.evaluation.people.agreement import CONFIDENCE, Agreement, Judged, agreement, difference, preference
from longreward.files import jsonlines
from longreward.judge.own_server.local import served
from longreward.schema import Sample, ScoredAnswer
from longreward.text.amounts import duration, in_words

_SHOWN = 80  # characters of a question


def run(options: argparse.Namespace, config: RewardConfig) -> int:
    """Score both answers of each pair, kept in --out if given, and show how the judge agrees with humans; the same goes
    to --json. Returns 0, or 1 where rows were unreadable, the spend cap ended the run, or no pair has two totals.

    Raises as `score_samples` does, InputError where there is nothing to agree about or --json cannot be written, and
    JudgeError where a reward model does not answer.
    """
    config.refuse_ranking("longreward agree")
    screen = Console(stderr=True, soft_wrap=True)
    rows = Pairs(options.input, criteria=config.uses_criteria)
    pairs: list[LabelledPair] = []
    samples: dict[str, Sample] = {}
    for pair, a, b in rows.pairs():
        pairs.append(pair)
        samples.setdefault(pair.a, a)
        samples.setdefault(pair.b, b)
    _check(rows, pairs)
    baselines = Baselines(options, config)
    known = totals.of_file(samples, options.out, config)
    if options.json is not None:
        check_writable(options.json, [options.input, options.out])
    for line in _about_labels(rows, pairs, samples):
        screen.print(line, highlight=False)
    if known is not None:
        for line in totals.about(known):
            screen.print(line, highlight=False)
    if options.out is None and config.judge.asks_endpoints and config.cache.path is None:
        screen.print(LOST, style="yellow", highlight=False)

    with served(config) if known is None or "pairwise" in baselines.names else nullcontext(config) as asked:
        baselines.rate(samples, screen)
        way = Way(asked, used_beside=baselines.earlier)
        scoring = known or asyncio.run(score_samples(samples, options.out, asked, options.concurrency, screen, way))
        used = scoring.earlier + scoring.account.usage
        baselines.compare(pairs, samples, asked, used, screen)
    if known is None:
        scoring.keep()
    names = [*map(str, config.needed), "total"]
    judged: dict[str, list[Judged]] = {name: [_judged(pair, name, scoring.known) for pair in pairs] for name in names}
    ablations = totals.ablations(config)
    for name, other in ablations.items():
        rows_without = {key: totals.by(row, other, row.copied) for key, row in scoring.known.items() if key in samples}
        judged[name] = [_judged(pair, "total", rows_without) for pair in pairs]
    judged |= baselines.judged(pairs)
    found = {name: agreement(each) for name, each in judged.items()}
    console = Console()
    _print(console, found, scoring, baselines, len(pairs))
    differences = {name: difference(judged["total"], judged[name]) for name in [*ablations, *baselines.names]}
    if ablations:
        console.print(_added(ablations, differences), highlight=False, soft_wrap=not console.is_terminal)
    for name in baselines.names:
        console.print(_compared(name, differences[name]), highlight=False, soft_wrap=True)
    if options.json is not None:
        about = {"pairs_file": str(options.input), "skipped_rows": len(rows.broken)}
        about |= {"passed_over": dict(rows.passed_over), "split_chats": rows.split}
        about |= about_judge(scoring, "agree_ties_half", baselines.used, complete=not baselines.stopped)
        about |= {"agreement": {name: one.summary() for name, one in found.items()}}
        about |= {"total_less": {name: _plain(one) for name, one in differences.items()}}
        each = [{name: of[i] for name, of in judged.items()} for i in range(len(pairs))]
        jsonlines.rewrite(options.json, [about | {"pairs": list(map(_pair_as_json, pairs, each))}])
    print_files(console, options)
    print_run(screen, scoring)
    if baselines.stopped and not scoring.stopped:
        action = "raise judge.spend and run the same command again"
        screen.print(f"the comparisons stopped at the spend cap; {action}", style="bold red")
    rows.report(screen)
    return 1 if rows.broken or scoring.stopped or baselines.stopped or not found["total"].share.n else 0


def _check(rows: Pairs, pairs: Sequence[LabelledPair]) -> None:
    if not pairs:
        formats = "context, query, and win_response and lose_response, or answer_a, answer_b and preference, or chosen "
        formats += "and rejected"
        other = "a claim has context, claim and supported"
        raise InputError(f"{rows.source} holds no readable pair, which has {formats}; {other}{rows.first_problem}")
    if all(pair.human == "tie" for pair in pairs):
        what = (
            f"{rows.source}: in all {len(pairs):,} pairs preference is 'tie', with which no judge can agree or disagree"
        )
        raise InputError(f'{what}; add pairs in which a human prefers an answer: "a" or "b"')


def _about_labels(rows: Pairs, pairs: Sequence[LabelledPair], samples: dict[str, Sample]) -> Iterator[str]:
    human_ties = sum(pair.human == "tie" for pair in pairs)
    ties = f", {human_ties:,} of them ties" if human_ties else ""
    yield f"{len(pairs):,} human labels{ties}, {len(samples):,} answers"
    if rows.split:
        yield (
            f"pairs of chats: {rows.split:,}; the last paragraph is taken for the question, all before it for the "
            f"document; the first question: {rows.first_split[:_SHOWN]!r}"
        )
    for reason, count in rows.passed_over.items():
        yield f"rows passed over: {count:,} ({reason})"
    repeated = len(pairs) - len({frozenset((pair.a, pair.b)) for pair in pairs})
    if repeated:
        yield (
            f"labels about two answers that were labelled before: {repeated:,}; each counts, and the intervals are "
            "narrower than they should be"
        )


def _judged(pair: LabelledPair, name: str, known: Mapping[str, ScoredAnswer]) -> Judged:
    rows = [known.get(key) for key in (pair.a, pair.b)]
    a, b = (None if row is None else row.score_of(name) for row in rows)
    # An answer without a row was not reached: a spend cap ended the run.
    void = [{name: str(Reason.SPEND_CAP)} if row is None else row.void_reasons for row in rows]
    reasons = {reason for one in void for part, reason in one.items() if name in ("total", part)}
    return Judged(pair.human, a, b, " + ".join(sorted(reasons)))


def _print(console: Console, found: dict[str, Agreement], scoring: Run, baselines: Baselines, pairs: int) -> None:
    used = in_words(scoring.account.usage, scoring.config.judge)
    title = f"{pairs:,} pairs in {duration(scoring.seconds)}, {used}"
    result = table(title, "dimension", ["pairs", "agree", f"{CONFIDENCE:.0%} interval", "decided", "ties", "void"])
    result.add_column("why")
    for name, one in found.items():
        cells = [
            f"{one.share.n:,}",
            percent(one.share.value),
            span(one.share.interval),
            percent(one.decided.value),
            percent(one.ties.value),
            f"{one.void.total():,}",
            reasons(one.void),
        ]
        result.add_row(name, *cells, style="bold" if name == "total" else None)
    console.print(result)
    free = [scoring.account.free] if scoring.account.free else []
    for line in [*_notes(found["total"]), *free, *baselines.notes()]:
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)


def _compared(name: str, found: Interval | None) -> str:
    if found is None:
        return f"total less {name}: no pair is judged by both"
    return f"total less {name}: {_points(found, ' points')} on the {found[3]:,} pairs that both judge"


def _added(ablations: Mapping[str, object], differences: Mapping[str, Interval | None]) -> str:
    """What each dimension is worth, in a sentence."""
    each = [f"{name.removeprefix('without ')} {_points(one)}" for name in ablations if (one := differences[name])]
    return f"what a dimension adds to the total, in points: {', '.join(each) or 'no pair is judged by both'}"


def _points(found: Interval, unit: str = "") -> str:
    points, low, high, _ = found
    interval = "" if low is None or high is None else f" ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{100 * points:+.1f}{unit}{interval}"


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


def _plain(found: Interval | None) -> dict[str, Any] | None:
    if found is None:
        return None
    share, low, high, n = found
    interval = None if low is None or high is None else [round(low, 4), round(high, 4)]
    return {"share": round(share, 4), "interval": interval, "n": n}


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
