"""What a person sees while a run goes on: a view in its place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rl.monitor import progress
from rl.monitor.live_view import Figure, Screen, View, spark
from rl.monitor.progress import TrainingProgress
from rl.rollout.judge_wait import JudgeWait

SCRIPT = """
import os, sys, time
from pathlib import Path
from rich.text import Text
from rl.run.run_directory import logs_to
from rl.monitor.live_view import Screen
with logs_to(Path(sys.argv[1]), verbose=False) as console:
    screen = Screen(console)
    with screen.live():
        console.print("a line for the person")
        os.write(1, b"from an engine\\n")
        print("from Python")
        with screen.showing(lambda: Text("three of four")):
            time.sleep(0.7)
        if sys.argv[2] == "killed":
            os.kill(os.getpid(), 9)
    console.print("the end")
"""


def shown(renderable: Any, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def on_the_screen(sent: str) -> list[str]:
    """The lines that a terminal shows in the end."""
    lines, row = [""], 0
    for piece in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", sent):
        if piece == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif piece == "\x1b[1A":
            row -= 1
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif not piece.startswith(("\x1b", "\r")):
            lines[row] += piece
    return [line for line in lines if line]


def on_a_terminal(log: str, how: str) -> str:
    """All that a terminal is sent by `SCRIPT`."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    words = [sys.executable, "-c", SCRIPT, log, how]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    found = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        found += piece
    process.wait(60)
    os.close(ours)
    return found.decode()


def test_on_a_terminal_a_view_stays_below_the_lines_and_logs_stay_away(tmp_path):
    seen = on_a_terminal(str(tmp_path / "log"), "ends")
    assert "a line for the person" in seen and "three of four" in seen and "the end" in seen
    assert "from an engine" not in seen and "from Python" not in seen
    assert (tmp_path / "log").read_text() == "from an engine\nfrom Python\n"
    assert on_the_screen(seen) == ["a line for the person", "the end"]


@pytest.mark.parametrize("how", ["ends", "killed"])
def test_the_terminal_has_its_cursor_however_the_run_ends(tmp_path, how):
    seen = on_a_terminal(str(tmp_path / "log"), how)
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


def test_without_a_terminal_there_are_only_lines():
    console = Console(file=io.StringIO())
    screen = Screen(console)
    with screen.live(), screen.showing(lambda: pytest.fail("nobody can see it")):
        assert not screen.is_live
        console.print("a line")
        time.sleep(0.3)
    assert console.file.getvalue() == "a line\n"


def test_a_view_has_how_far_it_is_and_each_figure_with_its_change():
    rising = [5.0 + step / 10 for step in range(40)]
    view = View("step", 40, 100, 83, 125, [Figure("reward", rising), Figure("logical", [7.0] * 40)], ["void 0.4%"])
    text = shown(view)
    assert "step 40/100" in text and "1:23, 2:05 left" in text and "void 0.4%" in text
    reward, logical = (line for line in text.splitlines() if line.startswith(("reward", "logical")))
    # The mean of the last four steps, and of the first four.
    assert reward.split()[1:3] == ["8.75", "+3.60"] and logical.split()[1:3] == ["7.00", "+0.00"]
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.parametrize("width", [12, 30, 200])
def test_a_view_fits_any_terminal(width):
    figures = [Figure("reward", [1.0]), Figure("helpful", list(range(500)))]
    assert all(len(line) <= width for line in shown(View("step", 0, 9, 0, None, figures), width).splitlines())


def test_the_course_of_a_figure_goes_from_its_lowest_to_its_highest():
    assert spark(range(8)) == "▁▂▃▄▅▆▇█"
    assert spark([3.0]) == "" and spark([3.0, 3.0]) == "▁▁"
    long = spark(range(1000))
    assert len(long) == 24 and long[0] == "▁" and long[-1] == "█" and list(long) == sorted(long)


class Workers:
    """Judge workers that have scored so many answers, each with the reward of its step."""

    def __init__(self) -> None:
        self.answers, self.sum, self.void = 0, 0.0, 0
        self.waited = JudgeWait()

    def score(self, reward: float) -> None:
        self.answers, self.sum = self.answers + 1, self.sum + reward

    def spend(self) -> None:
        return None

    def stats(self) -> list[dict[str, Any]]:
        valid = self.answers - self.void
        sums = {"n": valid, "total": self.sum, "helpfulness": self.sum / 2} if valid else {}
        usage = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0.02 * self.answers}
        return [
            {"counts": {"train": self.answers, "void": self.void}, "sums": sums, "usage": usage, "wait": self.waited}
        ]

    def judge_wait(self) -> JudgeWait:
        return self.waited


@pytest.fixture
def training(monkeypatch, tmp_path):
    """A run of ten steps of four answers whose workers do as they are told."""
    monkeypatch.setattr(progress, "_POLL_S", 0.02)
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    config = SimpleNamespace(directory=tmp_path, reward=SimpleNamespace(name="longreward"))
    monkeypatch.setattr(progress.registry, "dimensions", lambda _: ["helpfulness"])
    plan = SimpleNamespace(config=config, flags=SimpleNamespace(answers_per_step=4))
    run = SimpleNamespace(console=console, workers=Workers(), plan=plan, screen=Screen(console))
    run.reached = []
    return run


def progress_of(run: Any) -> TrainingProgress:
    return TrainingProgress(run.plan, run.screen, run.workers, run.reached.append, steps=10)


def steps(run: Any, told: TrainingProgress, count: int) -> None:
    for step in range(count):
        for _ in range(4):
            run.workers.score(4.0 + step)
        deadline = time.monotonic() + 10
        while len(run.reached) <= step:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.05)
    assert run.reached == list(range(1, count + 1))


def test_training_on_a_terminal_is_one_view_and_no_line_per_step(training):
    with training.screen.live(), progress_of(training) as told:
        assert "step 0/10" in shown(told.view())
        steps(training, told, 3)
        training.workers.score(7.0)
        training.workers.waited = JudgeWait(3, 15.0, 60.0)
        time.sleep(0.1)
        text = shown(told.view())
    assert "s a step (judge 25%)" in text and told.waited == training.workers.waited
    assert "step 3/10" in text and "step 4: 1 of 4 answers scored" in text and "cost 0.26" in text
    assert next(line for line in text.splitlines() if "reward" in line).split()[:3] == ["reward", "6.00", "+2.00"]
    assert next(line for line in text.splitlines() if "helpful" in line).split()[:3] == ["helpful", "3.00", "+1.00"]
    assert " left" in text and "void 0.0%" in text
    assert "step 1/10  reward" not in training.console.file.getvalue()
    left = on_the_screen(training.console.file.getvalue())
    assert [line.split()[0] for line in left] == ["step", "reward", "helpful", "the", "step"], "the last view stays"


def test_training_elsewhere_is_a_line_per_step(training):
    with progress_of(training) as told:
        steps(training, told, 3)
    lines = training.console.file.getvalue().splitlines()
    assert [line[:34] for line in lines] == [
        f"step  {step}/10  reward {3 + step:.2f}  helpful {(3 + step) / 2:.2f}"[:34] for step in (1, 2, 3)
    ]


def test_steps_without_a_score_do_not_break_the_view(training):
    with training.screen.live(), progress_of(training) as told:
        training.workers.void = 4
        steps(training, told, 1)
        text = shown(told.view())
    assert "step 1/10" in text and "void 100.0%" in text and "reward" not in text
