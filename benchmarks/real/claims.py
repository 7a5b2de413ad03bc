"""What do forms of a verdict and ways of checking make of labelled claims? The rules, SmolLM2-135M-Instruct behind
vLLM, and both together.

    PYTHONPATH=.:benchmarks python benchmarks/real/claims.py --claims ../shared/data/claims_qags_cnndm.jsonl

Without a GPU some five minutes for each form of SmolLM2. Each claim goes the way of a statement: evidence is retrieved,
and a model is asked. The claims are split by article into two halves; curve and band are chosen on the first. Printed
are the AUC of each form on both halves, and the share of pairs of a supported and another claim that it cannot tell
apart; then what a probability is worth against the word alone; then how much of a strong judge is needed. That judge is
scripted: it says what the label says, but for a share of the claims.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np

from longreward import LongReward, Sample
from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.evaluation.people.claims import auc
from longreward.judge import Verdict
from longreward.judge.base import Judge
from longreward.judge.own_server.local import served
from longreward.judge.requests import CheckStatement, JudgeRequest, VerifyStatement
from longreward.schema import JudgeCall
from real.models import smollm2

T = TypeVar("T")

RESAMPLES = 1000
CHAT: dict[str, dict[str, Any]] = {
    "written": {"verdict": "written"},
    "constrained": {"verdict": "constrained"},
    "constrained, no analysis": {"verdict": "constrained", "analysis": False},
    "distribution": {"verdict": "distribution"},
    "distribution, no analysis": {"verdict": "distribution", "analysis": False},
}
WAYS = ("yes_no", "likelihood")
EDGES = (*(place / 20 for place in range(21)), 0.96, 0.97, 0.98, 0.99)
LEAST_ASKED, MOST_ASKED = 0.3, 0.38
"""Of the first half, so that it is 40% of all at most. To ask less would be no better but by chance."""
ACCURACIES = (0.8, 0.85, 0.9, 0.95)
SEEDS = 20


class Labels(Judge):
    """Says what the label says, but for some claims. To a first question it says what another model said."""

    def __init__(self, rows: Sequence[dict], accuracy: float, seed: int) -> None:
        rng = random.Random(seed)
        self._says = {row["claim"]: bool(row["supported"]) == (rng.random() < accuracy) for row in rows}
        self.first: dict[str, float] = {}
        self.asked = 0

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        assert isinstance(request, VerifyStatement)
        first = isinstance(request, CheckStatement)
        self.asked += not first
        value: Any = self.first[request.statement] if first else float(self._says[request.statement])
        return Verdict(value, JudgeCall(kind=request.kind))


async def supports(config: RewardConfig, rows: Sequence[dict], judge: Judge | None = None) -> list[tuple[float, str]]:
    """Of each claim, and what the judge said. A claim without a verdict is in the middle of the scale: it cannot be
    told from any other."""
    reward = LongReward(config, judge)
    try:
        samples = [Sample(context=row["context"], query="", answer=row["claim"]) for row in rows]
        found = await asyncio.gather(*map(reward.verify, samples))
    finally:
        await reward.aclose()
    return [
        (0.5 if one.total is None else one.total / 10, next((call.text for call in reversed(one.calls)), ""))
        for one in found
    ]


def ties(scores: Sequence[float], labels: Sequence[bool]) -> float:
    pairs = [(a, b) for a, one in zip(scores, labels, strict=True) if one
             for b, other in zip(scores, labels, strict=True) if not other]  # fmt: skip
    return sum(a == b for a, b in pairs) / len(pairs)


def half(row: dict) -> int:
    return int(row["id"].split("-")[1]) % 2


def area(scores: Sequence[float], rows: Sequence[dict], which: int | None = None) -> float:
    """The AUC on a half of the claims, or on all."""
    chosen = [
        (score, bool(row["supported"])) for score, row in zip(scores, rows, strict=True) if which in (None, half(row))
    ]
    return auc([score for score, _ in chosen], [label for _, label in chosen])


def difference(one: Sequence[float], other: Sequence[float], rows: Sequence[dict]) -> str:
    """What the first's AUC has more, and its 95% interval by resampling the articles."""
    rng, articles = random.Random(0), defaultdict[str, list[int]](list)
    for place, row in enumerate(rows):
        articles[row["context"]].append(place)
    found = []
    for _ in range(RESAMPLES):
        places = [p for article in rng.choices(list(articles), k=len(articles)) for p in articles[article]]
        labels = [bool(rows[p]["supported"]) for p in places]
        found.append(auc([one[p] for p in places], labels) - auc([other[p] for p in places], labels))
    found.sort()
    more = area(one, rows) - area(other, rows)
    return f"{more:+.3f} ({found[RESAMPLES // 40]:+.3f} to {found[-RESAMPLES // 40]:+.3f})"


