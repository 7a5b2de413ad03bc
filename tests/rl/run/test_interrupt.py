"""Ending the main thread's wait from another thread, in a process of its own: it is about signals."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.stdout + done.stderr


def test_a_wait_for_ray_is_ended_with_the_error_that_says_why():
    out = run(
        """
        import threading, time, ray
        from rl.errors import StalledError
        from rl.run.interrupt import interruptible
        ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")

        @ray.remote
        def forever():
            time.sleep(600)

        started = time.monotonic()
        try:
            with interruptible() as interrupt:
                threading.Timer(1, interrupt.raise_in_main, [StalledError("it waits for nothing")]).start()
                ray.get(forever.remote())
        except StalledError as error:
            print("ended", error, round(time.monotonic() - started))
        """
    )
    assert "ended it waits for nothing" in out, out


def test_ctrl_c_stays_ctrl_c():
    out = run(
        """
        import os, signal, threading, time
        from rl.run.interrupt import interruptible
        try:
            with interruptible():
                threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
                time.sleep(30)
        except KeyboardInterrupt:
            print("stopped")
        """
    )
    assert out.strip() == "stopped"
