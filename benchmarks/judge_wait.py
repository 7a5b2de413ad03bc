"""Is `longreward/judge_wait_s` what a stopwatch inside the rollout engine measures?

    PYTHONPATH=.:benchmarks python benchmarks/judge_wait.py      # the toy without a GPU, 16 steps, some 2 minutes

The judge takes 0.3 s a call, and 1% of the calls 30 times as long. The stopwatch is the agent of this file: it notes
when the engine has an answer's last token, and when the answer has its reward. Exit code 1 where the mean of the steps,
or half of the single steps, are more than 5% apart.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rl.rollout import agent

STEPS, ANSWERS = 16, 32
BAR = 0.05
_NOTES = "LONGREWARD_STOPWATCH"


class AgentExecutor(agent.AgentExecutor):
    """The run's own, with a stopwatch."""

    async def execute(self, *, llm_engine: Any, **named: Any) -> dict[str, Any]:
        engine = _Engine(llm_engine)
        output: dict[str, Any] = await super().execute(llm_engine=engine, **named)
        _note(f"{engine.generated} {time.time()}\n")
        return output


def _note(line: str) -> None:
    with Path(os.environ[_NOTES]).open("a") as notes:
        notes.write(line)


class _Engine:
    def __init__(self, engine: Any) -> None:
        self._engine, self.generated = engine, 0.0

    async def generate(self, *words: Any, **named: Any) -> Any:
        output = await self._engine.generate(*words, **named)
        self.generated = time.time()
        return output


def train(words: list[str]) -> int:
    """`rl/train.py` with the agent of this file."""
    from rl import train
    from rl.trainer import openrlhf_flags

    openrlhf_flags.AGENT = Path(__file__)
    return train.main(words)


def waits(notes: Path) -> list[float]:
    """Of each step the seconds from its last token to its last reward."""
    answers = sorted(tuple(map(float, line.split())) for line in notes.read_text().splitlines())
    steps = [answers[start : start + ANSWERS] for start in range(0, len(answers), ANSWERS)]
    return [max(rewarded for _, rewarded in step) - max(generated for generated, _ in step) for step in steps]


def main() -> int:
    import chaos
    import judge_server

    with (
        tempfile.TemporaryDirectory(prefix="wait-") as folder,
        judge_server.running(latency=0.3, rules=True, slow=0.01, times=30) as url,
    ):
        notes = Path(folder) / "notes"
        os.environ[_NOTES] = str(notes)
        words = ["data.heldout=null", f"openrlhf.data.max_samples={STEPS * 4}", "reward.judge.attempt_timeout_s=60"]
        with chaos.run(Path(folder), "wait", url, *words, program=__file__) as run:
            run.finish(1200)
            told, measured = run.curves("-watch")["longreward/judge_wait_s"], waits(notes)
    assert len(told) == len(measured) == STEPS, (told, measured)
    apart = [abs(one / other - 1) for one, other in zip(told, measured, strict=True)]
    mean = abs(sum(told) / sum(measured) - 1)
    print(
        f"a step waits {statistics.fmean(measured):.2f} s by the stopwatch; told {mean:.1%} apart, single steps "
        f"{statistics.median(apart):.1%} (worst {max(apart):.1%}); bar {BAR:.0%}"
    )
    return int(max(mean, statistics.median(apart)) > BAR)


if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]) if len(sys.argv) > 1 else main())