def show(name: str, scores: Sequence[float], rows: Sequence[dict], more: str = "") -> None:
    areas = " | ".join(f"{area(scores, rows, which):.3f}" for which in (0, 1, None))
    print(f"| {name} | {areas} | {ties(scores, [bool(row['supported']) for row in rows]):.1%} | {more} |", flush=True)


def curve(means: Sequence[float], rows: Sequence[dict]) -> dict[str, float]:
    """Middle and width of the logistic curve that fits the first half best."""
    chosen = [(mean, float(row["supported"])) for mean, row in zip(means, rows, strict=True) if half(row) == 0]
    x, y = np.array([mean for mean, _ in chosen]), np.array([label for _, label in chosen])
    features, weights = np.stack([np.ones_like(x), x]), np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-weights @ features))
        hessian = (features * p * (1 - p)) @ features.T + 1e-9 * np.eye(2)
        weights += np.linalg.solve(hessian, features @ (y - p))
    return {"middle": float(-weights[0] / weights[1]), "width": float(1 / weights[1])}


def band(first: Sequence[float], then: Sequence[Sequence[float]], rows: Sequence[dict]) -> tuple[float, float]:
    """Where the first is unsure: of the bands that hold about so much of the first half as may be asked the best there,
    as the mean of several seconds."""
    mine = [i for i, row in enumerate(rows) if half(row) == 0]

    def worth(low: float, high: float) -> float:
        if low > high or not LEAST_ASKED <= fmean(low <= first[i] <= high for i in mine) <= MOST_ASKED:
            return 0.0
        return fmean(area(escalated(first, second, low, high), rows, 0) for second in then)

    return max(product(EDGES, EDGES), key=lambda pair: worth(*pair))


def escalated(first: Sequence[float], then: Sequence[float], low: float, high: float) -> list[float]:
    return [b if low <= a <= high else a for a, b in zip(first, then, strict=True)]


def settings(judge: dict[str, Any], route: dict[str, Any] | None = None, **more: Any) -> RewardConfig:
    routes = {} if route is None else {"verify": route}
    return validate(RewardConfig, {"judge": judge | {"routes": routes | more.pop("routes", {})}, **more})


