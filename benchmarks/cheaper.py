"""What the cheaper ways of verifying statements save, and what they change in the scores.

    python benchmarks/cheaper.py                                   # the toy task's answers, offline judge
    python benchmarks/cheaper.py --base-url URL --model NAME --input FILE.jsonl [--limit 200] [section.key=value ...]

The offline judge says little about a real one: measure yours. Rows of FILE hold idx, context, query and answer, several
answers to each question; all of them are scored once per mode, the paper's mode twice: the line "paper, again" is the
judge's own noise, below which no difference means anything. The toy's documents are cut into chunks of 16 tokens, as
five of the usual 128 would be the whole document.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from toy import answers, task

from longreward import LongReward, Reward, RewardConfig, Sample
from longreward.commands.rows import Rows
from longreward.config_file import apply_overrides, validate
from longreward.judge import Judge, JudgeStatus, Verdict, make_judge
from longreward.judge.requests import JudgeRequest

T = TypeVar("T")

MODES: dict[str, dict[str, Any]] = {
    "paper": {},
    "paper, again": {},
    "3 per call": {"statements_per_call": 3},
    "5 per call": {"statements_per_call": 5},
    "skip verbatim": {"skip_verbatim": True},
    "3 per call, skip verbatim": {"statements_per_call": 3, "skip_verbatim": True},
    "5 per call, skip verbatim": {"statements_per_call": 5, "skip_verbatim": True},
}


COLUMNS = ["mode", "calls an answer", "of these verifying", "prompt characters an answer", "void"]
COLUMNS += [f"{name}: {what}" for name in ("faithfulness", "total") for what in ("mean", "abs. diff.", "rank corr.")]


class Counting:
    """A judge that counts what it is asked."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.calls: Counter[str] = Counter()
        self.characters = 0

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        self.calls[request.kind] += 1
        self.characters += len(request.text())
        return await self._judge.ask(request, document=document)

    def status(self) -> JudgeStatus:
        return self._judge.status()

    def stats(self) -> dict[str, float]:
        return self._judge.stats()

    async def aclose(self) -> None:
        await self._judge.aclose()


def toy(prompts: int, per_prompt: int, asked: int) -> list[Sample]:
    """Answers of compromised quality to questions that ask for `asked` facts of a held-out kind of document."""
    samples = []
    for number in range(prompts):
        rng = random.Random(f"cheaper {number}")
        prompt = task.make_prompt(rng, f"cheaper-{number}", asked=asked)
        texts = [answers.compromised_answer(prompt, rng) for _ in range(per_prompt)]
        samples += [Sample(id=prompt.idx, context=prompt.context, query=prompt.query, answer=text) for text in texts]
    return samples


async def score(config: RewardConfig, samples: list[Sample], concurrency: int) -> tuple[list[Reward], Counting]:
    judge = Counting(make_judge(config.judge))
    reward = LongReward(config, judge=judge)
    try:
        return await reward.score_many(samples, concurrency=concurrency), judge
    finally:
        await reward.aclose()


def ranks(values: np.ndarray) -> np.ndarray:
    """1 for the smallest; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2


def spearman(one: np.ndarray, two: np.ndarray) -> float | None:
    """Rank correlation; None where one side knows no order."""
    a, b = ranks(one), ranks(two)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def compare(samples: list[Sample], paper: list[Reward], other: list[Reward], name: str) -> tuple[float, float | None]:
    """The mean absolute difference of a score ("total" or a dimension) and its mean rank correlation within groups.

    Only over answers that both modes scored.
    """
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for sample, one, two in zip(samples, paper, other, strict=True):
        pair = [r.total if name == "total" else r.dimensions[name].score for r in (one, two)]
        if pair[0] is not None and pair[1] is not None:
            groups.setdefault((sample.context, sample.query), []).append((pair[0], pair[1]))
    pairs = np.array([pair for group in groups.values() for pair in group]).reshape(-1, 2)
    difference = float(np.abs(pairs[:, 0] - pairs[:, 1]).mean()) if len(pairs) else float("nan")
    found = [spearman(*np.array(group).T) for group in groups.values() if len(group) > 1]
    correlations = [value for value in found if value is not None]
    return difference, float(np.mean(correlations)) if correlations else None


async def measure(options: argparse.Namespace) -> None:
    if options.input is not None:
        rows = Rows(options.input)
        samples = [sample for _, sample, _ in rows.samples()][: options.limit]
        for problem in rows.broken:
            print(f"skipped {problem}", file=sys.stderr)
    else:
        samples = toy(options.prompts, options.answers, options.asked)
    data: dict[str, Any] = {"judge": {"kind": "offline"}}
    if options.base_url:
        data["judge"] = {"kind": "openai", "base_url": options.base_url, "model": options.model}
    if options.input is None:
        data["chunking"] = {"evidence_tokens": 16}
    config = validate(RewardConfig, apply_overrides(data, options.overrides))
    documents = len({(sample.context, sample.query) for sample in samples})
    print(f"{len(samples)} answers about {documents} documents, judge {config.judge.model or 'offline'}\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    paper: list[Reward] = []
    for mode, faithfulness in MODES.items():
        settings = config.faithfulness.model_copy(update=faithfulness)
        rewards, judge = await score(config.model_copy(update={"faithfulness": settings}), samples, options.concurrency)
        if not paper:
            paper = rewards
        verifying = sum(count for kind, count in judge.calls.items() if kind.startswith("verify"))
        cells = [mode, *(f"{n / len(samples):.2f}" for n in (judge.calls.total(), verifying))]
        cells += [f"{judge.characters / len(samples):.0f}", f"{sum(r.total is None for r in rewards)}"]
        for name in ("faithfulness", "total"):
            values = [r.total if name == "total" else r.dimensions[name].score for r in rewards]
            scored = [value for value in values if value is not None]
            difference, correlation = compare(samples, paper, rewards, name)
            mean = f"{np.mean(scored):.2f}" if scored else "-"
            cells += [mean, f"{difference:.3f}", "-" if correlation is None else f"{correlation:.3f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    statements = [s for reward in paper for s in reward.dimensions["faithfulness"].statements]
    shared = sum(statement.call.source == "shared" for statement in statements) / len(samples)
    print(f"\n{len(statements) / len(samples):.1f} statements an answer. {shared:.1f} of them had been made by another")
    print("answer to the same question and cost no call in any mode.")
    if config.judge.kind == "offline":
        print("The offline judge looks at each statement alone: that nothing differs says nothing about a real judge.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="an OpenAI-compatible endpoint; the offline judge without it")
    parser.add_argument("--model", default="judge", help="the judge's name there")
    parser.add_argument("--input", type=Path, help="JSON lines with idx, context, query, answer; else toy answers")
    parser.add_argument("--limit", type=int, help="score only so many of them")
    parser.add_argument("--concurrency", type=int, default=32, help="answers in flight")
    parser.add_argument("--prompts", type=int, default=96, help="toy questions")
    parser.add_argument("--answers", type=int, default=10, help="answers to each")
    parser.add_argument("--asked", type=int, default=10, help="facts that each toy question asks for")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="further settings of the reward")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
