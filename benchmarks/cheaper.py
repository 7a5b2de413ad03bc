"""What the cheaper ways save, in tokens, and what they change in the scores.

    python benchmarks/cheaper.py                                     # the toy task's answers, the rules as the judge
    python benchmarks/cheaper.py --leval ../shared/data --noise 0.15 # real answers; the rules, and noise of known size
    python benchmarks/cheaper.py --base-url URL --model NAME --input FILE.jsonl [--limit 200] [section.key=value ...]

The rules say little about a real judge: measure yours. Rows of FILE hold idx, context, query and answer, several
answers to each question; all of them are scored once per mode, the paper's mode twice: the line "paper, again" is the
judge's own noise, below which no difference means anything. The toy's documents are cut into chunks of 16 tokens, as
five of the usual 128 would be the whole document. Tokens of prompts are counted as an estimate does, or with
--models by SmolLM2's tokenizer; those of replies are what an estimate expects of each kind and form.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from real.models import smollm2
from toy import answers, task

from longreward import LongReward, Reward, RewardConfig, Sample
from longreward.commands.rows import Rows
from longreward.config_file import apply_overrides, validate
from longreward.judge import Judge, Verdict, judge_of
from longreward.judge.requests import (
    CheckCoverage,
    CheckStatement,
    JudgeRequest,
    RateAnswer,
    RewardRequest,
    VerifyStatement,
    VerifyStatements,
)
from longreward.prompts import Prompts
from longreward.text.tokens import tokens_in
from longreward.tokenizer import token_spans

T = TypeVar("T")

RULES_FIRST: dict[str, Any] = {
    "judge": {"routes": {"rules": {"kind": "offline"}}},
    "faithfulness": {"first": "rules", "unsure": [0.2, 0.98]},
}
BARE: dict[str, Any] = {"judge": {"analysis": False}}
NO_EXAMPLES: dict[str, Any] = {"judge": {"examples": False}}
POINTS: dict[str, Any] = {"completeness": {"way": "key_points"}}
FIVE: dict[str, Any] = {"faithfulness": {"statements_per_call": 5}}
MODES: dict[str, list[dict[str, Any]]] = {
    "paper": [],
    "paper, again": [],
    "3 statements a call": [{"faithfulness": {"statements_per_call": 3}}],
    "5 statements a call": [FIVE],
    "sentences of the document not asked": [{"faithfulness": {"skip_verbatim": True}}],
    "no analysis": [BARE],
    "no examples": [NO_EXAMPLES],
    "key points": [POINTS],
    "rules first": [RULES_FIRST],
    "all but the key points": [RULES_FIRST, BARE, NO_EXAMPLES, FIVE],
    "all": [RULES_FIRST, BARE, NO_EXAMPLES, FIVE, POINTS],
}
RATING_NOISE = 4.0
"""Times the noise of a support, in points of 10."""

COLUMNS = ["mode", "calls an answer", "of these verifying", "tokens an answer", "of the paper's", "void"]
COLUMNS += [f"{name}: {what}" for name in ("faithfulness", "total") for what in ("mean", "abs. diff.", "rank corr.")]


class Counting(Judge):
    """Counts what a judge is asked, and errs with it: by the same amount each time it is asked the same in the same
    mode."""

    def __init__(self, config: RewardConfig, models: Path | None, noise: float, mode: str) -> None:
        self._judge, self._config, self._noise, self._mode = judge_of(config), config, noise, mode
        self._prompts = Prompts.of(config)
        self._spans = None if models is None else token_spans(smollm2(models), "--models")
        self.calls: Counter[str] = Counter()
        self.tokens = 0.0

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        verdict: Verdict[Any] = await self._judge.ask(request, document=document)
        if isinstance(request, CheckStatement):  # by the rules, for nothing
            return verdict
        assert isinstance(request, RewardRequest)
        form = self._config.judge.form
        self.calls[request.kind] += 1
        prompt = request.text(self._prompts, form)
        self.tokens += len(self._spans(prompt)) if self._spans else tokens_in(prompt)
        self.tokens += request.typical_in(form)[1]
        if isinstance(request, VerifyStatement):
            return Verdict(self._erring(request.statement, verdict.value, 1.0), verdict.call)
        if isinstance(request, VerifyStatements):
            supports = zip(request.statements, verdict.value or [], strict=True)
            erring: Any = [self._erring(statement, support, 1.0) for statement, support in supports]
            return Verdict(erring, verdict.call)
        if isinstance(request, CheckCoverage):
            covered = zip(request.points, verdict.value or [], strict=True)
            noisy: Any = [self._erring(f"{point} {request.answer}", one, 1.0) for point, one in covered]
            return Verdict(noisy, verdict.call)
        if isinstance(request, RateAnswer):
            return Verdict(self._erring(f"{request.kind} {request.answer}", verdict.value, 10.0), verdict.call)
        return verdict

    def _erring(self, about: str, value: Any, highest: float) -> Any:
        if value is None or not self._noise:
            return value
        seed = hashlib.sha256(f"{self._mode} {about}".encode()).digest()
        noise = self._noise * (1.0 if highest == 1.0 else RATING_NOISE)
        return min(highest, max(0.0, value + random.Random(seed).gauss(0, noise)))

    def stats(self) -> dict[str, float]:
        return self._judge.stats()

    async def aclose(self) -> None:
        await self._judge.aclose()


def leval(folder: Path) -> list[Sample]:
    """Real answers of eight models to 43 questions about six documents."""

    def read(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / name).read_text().splitlines()]

    documents = {row["document"]: row["context"] for row in read("answers_leval_documents.jsonl")}
    return [
        Sample(id=str(row["idx"]), context=documents[row["document"]], query=row["query"], answer=row["answer"])
        for row in read("answers_leval.jsonl")
    ]


def toy(prompts: int, per_prompt: int, asked: int) -> list[Sample]:
    """Answers of compromised quality to questions that ask for `asked` facts of a held-out kind of document."""
    samples = []
    for number in range(prompts):
        rng = random.Random(f"cheaper {number}")
        prompt = task.make_prompt(rng, f"cheaper-{number}", asked=asked)
        texts = [answers.compromised_answer(prompt, rng) for _ in range(per_prompt)]
        samples += [Sample(id=prompt.idx, context=prompt.context, query=prompt.query, answer=text) for text in texts]
    return samples


async def score(
    config: RewardConfig, samples: list[Sample], options: argparse.Namespace, mode: str
) -> tuple[list[Reward], Counting]:
    judge = Counting(config, options.models, options.noise, mode)
    reward = LongReward(config, judge=judge)
    try:
        return await reward.score_many(samples, concurrency=options.concurrency), judge
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


def merged(*settings: dict[str, Any]) -> dict[str, Any]:
    """The sections together, the last one's word last."""
    found: dict[str, Any] = {}
    for each in settings:
        for name, section in each.items():
            found[name] = found.get(name, {}) | section if isinstance(section, dict) else section
    return found


