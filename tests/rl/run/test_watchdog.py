"""The watchdog: what stands still is ended and named. Real Ray, a run that only waits."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SETTING = """
import os, signal, sys, threading, time
from pathlib import Path
import ray
from rl.errors import RunFailedError
from rl.run.interrupt import interruptible
from rl.rollout.judge_workers import Workers
from rl.run.watchdog import Watchdog
log = Path(sys.argv[1]) / "train.log"
log.write_text("")
ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR")

def watched(wait, **deadlines):
    started = time.monotonic()
    tell = lambda error: print("lost:", error, flush=True)
    deadlines = {"start_s": 60, "stall_s": 60} | deadlines
    try:
        with interruptible() as interrupt, Watchdog(Workers([]), interrupt, log, last_words=tell, **deadlines):
            wait()
        print("ended by itself", flush=True)
    except RunFailedError as error:
        print("failed:", error, "after", round(time.monotonic() - started), flush=True)
"""


def run(folder: Path, code: str, timeout: float = 90) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SETTING + textwrap.dedent(code), str(folder)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_run_in_which_nothing_moves_is_ended_and_one_that_logs_is_not(tmp_path):
    _, out = run(
        tmp_path,
        """
        def talks():
            for _ in range(8):
                time.sleep(1)
                log.open("a").write("a step")
        watched(talks, stall_s=4)
        watched(lambda: time.sleep(60), stall_s=4)
        """,
    )
    assert "ended by itself" in out, out
    assert "failed: nothing has moved for 4 s (run.stall_s): no call waits for the judge" in out, out
    assert "resume=true" in out


def test_a_placement_group_that_ray_cannot_place_is_named(tmp_path):
    _, out = run(
        tmp_path,
        """
        from ray.util.placement_group import placement_group
        watched(lambda: ray.get(placement_group([{"GPU": 1, "CPU": 1}] * 2).ready()), start_s=3)
        """,
    )
    assert "failed: Ray has not placed 2 bundles with 2 GPUs within 3 s (run.deadline_start_s)" in out, out


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_a_head_that_is_gone_ends_the_process_with_a_sentence(tmp_path):
    code, out = run(
        tmp_path,
        """
        def kill_head():
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    words = (entry / "cmdline").read_bytes()
                    parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
                    if b"gcs_server" in words and parent == str(os.getpid()):
                        os.kill(int(entry.name), signal.SIGKILL)
        @ray.remote
        def forever():
            time.sleep(600)
        waiting = forever.remote()
        threading.Timer(1, kill_head).start()
        watched(lambda: ray.get(waiting))
        """,
    )
    assert code == 1 and "lost: Ray's head at" in out and "resume=true" in out, out
