"""Scores of a policy on held-out prompts, through the same engines, agent and judge workers as training."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from longreward.evaluation.intervals import paired_change
from longreward.files import jsonlines
from longreward.schema import DIMENSIONS
from rl.config import RunConfig
from rl.data.prompts import Label
from rl.rollout.engines import Engines
from rl.rollout.reward_client import scores_of


@dataclass(frozen=True)
class HeldoutScores:
    """Held-out scores of one policy: per prompt, the mean over its answers that are not void."""

    prompts: dict[str, dict[str, float]] = field(default_factory=dict)
    """Prompt id -> total and dimensions, 0..10. A prompt whose answers are all void is not in it."""
    answers: int = 0
    void: int = 0

    @property
    def names(self) -> list[str]:
        """`total` and what it consists of: for LongReward all four, asked for or not."""
        found, usual = list(next(iter(self.prompts.values()), ())), ["total", *DIMENSIONS]
        return usual if set(found) <= set(usual) else found

    def means(self) -> dict[str, float | None]:
        """`total` and each dimension over the prompts; None where nothing was scored."""
        found = {n: [s[n] for s in self.prompts.values() if n in s] for n in self.names}
        return {name: statistics.fmean(values) if values else None for name, values in found.items()}

    @classmethod
    def read(cls, path: Path) -> HeldoutScores | None:
        """What `write` wrote; None where there is nothing."""
        data = jsonlines.read_json(path)
        return None if data is None else cls(**data)

    def write(self, path: Path) -> None:
        """For a run that is continued: the scores before training are taken once."""
        jsonlines.write_json(path, asdict(self))

    def summary(self) -> dict[str, Any]:
        rounded = {name: None if value is None else round(value, 4) for name, value in self.means().items()}
        return {"n": len(self.prompts), "answers": self.answers, "void": self.void, **rounded}


def gain(before: HeldoutScores, after: HeldoutScores, dimension: str = "total") -> dict[str, Any]:
    """After - before over the prompts scored in both: mean and 95% interval (normal approximation)."""
    old, new = ({i: scores[dimension] for i, scores in one.prompts.items()} for one in (before, after))
    mean, low, high, n = paired_change(old, new) or (None, None, None, 0)
    if mean is None or low is None or high is None:
        return {"n": n, "total": None, "interval": None}
    return {"n": n, "total": round(mean, 4), "interval": [round(low, 4), round(high, 4)]}


def markdown(names: Sequence[str], scores: Sequence[HeldoutScores]) -> str:
    """A table of one policy's scores, or of two policies' with the change and its 95% interval."""
    lines = [f"| held-out reward, 0-10 | {' | '.join(names)} |" + " change |" * (len(scores) > 1)]
    lines.append("| --- |" + " ---: |" * (len(lines[0].split("|")) - 3))
    for dimension in scores[0].names:
        means = [one.means().get(dimension) for one in scores]
        if None in means:
            continue
        cells = [f"{mean:.2f}" for mean in means if mean is not None]
        if len(scores) > 1:
            change = gain(scores[0], scores[1], dimension)
            low, high = change["interval"] or (float("nan"), float("nan"))
            cells.append(f"{change['total']:+.2f} ({low:+.2f} to {high:+.2f})" if change["interval"] else "-")
        lines.append(f"| {dimension} | {' | '.join(cells)} |")
    counts = ", ".join(
        f"{name}: {one.answers} answers, {one.void} void" for name, one in zip(names, scores, strict=True)
    )
    return "\n".join(lines) + f"\n\n{counts}. In brackets: 95% interval over documents."


def evaluate(config: RunConfig, engines: Engines, prompts: Path | None = None) -> HeldoutScores:
    """Sample `evaluation.n_samples_per_prompt` answers per prompt from the engines' policy and score them. `prompts` is
    a prepared prompt file; None: the run's own held-out one."""
    rows, section = (row for _, row in jsonlines.read(prompts or config.prompts("heldout"))), config.evaluation
    groups = engines.rollouts(rows, section.temperature, section.n_samples_per_prompt)
    # Only what is asked of them is kept: their tokens are some MB each for long documents.
    kept = ("label", "extra_logs")
    return collect([{name: one[name] for name in kept} for group in groups for one in group])


def collect(responses: list[dict[str, Any]]) -> HeldoutScores:
    """Scores of rollouts as the agent returns them. Void ones are counted, never averaged in."""
    by_prompt: dict[str, list[dict[str, float]]] = {}
    void = 0
    for response in responses:
        scores = scores_of(response["extra_logs"])
        if scores is None:
            void += 1
            continue
        by_prompt.setdefault(Label.from_json(response["label"]).id, []).append(scores)
    means = {i: {n: statistics.fmean(s[n] for s in scores) for n in scores[0]} for i, scores in by_prompt.items()}
    return HeldoutScores(means, len(responses), void)