async def measure(options: argparse.Namespace) -> None:
    if options.input is not None:
        rows = Rows(options.input)
        samples = [sample for _, sample, _ in rows.samples()][: options.limit]
        for problem in rows.broken:
            print(f"skipped {problem}", file=sys.stderr)
    elif options.leval is not None:
        samples = leval(options.leval)[: options.limit]
    else:
        samples = toy(options.prompts, options.answers, options.asked)
    data: dict[str, Any] = {"judge": {"kind": "offline"}}
    if options.base_url:
        data["judge"] = {"kind": "openai", "base_url": options.base_url, "model": options.model}
    if options.input is None and options.leval is None:
        data["chunking"] = {"evidence_tokens": 16}
    given = apply_overrides(data, options.overrides)
    config = validate(RewardConfig, given)
    documents = len({(sample.context, sample.query) for sample in samples})
    print(f"{len(samples)} answers about {documents} documents, judge {config.judge.model or 'offline'}\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    paper: list[Reward] = []
    most = 0.0
    for mode, changes in MODES.items():
        settings = validate(RewardConfig, merged(given, *changes))
        rewards, judge = await score(settings, samples, options, mode)
        paper, most = paper or rewards, most or judge.tokens
        verifying = sum(count for kind, count in judge.calls.items() if kind.startswith("verify"))
        cells = [mode, *(f"{n / len(samples):.2f}" for n in (judge.calls.total(), verifying))]
        cells += [f"{judge.tokens / len(samples):.0f}", f"{judge.tokens / most:.0%}"]
        cells += [f"{sum(r.total is None for r in rewards)}"]
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
    if config.judge.kind == "offline" and not options.noise:
        print("The rules look at each statement alone: that nothing differs says nothing about a real judge.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", help="an OpenAI-compatible endpoint; the offline judge without it")
    parser.add_argument("--model", default="judge", help="the judge's name there")
    parser.add_argument("--input", type=Path, help="JSON lines with idx, context, query, answer; else toy answers")
    parser.add_argument("--leval", type=Path, help="folder with answers_leval.jsonl and answers_leval_documents.jsonl")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation of a support's error, 0..1")
    parser.add_argument("--models", type=Path, help="where SmolLM2 is put, to count by its tokenizer")
    parser.add_argument("--limit", type=int, help="score only so many of them")
    parser.add_argument("--concurrency", type=int, default=32, help="answers in flight")
    parser.add_argument("--prompts", type=int, default=96, help="toy questions")
    parser.add_argument("--answers", type=int, default=10, help="answers to each")
    parser.add_argument("--asked", type=int, default=10, help="facts that each toy question asks for")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="further settings of the reward")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
