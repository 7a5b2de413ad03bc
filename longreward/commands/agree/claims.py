"""Labelled claims: how well the judge's support tells those apart that the document supports, as people see it."""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from longreward.commands.accounts import table
from longreward.commands.agree.claim_rows import Claims, LabelledClaim
from longreward.commands.agree.output import LOST, about_judge, check_writable, print_files, reasons
from longreward.commands.score import Run, Way, print_run, score_samples
from longreward.config import CopyingConfig, RewardConfig
from longreward.errors import InputError, Reason
from longreward.evaluation.people.agreement import CONFIDENCE
from longreward.evaluation.people.claims import EVEN, Discrimination, Figure, JudgedClaim, discrimination
from longreward.files import jsonlines
from longreward.judge.own_server.local import served
from longreward.reward import LongReward
from longreward.schema import Usage
from longreward.text.amounts import duration, in_words

_FEW = 20
"""Documents; with fewer, resampled ones differ less than others would."""


def run(options: argparse.Namespace, config: RewardConfig) -> int:
    """Verify each claim, kept in --out if given, and show how the support agrees with the labels; the same goes to
    --json. Returns 0, or 1 where the spend cap ended the run, or there are not claims of both labels with a support.

    Raises as `score_samples` does, and InputError for a label that is not in order or for labels that are all alike.
    """
    for option, given in (("--baseline", options.baseline), ("--reward-model", options.reward_model)):
        if given:
            raise InputError(f"{option} compares answers in pairs and {options.input} holds claims; leave {option} out")
    screen = Console(stderr=True, soft_wrap=True)
    rows = Claims(options.input)
    claims = list(rows.read())
    _check(options, claims)
    for line in _about_labels(claims, rows.left_out):
        screen.print(line, highlight=False)
    if options.out is None and config.judge.kind != "offline" and config.cache.path is None:
        screen.print(LOST, style="yellow", highlight=False)

    samples = {claim.key: claim.sample for claim in claims}
    with served(_faithfulness_alone(config)) as asked:
        way = Way(asked, scoring=LongReward.verify, noun="claims")
        scoring = asyncio.run(score_samples(samples, options.out, asked, options.concurrency, screen, way))
    scoring.keep()
    judged = [_judged(claim, scoring) for claim in claims]
    found = discrimination(judged)
    console = Console()
    _print(console, found, scoring)
    if options.json is not None:
        about = {"claims_file": str(options.input), "left_out": dict(rows.left_out)}
        jsonlines.rewrite(options.json, [about | _as_json(found, claims, judged, scoring)])
    print_files(console, options)
    print_run(screen, scoring)
    return 1 if scoring.stopped or found.auc.value is None else 0


def _check(options: argparse.Namespace, claims: Sequence[LabelledClaim]) -> None:
    labels = {claim.supported for claim in claims}
    if len(labels) < 2:
        what = f"all {len(claims):,} claims are {'supported' if True in labels else 'not supported'}"
        what = what if claims else "there is no claim"
        raise InputError(f"{options.input}: {what}, so none can be told from others; give claims of both labels")
    if options.json is not None:
        check_writable(options.json, [options.input, options.out])


def _faithfulness_alone(config: RewardConfig) -> RewardConfig:
    """The settings that a support depends on: scores stay good where others change."""
    update: dict[str, Any] = {"weights": {"faithfulness": 1.0}, "gates": {}, "copying": CopyingConfig()}
    return config.model_copy(update=update | {"truncated_loss": 0.0})


def _about_labels(claims: Sequence[LabelledClaim], left_out: Counter[str]) -> Iterator[str]:
    supported = sum(claim.supported for claim in claims)
    contexts = len({claim.sample.context for claim in claims})
    yield f"{len(claims):,} labelled claims about {contexts:,} documents, {supported:,} of them supported"
    if left_out:
        yield f"left out: {reasons(left_out)}"
    if repeated := len(claims) - len({claim.key for claim in claims}):
        yield f"labels about claims that were labelled before: {repeated:,}; each counts"


def _judged(claim: LabelledClaim, scoring: Run) -> JudgedClaim:
    row = scoring.known.get(claim.key)
    context = claim.sample.context
    if row is None:  # not reached: a spend cap ended the run
        return JudgedClaim(context, claim.supported, None, str(Reason.SPEND_CAP))
    support = None if row.total is None else row.total / 10
    return JudgedClaim(context, claim.supported, support, "" if row.total is not None else row.status)


def _print(console: Console, found: Discrimination, scoring: Run) -> None:
    used = in_words(scoring.account.usage, scoring.config.judge)
    title = f"{found.claims:,} claims about {found.contexts:,} documents in {duration(scoring.seconds)}, {used}"
    console.print(title, style="bold", highlight=False, soft_wrap=True)  # wider than the table
    result = table("", "support against labels", ["claims", "value", f"{CONFIDENCE:.0%} interval"])
    result.add_row("AUC", f"{found.claims:,}", *_cells(found.auc), style="bold")
    result.add_row(f"balanced accuracy at {EVEN:g}", f"{found.claims:,}", *_cells(found.accuracy))
    if found.chosen is not None:
        chosen, count = found.chosen, f"{found.chosen.claims:,}"
        result.add_row(f"  on one half, at {EVEN:g}", count, *_cells(chosen.at_even))
        result.add_row(f"  on that half, at {chosen.threshold:.3g}", count, *_cells(chosen.accuracy))
    result.add_row("void", f"{found.void.total():,}", reasons(found.void), "")
    console.print(result)
    for line in [*_notes(found), *([scoring.account.free] if scoring.account.free else [])]:
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)


def _cells(figure: Figure) -> tuple[str, str]:
    if figure.value is None:
        return "-", "-"
    interval = "-" if figure.interval is None else "{:.3f}-{:.3f}".format(*figure.interval)
    return f"{figure.value:.3f}", interval


def _notes(found: Discrimination) -> Iterator[str]:
    yield "AUC: how often a supported claim has more support than another one; equal support (ties) counts half"
    if found.ties is not None:
        yield f"ties: {found.ties:.1%} of those comparisons; a judge with few different supports has many"
    yield "balanced accuracy: the mean of the shares told right of both labels; that support or more says supported"
    if found.chosen is not None:
        yield f"{found.chosen.threshold:.3g} is the best threshold on the other half of the documents"
    bands = [f"{share:.1%} from {low:g} to {high:g}" for (low, high), share in found.unsure.items()]
    if bands:
        yield f"unsure: the support of {' and of '.join(bands)}; so many a second judge would have to look at"
    few = f"; of {found.contexts} documents they are too narrow" if found.contexts < _FEW else ""
    yield f"intervals: by resampling the documents, each with all of its claims{few}"
    interval = found.auc.interval
    if interval is not None and interval[0] <= 0.5 <= interval[1]:
        yield "0.5 lies in the AUC's interval: on these claims the judge is not better than guessing"


def _as_json(
    found: Discrimination, claims: Sequence[LabelledClaim], judged: Sequence[JudgedClaim], scoring: Run
) -> dict[str, Any]:
    """With each claim's support, so that two judges can be compared on the same claims."""
    return about_judge(scoring, "auc", Usage(), complete=True) | {
        "agreement": found.summary(),
        "claims": [_claim_as_json(claim, one) for claim, one in zip(claims, judged, strict=True)],
    }


def _claim_as_json(claim: LabelledClaim, judged: JudgedClaim) -> dict[str, Any]:
    about = {"idx": claim.idx, "line": claim.line, "supported": claim.supported, "support": judged.support}
    return about | ({"void": judged.reason} if judged.reason else {}) | {"key": claim.key}
