"""What is the form of a verdict worth? Labelled claims by SmolLM2-135M-Instruct behind vLLM, in each form.

    PYTHONPATH=.:benchmarks python benchmarks/real/verdict_forms.py --claims ../shared/data/claims_qags_cnndm.jsonl

Without a GPU, some minutes a form. The prompt is the one that verifies a statement, with the whole article as evidence.
Printed are the AUC of each form, and the share of pairs of a supported and another claim that it cannot tell apart;
then what the distribution has more than each other form, with intervals by resampling the articles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.evaluation.claims import auc
from longreward.judge import make_judge
from longreward.judge.own_server.local import served
from longreward.judge.requests import VerifyStatement
from longreward.judge_config import JudgeConfig
from real.models import smollm2

RESAMPLES = 1000
FORMS: dict[str, dict[str, Any]] = {
    "written": {"verdict": "written"},
    "constrained": {"verdict": "constrained"},
    "constrained, no analysis": {"verdict": "constrained", "analysis": False},
    "5 votes, no analysis": {"verdict": "constrained", "analysis": False, "votes": 5, "temperature": 0.7},
    "distribution": {"verdict": "distribution"},
    "distribution, no analysis": {"verdict": "distribution", "analysis": False},
}
BEST = "distribution, no analysis"


async def supports(judge: JudgeConfig, rows: Sequence[dict]) -> tuple[list[float | None], int]:
    """Of each claim, and the tokens that the judge wrote."""
    asked = make_judge(judge)
    try:
        requests = [VerifyStatement("en", row["claim"], [row["context"]]) for row in rows]
        verdicts = await asyncio.gather(
            *(asked.ask(request, document=row["context"]) for request, row in zip(requests, rows, strict=True))
        )
    finally:
        await asked.aclose()
    return [verdict.value for verdict in verdicts], sum(v.call.usage.completion_tokens for v in verdicts)


def known(scores: Sequence[float | None]) -> list[float]:
    """A claim without a verdict is in the middle of the scale: it cannot be told from any other."""
    return [0.5 if score is None else score for score in scores]


def ties(scores: Sequence[float], labels: Sequence[bool]) -> float:
    pairs = [(a, b) for a, one in zip(scores, labels, strict=True) if one
             for b, other in zip(scores, labels, strict=True) if not other]  # fmt: skip
    return sum(a == b for a, b in pairs) / len(pairs)


def difference(one: Sequence[float], other: Sequence[float], rows: Sequence[dict]) -> tuple[float, float, float]:
    """What the first has more, and its 95% interval."""
    rng, articles = random.Random(0), defaultdict[str, list[int]](list)
    for place, row in enumerate(rows):
        articles[row["context"]].append(place)
    found = []
    for _ in range(RESAMPLES):
        places = [p for article in rng.choices(list(articles), k=len(articles)) for p in articles[article]]
        labels = [bool(rows[p]["supported"]) for p in places]
        found.append(auc([one[p] for p in places], labels) - auc([other[p] for p in places], labels))
    found.sort()
    labels = [bool(row["supported"]) for row in rows]
    return auc(one, labels) - auc(other, labels), found[RESAMPLES // 40], found[-RESAMPLES // 40]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--claims", type=Path, required=True, help="rows with context, claim and supported")
    parser.add_argument("--models", type=Path, default=Path("runs/models"), help="where the model is put")
    parser.add_argument("--form", choices=FORMS, action="append", help="all by default")
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.claims.read_text().splitlines()]
    labels = [bool(row["supported"]) for row in rows]
    judge = {"kind": "vllm", "model": str(smollm2(options.models)), "args": {"dtype": "float32"}, "max_tokens": 512}
    judge |= {"extra_body": {"repetition_penalty": 1.1}, "max_in_flight": 16}
    judge |= {"attempt_timeout_s": 3600, "call_timeout_s": 7200, "max_attempts": 2}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
    print("| form | AUC | ties | without a verdict | tokens a reply | seconds |\n|---|---|---|---|---|---|", flush=True)
    found: dict[str, list[float]] = {}
    with served(validate(RewardConfig, {"judge": judge})) as config:
        for name in options.form or FORMS:
            started = time.monotonic()
            form = validate(RewardConfig, {"judge": config.judge.model_dump() | FORMS[name]}).judge
            scores, tokens = asyncio.run(supports(form, rows))
            found[name] = known(scores)
            void = sum(score is None for score in scores) / len(rows)
            print(
                f"| {name} | {auc(found[name], labels):.3f} | {ties(found[name], labels):.1%} | {void:.1%} | "
                f"{tokens / len(rows):.0f} | {time.monotonic() - started:.0f} |",
                flush=True,
            )
    for name in found.keys() - {BEST} if BEST in found else ():
        more, low, high = difference(found[BEST], found[name], rows)
        print(f"{BEST} against {name}: {more:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main()
