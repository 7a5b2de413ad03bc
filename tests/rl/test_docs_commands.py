"""What the tutorial, the guides and the how-to pages tell to type works.

Commands of the library run here, one after the other as a reader would type them. Those that train are read here, with
their configurations, and run whole by the end-to-end tests. What is marked as needing a cluster or a judge of one's own
is only read.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from longreward import cli
from longreward.commands.options import reward_config
from rl.offline.config import load_any
from rl.paper.config import load as load_reproduction
from rl.run import command as command_line

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = ("tutorial", "score", "judge", "train", "offline", "evaluate", "reproduce")
PAGES = [*(DOCS / f"{name}.md" for name in GUIDES), *sorted((DOCS / "how-to").glob("*.md"))]
MARKS = ("cluster", "judge")
PROGRAMS = {"longreward", "python", "ray", "tail", "export", "sbatch", "kubectl", "python3.11"}
RUN_BY_E2E_TESTS = {"rl/train.py", "rl/dpo.py", "rl/sft.py", "rl/evaluate.py", "rl/reproduce.py", "rl/doctor.py"}


@dataclass(frozen=True)
class Command:
    page: str
    words: tuple[str, ...]
    mark: str

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands(page: Path) -> list[Command]:
    found = []
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"^ {4,6}(\S(?:\\\n|[^\n])*)$", text, re.MULTILINE):
        line, _, comment = block.replace("\\\n", " ").partition(" # ")
        mark = comment.strip()
        assert mark in (*MARKS, ""), f"{page.name}: {block}: marked as {mark!r}"
        words = tuple(shlex.split(line))
        assert words[0] in PROGRAMS or (ROOT / words[0]).is_file(), f"{page.name}: {line}: what is {words[0]}?"
        found.append(Command(page.name, words, mark))
    return found


OURS = [command for page in PAGES for command in commands(page)]
CONFIGURED = [command for command in OURS if "--config" in command.words]
LIBRARY = [command for command in OURS if command.words[0] == "longreward" and not command.mark]


def test_all_pages_have_commands_and_the_rest_is_run_elsewhere() -> None:
    assert {command.page for command in OURS} == {page.name for page in PAGES}
    assert len(LIBRARY) > 5
    for command in OURS:
        if command.words[0] == "python" and not command.mark:
            assert command.words[1] in RUN_BY_E2E_TESTS, command
    text = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)
    )
    assert all(name in text for name in {"sft.py", *RUN_BY_E2E_TESTS} - {"rl/sft.py"})


@pytest.mark.parametrize(
    ("word", "name"), [([], "grpo_cpu"), pytest.param(["smollm2"], "grpo_smollm2_cpu", marks=pytest.mark.e2e)], ids=str
)
def test_the_quickstart_installs_and_starts_what_it_says(word: list[str], name: str, tmp_path: Path) -> None:
    if not list(Path(sys.prefix).glob(".installed-*")):
        pytest.skip("this environment was not made by launch/install.sh")
    words = ["bash", "launch/quickstart.sh", *word, "--dry-run", f"run.dir={tmp_path}"]
    environment = os.environ | {"VENV": sys.prefix}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / f"{name}-dry-run" / "command.txt").is_file()


@pytest.mark.parametrize("command", CONFIGURED, ids=str)
def test_options_and_configuration_are_understood(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if not any(word.startswith("rl/") for word in command.words):
        words = list(command.words[command.words.index("longreward") + 1 :])
        options, overrides = cli.parser(words[0]).parse_known_args(words)
        assert options.config.is_file()
        reward_config(options, overrides)
        return
    words = list(command.words[[word.startswith("rl/") for word in command.words].index(True) + 1 :])
    source = (ROOT / next(word for word in command.words if word.startswith("rl/"))).read_text(encoding="utf-8")
    parser = command_line.parser(None, dry_run="dry_run=True" in source)
    options, rest = parser.parse_known_args(words)
    flags = [word for word in rest if word.startswith("-")]
    assert all(f'"{flag}"' in source for flag in flags), flags
    load = load_reproduction if "rl/reproduce.py" in command.words else load_any
    load(options.config, [word for word in rest if re.match(r"[\w.]+=", word)])


def test_the_librarys_commands_run_in_their_order(tmp_path: Path) -> None:
    for name in ("docs", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    run = tmp_path / "runs" / "grpo_cpu"
    (run / "logs").mkdir(parents=True)
    (run / "logs" / "train.log").write_text("the end of the log\n")
    (run / "config.yaml").write_text("run: {name: grpo_cpu}\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    seen = set()
    for command in sorted(LIBRARY, key=lambda one: "runs/grpo_cpu" in one.words):
        if command.words in seen:
            continue
        seen.add(command.words)
        if "runs/grpo_cpu" in command.words and not (run / "store").exists():
            (run / "store").mkdir()
            _as_a_runs_store(tmp_path / "scored.jsonl", run / "store" / "answers-0-0.jsonl")
        words = [sys.executable, "-m", *command.words]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    for name in ("scored.jsonl", "agreement.json", "scored.report.html", "runs/grpo_cpu/report.html"):
        assert (tmp_path / name).stat().st_size > 100, name


def _as_a_runs_store(scored: Path, store: Path) -> None:
    """What a training run keeps of the same answers."""
    with store.open("w", encoding="utf-8") as file:
        for number, line in enumerate(scored.read_text(encoding="utf-8").splitlines()):
            row = json.loads(line)
            about = {"id": row["idx"], "split": "train", "rollout": f"{number:032x}", "tokens": 20, "truncated": False}
            total = {"time": 1.8e9, "query": "What?", "answer": "An answer.", "total": 5.0, "dimensions": {}}
            file.write(json.dumps(about | total) + "\n")


def test_the_example_in_python_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "score.md").read_text(encoding="utf-8"), re.DOTALL)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=True)
    total, score, status = done.stdout.split()
    assert 0 <= float(total) <= 10 and 0 <= float(score) <= 10 and status == "ok"


def test_every_picture_and_link_of_the_pages_is_there() -> None:
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            if link.startswith("http"):
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may end in, as GitHub makes it of the heading."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_configuration_reference_is_up_to_date() -> None:
    code = "import make_config; print(make_config.page() == make_config.OUT.read_text(encoding='utf-8'))"
    words = [sys.executable, "-c", code]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{DOCS}"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "True", "run python docs/make_config.py"
