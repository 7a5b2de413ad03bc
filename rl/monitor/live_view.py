"""The part of the screen that stays in its place while lines go by above it: what goes on now, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from longreward.text.amounts import clock

_REFRESHES_PER_S = 4
_BAR, _SPARK = 32, 24  # characters
_LEVELS = "▁▂▃▄▅▆▇█"


class Screen:
    """What a person sees of a run. Without a terminal, or before `live`, only the lines that are printed."""

    def __init__(self, console: Console, started: float | None = None) -> None:
        """`started`: `time.monotonic()` when the run began; now, where it is left out."""
        self.console = console
        self.started = time.monotonic() if started is None else started
        self.is_live = False
        self._views: list[Callable[[], RenderableType]] = []
        self._since = time.monotonic()
        self._spinner = Spinner("dots")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Around all that a person may wait for. Nothing of it is left on the screen at the end."""
        if not self.console.is_terminal:
            yield
            return
        # Nothing is redirected: what Python prints belongs in the log, where its descriptors lead already.
        view = Live(
            get_renderable=self._render,
            console=self.console,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with view:
            self.console.show_cursor(True)  # a run that is killed would leave the terminal without one
            self.is_live = True
            try:
                yield
            finally:
                self.is_live = False

    @contextmanager
    def showing(self, view: Callable[[], RenderableType]) -> Iterator[None]:
        """Show what `view` returns, asked several times a second from another thread."""
        self._views.append(view)
        try:
            yield
        finally:
            self._views.remove(view)

    def say(self, text: str) -> None:
        """Print one line, with the time since the run began."""
        passed = clock(time.monotonic() - self.started)
        self.console.print(f"[{passed}] {text}", highlight=False, markup=False, soft_wrap=True)
        self._since = time.monotonic()  # what goes on now has been said in this line

    def _render(self) -> RenderableType:
        if self._views:
            return self._views[-1]()
        self._spinner.update(text=Text(clock(time.monotonic() - self._since), style="dim"))
        return self._spinner


@dataclass
class View:
    """How far something has got, and its figures."""

    title: str
    done: int
    total: int
    passed_s: float
    left_s: float | None = None
    """None where it is not known yet."""
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    over: str = ""
    """What the figures are taken over, and what their changes are counted from."""

    def line(self) -> str:
        """The same in one line for a log, with the latest value of each figure."""
        done = f"{self.title} {self.done:>{len(f'{self.total:,}')},}/{self.total:,}"
        figures = [f"{figure.name} {figure.values[-1]:.2f}" for figure in self.figures]
        return "  ".join([done, *figures, *self.notes, self._time])

    @property
    def _time(self) -> str:
        return clock(self.passed_s) + ("" if self.left_s is None else f", {clock(self.left_s)} left")

    def __rich__(self) -> RenderableType:
        head = Table.grid(padding=(0, 2, 0, 0))
        bar = ProgressBar(max(1, self.total), min(self.done, self.total), width=_BAR)
        head.add_row(Text(f"{self.title} {self.done:,}/{self.total:,}", style="bold"), bar, self._time)
        parts: list[RenderableType] = [head]
        if self.figures:
            table = Table.grid(padding=(0, 2, 0, 0))
            for justify in ("left", "right", "right", "left"):
                table.add_column(justify=justify, no_wrap=True)
            for figure in self.figures:
                table.add_row(*figure.cells())
            parts.append(table)
        parts += [Text(text, style="dim") for text in (self.over, "  ".join(self.notes)) if text]
        return Group(*parts)


@dataclass
class Figure:
    """A figure that changes from step to step."""

    name: str
    values: Sequence[float] = field(default_factory=list)
    """One for each step, the oldest first; at least one."""

    def cells(self) -> tuple[Text, Text, Text, Text]:
        """Its name, its mean of late, how that differs from the first ones, and its course."""
        span = window(len(self.values))
        now = fmean(self.values[-span:])
        change = Text("")
        if len(self.values) > 1:
            change = Text(f"{now - fmean(self.values[:span]):+.2f}", style="cyan")
        bold = "bold" if self.name == "reward" else ""
        return (
            Text(self.name, style=bold),
            Text(f"{now:.2f}", style=bold),
            change,
            Text(spark(self.values), style="cyan"),
        )


def window(steps: int) -> int:
    """How many steps at either end a figure is the mean of: a tenth, at least one, at most 20."""
    return max(1, min(20, steps // 10))


def spark(values: Sequence[float]) -> str:
    """The course of a figure in a few characters, between its own lowest and highest value."""
    if len(values) < 2:
        return ""
    width = min(_SPARK, len(values))
    ends = [round(place * len(values) / width) for place in range(width + 1)]
    binned = [fmean(values[begin:end]) for begin, end in pairwise(ends)]
    low, high = min(binned), max(binned)
    scale = (len(_LEVELS) - 1) / (high - low) if high > low else 0.0
    return "".join(_LEVELS[round((value - low) * scale)] for value in binned)
