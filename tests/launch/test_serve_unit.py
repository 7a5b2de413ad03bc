"""The systemd unit of `longreward serve`: systemd reads it, and it fits what the command does."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from longreward import cli
from longreward.server.config import ServeConfig

UNIT = Path(__file__).parents[2] / "launch" / "longreward-serve.service"


@pytest.fixture
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def test_the_command_is_one_that_the_cli_takes(service):
    python, *words = shlex.split(service["ExecStart"])
    assert python.endswith("/python") and words[:2] == ["-m", "longreward"]
    assert cli.parser("serve").parse_args(words[2:]).command == "serve"


def test_it_waits_for_everything_accepted_and_signals_the_parent_alone(service):
    defaults = ServeConfig()
    assert int(service["TimeoutStopSec"]) > defaults.deadline_s + defaults.body_timeout_s + 20
    assert service["KillMode"] == "mixed"


def test_the_token_comes_from_a_file_and_is_on_no_command_line(service):
    assert service["EnvironmentFile"].startswith("/etc/longreward/")
    assert "token" not in service["ExecStart"].lower() and "Environment" not in service


def test_a_crash_is_restarted_and_a_wrong_configuration_is_not(service):
    assert service["Restart"] == "on-failure" and service["RestartPreventExitStatus"] == "2"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_reads_it_without_a_complaint(tmp_path):
    unit = tmp_path / UNIT.name
    # The command stands where it will be installed; here that is nowhere.
    unit.write_text(UNIT.read_text().replace("/opt/longreward/.venv/bin/python", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert done.returncode == 0 and not complaints, done.stdout + done.stderr


def test_memory_and_threads_are_bounded(service):
    assert service["MemoryMax"] and service["MemoryHigh"] and service["TasksMax"]
