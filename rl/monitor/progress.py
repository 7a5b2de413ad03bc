"""What a person sees of training: a live view or a line per step while it goes on, a table when it ends."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import ray
from rich.console import Console
from rich.table import Column, Table

from longreward.text.amounts import money
from rl.config import RunConfig
from rl.monitor.live_view import Figure, Screen, View, window
from rl.plan import RunPlan
from rl.reward_functions import registry
from rl.rollout.heldout_scores import HeldoutScores, gain
from rl.rollout.judge_wait import JudgeWait
from rl.rollout.judge_workers import Workers

SHORT = {"total": "reward", "helpfulness": "helpful", "logicality": "logical"}
SHORT |= {"faithfulness": "faithful", "completeness": "complete"}
SUM = "sum/"
"""Before the names of a reward's scores in `totals`: a reward may call its parts what it likes."""
_POLL_S = 1.0
_LAST_STEP = "the last step, and how it differs from the first"
_LINES_AT_MOST = 200  # a long run leaves out the same number of steps between two lines


class TrainingProgress:
    """Tells of each training step from the judge workers' counts. Use as a context around training."""

    def __init__(
        self,
        plan: RunPlan[RunConfig],
        screen: Screen,
        workers: Workers,
        on_step: Callable[[int], None],
        *,
        steps: int,
        first_step: int = 0,
    ) -> None:
        """`on_step` is called with each new step's number, from a thread of its own; `steps` are those of the whole
        run, which continues from `first_step`."""
        self._console, self._workers, self._directory = screen.console, workers, plan.config.directory
        self._screen, self._shown = screen, ExitStack()
        self._first_step, self._on_step = first_step, on_step
        self._dimensions = registry.dimensions(plan.config.reward)
        self._paused = False
        self._answers_per_step, self._steps = plan.flags.answers_per_step, steps
        self._every = 1 if screen.is_live else max(1, steps // _LINES_AT_MOST)
        self._begun = time.monotonic()
        self._step, self._courses = first_step, dict[str, list[float]]()
        self._step_s: float | None = None  # seconds a step, where known
        self._first_reached: tuple[float, int] | None = None
        self._before, self._now = Counter[str](), Counter[str]()
        self._waited = JudgeWait()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> TrainingProgress:
        self._thread.start()
        self._shown.enter_context(self._screen.showing(self.view))
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5)
        with suppress(ray.exceptions.RayError):  # gone, or busy
            self._waited = self._workers.judge_wait()
        self._shown.close()
        if self._screen.is_live and self._courses:
            self._console.print(self.view())  # as it was at the end

    @property
    def waited(self) -> JudgeWait:
        """How long all steps waited for the judge, once training is over."""
        return self._waited

    def view(self) -> View:
        """For a terminal."""
        now, before = self._now, self._before
        notes, seconds = [], self._step_s
        if now:
            scored, void = now["train"] - before["train"], now["void"]
            per_step = self._answers_per_step
            if self._step < self._steps:
                notes.append(f"step {self._step + 1}: {min(scored, per_step):.0f} of {per_step} answers scored")
            notes.append(f"void {void / max(1.0, now['answers']):.1%}")
            if now["cost"]:
                notes.append(f"cost {money(now['cost'])}")
        if seconds:
            judge = f" (judge {now['wait_s'] / now['steps_s']:.0%})" if now["steps_s"] else ""
            notes.append(f"{seconds:.1f} s a step{judge}")
        figures = [Figure(SHORT.get(name, name), values) for name, values in list(self._courses.items())]
        over = ""
        if figures and (steps := len(figures[0].values)) > 1:
            span = window(steps)
            over = f"the last {span} steps, and how they differ from the first {span}" if span > 1 else _LAST_STEP
        return View("step", self._step, self._steps, *self._times(), figures, notes, over)

    def _watch(self) -> None:
        self._before = totals(self._workers)
        told, begun = self._first_step, self._before["train"]
        while not self._ended.wait(_POLL_S):
            try:
                self._tell_of_a_pause()
                now = self._now = totals(self._workers)
            except ray.exceptions.RayError:
                continue  # busy; it answers again
            reached = self._first_step + int((now["train"] - begun) // self._answers_per_step)
            if reached > told:
                told = reached
                self._on_step(reached)
            if (reached < self._step + self._every and reached < self._steps) or reached <= self._step:
                continue
            self._step = reached
            # The first step holds the engines' warm-up: the pace is taken after it.
            at = time.monotonic()
            since, first = self._first_reached = self._first_reached or (at, reached)
            if reached > first:
                self._step_s = (at - since) / (reached - first)
            scored = now[f"{SUM}n"] - self._before[f"{SUM}n"]
            # The mean reward and its parts over the valid answers since the last step that was shown.
            names = [name for name in ("total", *self._dimensions) if SUM + name in now and scored > 0]
            scores = {name: (now[SUM + name] - self._before[SUM + name]) / scored for name in names}
            for name, value in scores.items():
                self._courses.setdefault(name, []).append(value)
            if not self._screen.is_live:
                self._console.print(self._line(scores, scored), highlight=False, soft_wrap=True)
            self._before = now

    def _tell_of_a_pause(self) -> None:
        state = self._workers.spend()
        if state is None:
            return
        if state["paused"] and not self._paused:
            used = f"{state['used']['cost']:,.2f} in money, {state['used']['tokens']:,} tokens"
            self._console.print(
                f"paused: reward.judge.spend is used up ({used}); raise it with "
                f"`python rl/spend.py {self._directory} max_cost=... max_tokens=...`, and the run goes on",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )
        if self._paused and not state["paused"]:
            self._console.print("the cap was raised: the run continues", highlight=False)
        self._paused = state["paused"]

    def _line(self, scores: dict[str, float], scored: float) -> str:
        now = self._now
        void = 1 - scored / max(1.0, now["train"] - self._before["train"])
        notes = [f"void {max(0.0, void):.0%}"]
        if steps_s := now["steps_s"] - self._before["steps_s"]:
            notes.append(f"judge wait {(now['wait_s'] - self._before['wait_s']) / steps_s:.0%}")
        if now["cost"]:
            notes.append(f"cost {money(now['cost'])}")
        figures = [Figure(SHORT.get(name, name), [value]) for name, value in scores.items()]
        return View("step", self._step, self._steps, *self._times(), figures, notes).line()

    def _times(self) -> tuple[float, float | None]:
        """Seconds since training began, and seconds that it will still take where the pace is known."""
        pace = self._step_s
        return time.monotonic() - self._begun, pace * (self._steps - self._step) if pace else None


def show_heldout(
    console: Console, scores: Sequence[HeldoutScores], names: Sequence[str] = ("before", "after")
) -> dict[str, Any]:
    """Print the held-out means of a policy, or of two, by default before and after training, with the gain and its 95%
    interval. Returns what summary.json tells of them: `scores`, or `before`, `after` and `gain`."""
    before, after = scores[0], scores[1] if len(scores) > 1 else None
    console.print(f"\nheld-out reward (0-10), {len(before.prompts)} prompts, {before.answers} answers", highlight=False)
    headings = [*names, "change"] if after else ["score"]
    table = Table("", *(Column(heading, justify="right") for heading in headings))
    old, new = before.means(), after.means() if after else {}
    for name in before.names:
        if old[name] is None:
            continue
        cells = [f"{old[name]:.2f}"]
        if after:
            value = new.get(name)
            cells += ["-", "-"] if value is None else [f"{value:.2f}", f"{value - (old[name] or 0):+.2f}"]
        table.add_row("reward" if name == "total" else name, *cells, style="bold" if name == "total" else None)
    console.print(table)
    summary = {"scores": before.summary()}
    if after:
        summary = {"before": before.summary(), "after": after.summary(), "gain": gain(before, after)}
        if summary["gain"]["interval"]:
            low, high = summary["gain"]["interval"]
            total = summary["gain"]["total"]
            console.print(f"gain {total:+.2f}, 95% interval {low:+.2f} to {high:+.2f}", highlight=False)
    void = before.void + (after.void if after else 0)
    if void:
        console.print(f"{void} answers had no reward (judge failures) and are not in these means", style="yellow")
    return summary


def totals(workers: Workers) -> Counter[str]:
    """Over all judge workers: `answers`, `train` (answers of that split), `void`, the judge's `cost`, seconds that
    steps took (`steps_s`) and waited for the judge (`wait_s`); and, each after `SUM`, the train split's sums of scores
    (`total`, each dimension) over its `n` valid answers."""
    total: Counter[str] = Counter()
    for stats in workers.stats():
        counts = Counter(stats["counts"])
        total.update({"train": counts["train"], "answers": counts["train"] + counts["heldout"]})
        total.update({"void": counts["void"], "cost": stats["usage"]["cost"]})
        total.update({"wait_s": stats["wait"].wait_s, "steps_s": stats["wait"].steps_s})
        total.update({SUM + name: value for name, value in stats["sums"].items()})
    return total