def by_smollm2(options: argparse.Namespace, rows: Sequence[dict], rules: Sequence[float]) -> dict[str, list[float]]:
    """Each form; what the probability is worth; and the model where the rules are unsure. Returns the supports by the
    ways that may be asked first."""
    first: dict[str, list[float]] = {}
    judge: dict[str, Any] = {"kind": "vllm", "model": str(smollm2(options.models)), "args": {"dtype": "float32"}}
    judge |= {"extra_body": {"repetition_penalty": 1.1}, "max_in_flight": 16, "max_tokens": 512}
    judge |= {"attempt_timeout_s": 3600, "call_timeout_s": 7200, "max_attempts": 2, "hedge": {"budget": 0}}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
    with served(settings(judge)) as started:
        asked = started.judge.model_dump()

        def found(route: dict[str, Any], **more: Any) -> tuple[list[float], list[str], str]:
            begun = time.monotonic()
            told = asyncio.run(supports(settings(asked, route, **more), rows))
            return [score for score, _ in told], [text for _, text in told], f"{time.monotonic() - begun:.0f} s"

        for name in options.form:
            if name in CHAT:
                scores, _, took = found(CHAT[name])
                show(name, scores, rows, took)
        if "yes_no" in options.form:
            scores, texts, took = found({"way": "yes_no", "extra_body": {}})
            words = [0.0 if text.strip().lower().startswith("no") else 1.0 for text in texts]
            show("yes or no: its word", words, rows)
            show("yes or no: its probability", scores, rows, took)
            print(f"probability against word: {difference(scores, words, rows)}")
        if "likelihood" in options.form:
            scores, texts, took = found({"way": "likelihood", "extra_body": {}})
            fitted = curve([float(text) for text in texts], rows)
            scores = [1 / (1 + math.exp((fitted["middle"] - float(text)) / fitted["width"])) for text in texts]
            first["likelihood"] = scores
            show("likelihood", scores, rows, f"{fitted['middle']:.2f}, {fitted['width']:.2f}; {took}")
            low, high = band(rules, [scores], rows)
            both = escalated(rules, scores, low, high)
            share = fmean(low <= one <= high for one in rules)
            show("the rules first, the likelihood where they are unsure", both, rows, f"{low} to {high}: {share:.0%}")
    return first


def by_labels(rows: Sequence[dict], firsts: dict[str, list[float]]) -> None:
    """A strong judge that is asked about all claims, and one that is asked where a first model is unsure; on the second
    half, means over several such judges. The band is the best for all of them together."""
    print("\n| first | strong judge is right | it alone | after the first | difference | band | asked |")
    print("|---|---|---|---|---|---|---|")
    judges = {each: [Labels(rows, each, seed) for seed in range(SEEDS)] for each in ACCURACIES}
    always = {each: [alone(judge, rows) for judge in found] for each, found in judges.items()}
    for name, supported in firsts.items():
        low, high = band(supported, [one for each in always.values() for one in each[: SEEDS // 4]], rows)
        faithfulness = {"first": "small", "unsure": [low, high]}
        config = settings({}, routes={"small": {"kind": "offline"}}, faithfulness=faithfulness)
        for accuracy, found in judges.items():
            for judge in found:
                judge.asked, judge.first = 0, {row["claim"]: one for row, one in zip(rows, supported, strict=True)}
            after = [alone(judge, rows, config) for judge in found]
            asked = sum(judge.asked for judge in found) / len(rows) / SEEDS
            one, other = (fmean(area(scores, rows, 1) for scores in each) for each in (always[accuracy], after))
            cells = [name, f"{accuracy:.0%}", f"{one:.3f}", f"{other:.3f}", f"{other - one:+.3f}", f"{low} to {high}"]
            print(f"| {' | '.join(cells)} | {asked:.0%} |", flush=True)


def alone(judge: Judge, rows: Sequence[dict], config: RewardConfig | None = None) -> list[float]:
    """The supports by this judge."""
    return [score for score, _ in asyncio.run(supports(config or RewardConfig(), rows, judge))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=Path, required=True, help="rows with id, context, claim and supported")
    parser.add_argument("--models", type=Path, default=Path("runs/models"), help="where the model is put")
    parser.add_argument("--keep", type=Path, help="where SmolLM2's supports are kept, or are read from")
    parser.add_argument("--form", choices=[*CHAT, *WAYS], action="append", help="both ways by default")
    options = parser.parse_args()
    options.form = options.form or list(WAYS)
    rows = [json.loads(line) for line in options.claims.read_text().splitlines()]
    print("| form | first half | second half | all | ties | |\n|---|---|---|---|---|---|", flush=True)
    rules = [score for score, _ in asyncio.run(supports(RewardConfig(), rows))]
    show("rules", rules, rows)
    kept = options.keep.is_file() if options.keep else False
    asked = json.loads(options.keep.read_text()) if kept else by_smollm2(options, rows, rules)
    if options.keep:
        options.keep.write_text(json.dumps(asked))
    by_labels(rows, {"rules": rules} | asked)


if __name__ == "__main__":
    main()
