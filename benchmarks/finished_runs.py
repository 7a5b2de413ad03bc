"""Runs of a benchmark: trained where they are not there yet, and their answers out of the store."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from longreward import store
from longreward.schema import ScoredAnswer
from rl.offline.config import load_any
from rl.rollout.heldout_scores import HeldoutScores

ROOT = Path(__file__).parents[1]


def trained(config: str, words: Sequence[str], program: str = "rl/train.py") -> Path:
    """The directory of a run, which is made unless it was made before."""
    directory = load_any(ROOT / config, list(words)).directory
    if not (directory / "summary.json").is_file():
        subprocess.run([sys.executable, program, "--config", config, *words], cwd=ROOT, check=True)
    return directory


def side_by_side(config: str, models: Sequence[Path], words: Sequence[str]) -> tuple[list[ScoredAnswer], ...]:
    """The held-out answers of two policies by rl/evaluate.py, which is run unless it was before."""
    directory = load_any(ROOT / config, list(words)).directory
    directory = directory.with_name(f"{directory.name}-evaluation")
    if not (directory / "summary.json").is_file():
        old, new = map(str, models)
        command = [sys.executable, "rl/evaluate.py", "--config", config, "--model", new, "--against", old, *words]
        subprocess.run(command, cwd=ROOT, check=True)
    began = json.loads((directory / "policies.json").read_text())["policies"][1]["begun"]
    every = answers(directory)
    return [one for one in every if one.time < began], [one for one in every if one.time >= began]


def answers(run: Path) -> list[ScoredAnswer]:
    return [answer for file in store.files(run / "store") for _, _, answer in store.read(file, None, ScoredAnswer)]


def before_and_after(run: Path) -> dict[str, list[ScoredAnswer]]:
    """The held-out answers from before and from after training."""
    every = answers(run)
    began = min(answer.time for answer in every if answer.split == "train")
    asked = [answer for answer in every if answer.split == "heldout"]
    return {
        name: [a for a in asked if (a.time > began) is later] for name, later in (("before", False), ("after", True))
    }


def means(scored: Iterable[ScoredAnswer], figures: Callable[[ScoredAnswer], dict[str, float]]) -> HeldoutScores:
    """The figures of each prompt's answers, their means."""
    by_prompt = defaultdict[tuple[str, str], list[dict[str, float]]](list)
    for answer in scored:
        by_prompt[answer.id, answer.query].append(figures(answer))
    found = {prompt: {n: statistics.fmean(e[n] for e in each) for n in each[0]} for prompt, each in by_prompt.items()}
    return HeldoutScores(found, sum(map(len, by_prompt.values())))


def scores(answer: ScoredAnswer) -> dict[str, float]:
    if answer.scores is None:
        raise SystemExit(f"{answer.id} is void ({answer.why_void}); every answer needs a score here")
    return answer.scores
