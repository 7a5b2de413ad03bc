"""Where the output of a run goes, and that its end does not wait for others."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path
from rl.run.run_directory import logs_to
with logs_to(Path(sys.argv[1]), verbose=sys.argv[2] == "verbose") as console:
    console.print("for the person")
    print("from python", flush=True)
    os.system("echo from a child")
    print("an error", file=sys.stderr, flush=True)
    subprocess.Popen(["sleep", "8"])  # holds the log's descriptor, as helper processes do
print("after", flush=True)
"""


@pytest.mark.parametrize("mode", ["quiet", "verbose"])
def test_everything_is_in_the_log_and_the_screen_has_what_it_should(tmp_path, mode):
    log = tmp_path / "logs" / "train.log"
    done = subprocess.run([sys.executable, "-c", SCRIPT, log, mode], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    logged = log.read_text().splitlines()
    assert sorted(logged) == ["an error", "from a child", "from python"]
    assert done.stdout.splitlines() == ["for the person", "after"]
    assert sorted(done.stderr.splitlines()) == (sorted(logged) if mode == "verbose" else [])
