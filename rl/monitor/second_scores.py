"""The judge's noise and the shadow judge's scores while a run goes on: curves, and the alarm where they part."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from longreward.evaluation import divergence, second_scores
from longreward.evaluation.second_scores import SecondScore
from longreward.files import jsonlines


@dataclass
class _Group:
    step: int
    members: list[SecondScore]

    def mean(self, which: str) -> float:
        return statistics.fmean(getattr(one, which)["total"] for one in self.members)


class SecondScores:
    """What the workers of a run have written, read as it comes. For one thread, but for `summary`."""

    def __init__(self, run: Path, first_step: int) -> None:
        """What is there already was scored before the run was continued at `first_step`."""
        self._folder = run / second_scores.FOLDER
        self._tails: dict[Path, jsonlines.Tail] = {}
        self._groups: dict[str, dict[str, _Group]] = {"repeat": {}, "shadow": {}}
        self._found: dict[str, Any] = {}
        self._known = 0  # groups of the shadow's among which there is no divergence
        self._read(first_step)

    def scalars(self, step: int) -> dict[str, float]:
        """For TensorBoard and W&B, from what was scored since the last time; empty where nothing was."""
        new = self._read(step)
        values: dict[str, float] = {}
        if shadowed := [one for one in new if one.kind == "shadow"]:
            valid = [one for one in shadowed if one.second is not None]
            values["watch/shadow_void"] = 1 - len(valid) / len(shadowed)
            if valid:
                values["watch/shadowed_total"] = statistics.fmean(one.first["total"] for one in valid)
                values["watch/shadow_total"] = statistics.fmean((one.second or {})["total"] for one in valid)
        if any(one.kind == "repeat" for one in new):
            latest = list(self._groups["repeat"].values())[-second_scores.NOISE_GROUPS :]
            for name, found in second_scores.noise(group.members for group in latest).items():
                values |= {f"watch/noise_{name}": found.noise, f"watch/signal_{name}": found.signal}
        return values

    def alarm(self) -> str | None:
        """A sentence where the reward has parted from the shadow; once."""
        groups = list(self._groups["shadow"].values())
        if self._found or len(groups) == self._known:
            return None
        means = ([group.mean(which) for group in groups] for which in ("first", "second"))
        found = divergence.find(*means, known=self._known)
        self._known = len(groups)
        if found is None:
            return None
        since = groups[found.onset].step
        self._found = {"onset": since, "step": groups[found.noticed].step}
        self._found |= {"reward_rise": round(found.reward_rise, 2), "shadow_rise": round(found.shadow_rise, 2)}
        members = [one for group in groups[found.onset :] for one in group.members]
        worst = max(members, key=lambda one: one.first["total"] - (one.second or {})["total"])
        return (
            f"the reward has parted from the shadow judge: since step {since} it has risen by {found.reward_rise:.2f}, "
            f"and the shadow's scores of the same answers by {found.shadow_rise:+.2f}; the policy may be learning the "
            f"judge. They differ most on an answer to {worst.id!r} (rollout {worst.rollout}): reward "
            f"{worst.first['total']:.2f}, shadow {(worst.second or {})['total']:.2f}. Read it in the report"
        )

    def summary(self) -> dict[str, Any]:
        """For summary.json; empty where nothing has parted."""
        return {"divergence": self._found} if self._found else {}

    def _read(self, step: int) -> list[SecondScore]:
        new = list(self._new())
        grouped = defaultdict[tuple[str, str], list[SecondScore]](list)
        for one in new:
            if one.second is not None:
                grouped[one.kind, one.group].append(one)
        for (kind, name), members in grouped.items():
            self._groups[kind].setdefault(name, _Group(step, [])).members.extend(members)
        return new

    def _new(self) -> Iterable[SecondScore]:
        for path in sorted(self._folder.glob("*.jsonl")):
            for _, line in self._tails.setdefault(path, jsonlines.Tail(path)).new():
                try:
                    one = msgspec.json.decode(line, type=SecondScore)
                except ValueError:
                    continue  # cut by a kill
                one.group = f"{path.name}:{one.group}"
                yield one
