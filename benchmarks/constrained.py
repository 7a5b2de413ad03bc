"""Can a judge that follows no format be read? SmolLM2-135M-Instruct behind vLLM, written and constrained.

    python benchmarks/constrained.py docs/examples/answers.jsonl rl/toy/data/heldout.jsonl

Without a GPU; minutes per file. The model knows nothing of judging: what is counted is whether each reply is read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, get_args

from real.models import smollm2

from longreward.config import RewardConfig
from longreward.config_file import validate
from longreward.judge import make_judge
from longreward.judge.own_server.local import served
from longreward.model_config import VerdictForm
from longreward.preflight.questions import questions
from longreward.reward import LongReward
from longreward.schema import OK, Sample


def settings(model: Path) -> RewardConfig:
    """This model repeats itself; the penalty is what its users would set."""
    judge = {"kind": "vllm", "model": str(model), "args": {"dtype": "float32"}, "max_tokens": 1024}
    judge |= {"extra_body": {"repetition_penalty": 1.1}, "max_in_flight": 16}
    judge |= {"attempt_timeout_s": 600, "call_timeout_s": 1200}
    return validate(RewardConfig, {"judge": judge})


async def kinds(config: RewardConfig) -> dict[str, str]:
    """Kind of question -> ok, or why its reply gave no value."""
    judge = make_judge(config.judge)
    try:
        asked = questions(config)
        replies = await asyncio.gather(*map(judge.ask, asked))
        return {one.kind: reply.call.status for one, reply in zip(asked, replies, strict=True)}
    finally:
        await judge.aclose()


async def score(config: RewardConfig, samples: list[Sample]) -> tuple[int, Counter[str]]:
    """How many of them have a reward, and the calls by what became of them."""
    reward = LongReward.from_config(config)
    try:
        scored = await reward.score_many(samples)
    finally:
        await reward.aclose()
    calls: Counter[str] = Counter()
    for one in scored:
        for dimension in one.dimensions.values():
            calls.update(call.status for call in (*dimension.calls, *(made.call for made in dimension.statements)))
    return sum(one.total is not None for one in scored), calls


def samples(path: Path) -> list[Sample]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Sample(**{name: row[name] for name in ("context", "query", "answer")}) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path, nargs="+", help="rows with context, query and answer")
    parser.add_argument("--models", type=Path, default=Path("runs/models"), help="where the model is put")
    parser.add_argument("--form", choices=get_args(VerdictForm), action="append", help="both by default")
    options = parser.parse_args()
    forms: Any = options.form or get_args(VerdictForm)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
    with served(settings(smollm2(options.models))) as asked:
        print("| verdict | what | read | calls by outcome | seconds |\n|---|---|---|---|---|", flush=True)
        for form in forms:
            judge = asked.judge.model_copy(update={"verdict": form})
            config, start = asked.model_copy(update={"judge": judge}), time.monotonic()
            found = asyncio.run(kinds(config))
            row = f"| {form} | kinds of question | {sum(s == OK for s in found.values())} of {len(found)} | {found}"
            print(f"{row} | {time.monotonic() - start:.0f} |", flush=True)
            for path in options.answers:
                start = time.monotonic()
                answers = samples(path)
                rewarded, calls = asyncio.run(score(config, answers))
                row = f"| {form} | {path.name} | {rewarded} of {len(answers)} answers | {dict(calls.most_common())}"
                print(f"{row} | {time.monotonic() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
