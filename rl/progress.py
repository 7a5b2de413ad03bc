"""What a person sees of a run: a line per step while it trains, a table when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from rich.console import Console
from rich.table import Table

from longreward.commands.accounts import clock, money
from longreward.schema import DIMENSIONS
from rl.heldout import Scores
from rl.judge_workers import Workers

if TYPE_CHECKING:
    from rl.session import Session

SHORT = {"total": "reward", "helpfulness": "helpful", "logicality": "logical"}
SHORT |= {"faithfulness": "faithful", "completeness": "complete"}
_POLL_S = 1.0
_LINES_AT_MOST = 200  # a long run prints every so-manieth step


class Progress:
    """Prints a line per training step from the judge workers' counts. Use as a context around training."""

    def __init__(
        self,
        run: Session,
        answers_per_step: int,
        steps: int,
        on_step: Callable[[int], None],
    ) -> None:
        """`on_step` is called with each new step's number, from this thread."""
        self._console, self._workers, self._directory = run.console, run.workers, run.config.directory
        self._first_step, self._on_step = run.first_step, on_step
        self._paused = False
        self._answers_per_step, self._steps = answers_per_step, steps
        self._every = max(1, steps // _LINES_AT_MOST)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        last, started, step = totals(self._workers), time.monotonic(), self._first_step
        told = step
        begun = last["train"]
        first: tuple[float, int] | None = None
        while not self._ended.wait(_POLL_S):
            try:
                self._tell_of_a_pause()
                now = totals(self._workers)
            except ray.exceptions.RayError:
                continue  # busy; it answers again
            reached = self._first_step + int((now["train"] - begun) // self._answers_per_step)
            if reached > told:
                told = reached
                self._on_step(reached)
            if (reached < step + self._every and reached < self._steps) or reached <= step:
                continue
            step, clock = reached, time.monotonic()
            first = first or (clock, step)  # the first step holds the engines' warm-up; the pace is taken after it
            pace = (clock - first[0]) / (step - first[1]) if step > first[1] else None
            self._console.print(self._line(step, last, now, pace, clock - started), highlight=False, soft_wrap=True)
            last = now

    def _tell_of_a_pause(self) -> None:
        if self._workers.limits is None:
            return
        state = ray.get(self._workers.limits.state.remote(), timeout=30)
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
            self._console.print("the cap was raised: the run goes on", highlight=False)
        self._paused = state["paused"]

    def _line(self, step: int, last: dict[str, float], now: dict[str, float], pace: float | None, wall: float) -> str:
        scored = now.get("n", 0) - last.get("n", 0)
        void = 1 - scored / max(1.0, now["train"] - last["train"])
        parts = [f"step {step:>{len(str(self._steps))}}/{self._steps}"]
        for name in ["total", *DIMENSIONS]:
            if name in now and scored > 0:
                label = SHORT[name]
                parts.append(f"{label} {(now[name] - last.get(name, 0)) / scored:.2f}")
        parts.append(f"void {max(0.0, void):.0%}")
        if now["cost"]:
            parts.append(f"cost {money(now['cost'])}")
        left = f", {clock(pace * (self._steps - step))} left" if pace else ""
        parts.append(f"{clock(wall)}{left}")
        return "  ".join(parts)


def print_table(console: Console, before: Scores, after: Scores | None, gain: dict[str, Any] | None) -> None:
    """Held-out means before and after training, and the gain with its 95% interval."""
    console.print(
        f"\nheld-out reward (0-10), {len(before.prompts)} documents, {before.answers} answers", highlight=False
    )
    table = Table()
    table.add_column("")
    for heading in ["before", "after", "change"] if after else ["score"]:
        table.add_column(heading, justify="right")
    old, new = before.means(), after.means() if after else {}
    for name in ["total", *DIMENSIONS]:
        if old[name] is None:
            continue
        cells = [f"{old[name]:.2f}"]
        if after:
            value = new[name]
            cells += ["-", "-"] if value is None else [f"{value:.2f}", f"{value - (old[name] or 0):+.2f}"]
        table.add_row("reward" if name == "total" else name, *cells, style="bold" if name == "total" else None)
    console.print(table)
    if gain and gain["interval"]:
        low, high = gain["interval"]
        console.print(f"gain {gain['total']:+.2f}, 95% interval {low:+.2f} to {high:+.2f}", highlight=False)
    void = before.void + (after.void if after else 0)
    if void:
        console.print(f"{void} answers had no reward (judge failures) and are left out", style="yellow")


def totals(workers: Workers) -> dict[str, float]:
    """Over all judge workers: `answers`, `train` (answers of that split), `void`, `calls`, and the train split's sums
    of scores (`total`, each dimension) over its `n` valid answers; the judge's `tokens` and `cost`."""
    total: dict[str, float] = {"train": 0, "answers": 0, "void": 0, "calls": 0, "tokens": 0, "cost": 0}
    for stats in workers.stats():
        counts = stats["counts"]
        for split in ("train", "heldout"):
            total["answers"] += counts.get(split, 0)
        for name in ("train", "void"):
            total[name] += counts.get(name, 0)
        usage = stats["usage"]
        total["calls"] += usage["calls"]
        total["tokens"] += usage["prompt_tokens"] + usage["completion_tokens"]
        total["cost"] += usage["cost"]
        for name, value in stats["sums"].items():
            total[name] = total.get(name, 0) + value
    return total
