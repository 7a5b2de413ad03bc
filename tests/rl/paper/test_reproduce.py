"""Reproducing the paper's table: what is run, in what order, once; and the table."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from longreward.errors import ConfigError
from longreward.schema import DimensionScore, JudgeCall, Reward, Sample, ScoredAnswer, Statement
from longreward.store import Store
from rl import reproduce
from rl.paper import config as paper
from rl.paper import dry_run, steps, table

ROOT = Path(__file__).parents[3]
ROWS: dict[str, dict[str, Any]] = {
    "base": {"model": "org/base"},
    "sft": {"config": "configs/sft_cpu.yaml"},
    "longreward": {"config": "configs/dpo_cpu.yaml", "start": "sft"},
    "lighter": {
        "config": "configs/dpo_cpu.yaml",
        "start": "sft",
        "answers": "longreward",
        "settings": ["pair.weights={faithfulness: 1}"],
    },
    "other": {"config": "configs/dpo_cpu.yaml", "start": "sft", "rescored": "longreward"},
    "online": {"config": "configs/grpo_cpu.yaml", "start": "sft"},
}
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
words = dict(word.split("=", 1) for word in sys.argv if "=" in word)
suffix = "-evaluation" if Path(__file__).stem == "evaluate" else ""
run = Path(words["run.dir"]) / (words["run.name"] + suffix)
run.parent.mkdir(parents=True, exist_ok=True)
with open(Path(words["run.dir"]).parent / "calls", "a") as calls:
    calls.write(" ".join([Path(__file__).stem, run.name, *sys.argv[1:]]) + "\\n")
if "--dry-run" in sys.argv:
    sys.exit()
run.mkdir(exist_ok=True)
if os.environ.get("STOP_AT") == run.name:
    def ended(*_):
        time.sleep(0.5)
        (run / "ended").touch()
        sys.exit(130)
    signal.signal(signal.SIGTERM, ended)
    (run / "begun").touch()
    signal.pause()
if os.environ.get("FAIL_AT") == run.name:
    sys.exit(2)
(run / "model").mkdir(exist_ok=True)
(run / "trained.json").write_text("{}")
(run / "summary.json").write_text("{}")
(run / "config.yaml").write_text("{}")
"""


@pytest.fixture
def reproduction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose commands only say that they were called, in `calls`."""
    monkeypatch.chdir(ROOT)
    for name in ("sft", "dpo", "train", "evaluate"):
        (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.setattr(steps, "PROGRAMS", tmp_path)
    monkeypatch.setattr(dry_run, "PROGRAMS", tmp_path)
    return write(tmp_path)


def write(folder: Path, **changes: Any) -> Path:
    settings = {"name": "paper", "dir": str(folder), "evaluation": "configs/grpo_cpu.yaml", "rows": ROWS} | changes
    (folder / "paper.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return folder / "paper.yaml"


def calls(path: Path) -> list[str]:
    """Program and run of each call."""
    file = path.parent / "calls"
    return [" ".join(line.split()[:2]) for line in file.read_text().splitlines()] if file.is_file() else []


def words(path: Path, run: str) -> list[str]:
    lines = (path.parent / "calls").read_text().splitlines()
    return next(line.split()[2:] for line in lines if line.split()[1] == run)


def test_every_row_is_trained_and_evaluated_in_order(reproduction: Path) -> None:
    assert reproduce.main(["--config", str(reproduction)]) == 0
    assert calls(reproduction) == [
        *("sft sft", "evaluate sft-evaluation", "evaluate base-evaluation"),
        *("dpo longreward", "evaluate longreward-evaluation"),
        *("dpo lighter", "evaluate lighter-evaluation"),
        *("dpo other", "evaluate other-evaluation"),
        *("train online", "evaluate online-evaluation"),
    ]
    runs = reproduction.parent / "paper"
    start = f"openrlhf.actor.model_name_or_path={runs}/sft/model"
    assert start in words(reproduction, "longreward") and start in words(reproduction, "online")
    assert "--stage" not in words(reproduction, "longreward")
    assert {"pair", "train", f"collect.stores=['{runs}/longreward/store']"} <= set(words(reproduction, "lighter"))
    assert {"collect", f"collect.responses={runs}/longreward/store"} <= set(words(reproduction, "other"))
    assert "data.heldout=null" in words(reproduction, "online")
    evaluated = words(reproduction, "base-evaluation")
    assert evaluated[:6] == [
        *("--config", "configs/grpo_cpu.yaml", "--model", "org/base"),
        *("--against", f"{runs}/sft-evaluation"),
    ]
    assert start in evaluated and "--against" not in words(reproduction, "sft-evaluation")


def test_started_again_it_does_only_what_is_not_there(reproduction: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_AT", "lighter")
    assert reproduce.main(["--config", str(reproduction)]) == 2
    monkeypatch.delenv("FAIL_AT")
    before = calls(reproduction)
    assert before[-1] == "dpo lighter"
    assert reproduce.main(["--config", str(reproduction)]) == 0
    assert calls(reproduction)[len(before) : len(before) + 2] == ["dpo lighter", "evaluate lighter-evaluation"]
    whole = calls(reproduction)
    assert reproduce.main(["--config", str(reproduction)]) == 0
    assert calls(reproduction) == whole


def test_only_some_rows_and_what_they_build_on(reproduction: Path) -> None:
    assert reproduce.main(["--config", str(reproduction), "--only", "lighter"]) == 0
    assert calls(reproduction) == [
        *("sft sft", "evaluate sft-evaluation", "dpo longreward"),
        *("dpo lighter", "evaluate lighter-evaluation"),
    ]


def test_a_row_with_other_settings_is_not_taken_for_it(reproduction: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, runs = ["--config", str(reproduction), "--only", "longreward"], reproduction.parent / "paper"
    assert reproduce.main(words) == 0
    changed = ROWS | {"sft": ROWS["sft"] | {"settings": ["train_sft.adam.lr=1.0e-3"]}}
    write(reproduction.parent, rows=changed)
    assert reproduce.main(words) == 2
    said = capsys.readouterr().err
    assert f"{runs}/sft was made with other settings" in said
    assert "train_sft.adam.lr was 1e-05 and is 0.001" in said and said.count("\n") == 1
    # As the message says: without that directory it is the turn of what builds on it.
    shutil.rmtree(runs / "sft")
    assert reproduce.main(words) == 2
    assert f"{runs}/sft-evaluation was made with other settings" in capsys.readouterr().err
    for name in ("sft-evaluation", "longreward", "longreward-evaluation"):
        shutil.rmtree(runs / name)
    before = len(calls(reproduction))
    assert reproduce.main(words) == 0
    assert len(calls(reproduction)) == before + 4


def test_what_changes_no_policy_may_be_changed(reproduction: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_AT", "longreward")
    assert reproduce.main(["--config", str(reproduction), "--only", "longreward"]) == 2
    monkeypatch.delenv("FAIL_AT")
    mended = ["openrlhf.vllm.gpu_memory_utilization=0.5", "wandb.mode=offline", "reward.workers=1", "run.stall_s=60"]
    write(reproduction.parent, settings=mended)
    assert reproduce.main(["--config", str(reproduction), "--only", "longreward"]) == 0
    assert calls(reproduction).count("sft sft") == 1 and calls(reproduction).count("dpo longreward") == 2
    # A row that is not done may be begun with other settings too: its own command looks at what is there.
    monkeypatch.setenv("FAIL_AT", "lighter")
    assert reproduce.main(["--config", str(reproduction), "--only", "lighter"]) == 2
    monkeypatch.delenv("FAIL_AT")
    lighter = ROWS["lighter"] | {"settings": ["pair.weights={logicality: 1}"]}
    write(reproduction.parent, settings=mended, rows=ROWS | {"lighter": lighter})
    assert reproduce.main(["--config", str(reproduction), "--only", "lighter"]) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_command_ends_with_the_reproduction_and_holds_its_directory_until_then(
    reproduction: Path, how: signal.Signals
) -> None:
    folder = reproduction.parent
    code = (
        "import sys; from pathlib import Path; from rl.paper import steps; from rl import reproduce;"
        f"steps.PROGRAMS = Path({str(folder)!r}); sys.exit(reproduce.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--config", str(reproduction), "--only", "longreward"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"STOP_AT": "sft"}, stderr=subprocess.PIPE)
    try:
        while not (folder / "paper/sft/begun").exists():
            assert process.poll() is None
            time.sleep(0.01)
        held = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert held.returncode == 2 and "another rl/reproduce.py works in" in held.stderr
        process.send_signal(how)
        process.wait()
    finally:
        process.kill()
    with (folder / "paper/.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as soon as the command is gone
        assert (folder / "paper/sft/ended").exists()
    if how is signal.SIGTERM:
        assert process.stderr is not None
        assert process.returncode == 130 and b"run the same command again" in process.stderr.read()
    assert subprocess.run(command, cwd=ROOT).returncode == 0
    assert calls(reproduction) == ["sft sft", "sft sft", "evaluate sft-evaluation", "dpo longreward",
                                   "evaluate longreward-evaluation"]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"sft": {}}, "either a model or a config"),
        ({"sft": {"model": "x", "config": "y"}}, "either a model or a config"),
        ({"sft": {"model": "x", "start": "sft"}}, "is not trained"),
        ({"x": {"config": "configs/dpo_cpu.yaml", "start": "sft"}, "sft": {"model": "y"}}, "no row before it"),
        ({"base": {"model": "x"}}, "against is 'sft'"),
        ({"sft": {"config": "c", "answers": "sft", "rescored": "sft"}}, "exclude each other"),
        ({"sft": {"model": "x"}, "a/b": {"model": "x"}}, "rows.a/b: it names a folder"),
        ({"sft": {"model": "x"}, "sft-evaluation": {"model": "x"}}, "no -evaluation"),
        ({"sft": {"config": "configs/sft_cpu.yaml", "settings": ["run.name=x"]}}, "run.name=x is not to be set here"),
        ({}, "rows"),
    ],
)
def test_rows_that_cannot_be_are_refused(
    reproduction: Path, rows: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce.main(["--config", str(write(reproduction.parent, rows=rows))]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"config": "configs/none.yaml"}, "rows.x: config file configs/none.yaml does not exist"),
        ({"config": "configs/grpo_cpu.yaml", "answers": "sft"}, "rows.x.answers is for rl/dpo.py"),
        ({"config": "configs/sft_cpu.yaml", "settings": ["pair.by=total"]}, "rows.x: "),
        ({"config": "configs/dpo_cpu.yaml", "settings": ["nonsense"]}, "'nonsense' is not a setting"),
    ],
)
def test_a_row_whose_configuration_cannot_be_is_refused(
    reproduction: Path, row: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {"sft": {"model": "m"}, "x": row}
    assert reproduce.main(["--config", str(write(reproduction.parent, rows=rows))]) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1
    assert reproduce.main(["--config", str(reproduction), "--only", "y"]) == 2
    assert "--only y: there is no such row; known: sft, x" in capsys.readouterr().err


def test_what_cannot_be_read_or_made_is_one_sentence(reproduction: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = reproduction.parent / "paper"
    folder.write_text("a file")
    assert reproduce.main(["--config", str(reproduction)]) == 2
    assert f"{folder} cannot be made" in capsys.readouterr().err
    folder.unlink()
    (folder / "sft").mkdir(parents=True)
    for damaged in ("", "{", "3", '{"sft": 3}'):
        (folder / "steps.json").write_text(damaged)
        assert reproduce.main(["--config", str(reproduction)]) == 2
        told = capsys.readouterr().err
        assert "steps.json is damaged" in told and told.count("\n") == 1
    reproduction.write_text("name: x\nrows:\n  sft: {model: a}\n  sft: {model: b}\n")
    assert reproduce.main(["--config", str(reproduction)]) == 2
    assert "the key 'sft' stands there twice" in capsys.readouterr().err


def test_a_dry_run_leaves_out_what_other_rows_have_still_to_make(
    reproduction: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce.main(["--config", str(reproduction), "--dry-run"]) == 0
    runs = reproduction.parent / "paper"
    assert calls(reproduction) == [
        *("sft sft", "evaluate sft-evaluation", "evaluate base-evaluation", "dpo longreward", "dpo lighter"),
        *("dpo other", "train online"),
    ]
    assert "openrlhf.actor.model_name_or_path=rl/toy/policy" in words(reproduction, "longreward")
    assert "collect.stores=[]" in words(reproduction, "lighter") and "--stage" not in words(reproduction, "lighter")
    assert "collect.responses=null" in words(reproduction, "other")
    assert words(reproduction, "sft-evaluation")[2:4] == ["--model", "rl/toy/policy"]
    # What is there is taken.
    (runs / "sft/model").mkdir(parents=True)
    (runs / "longreward/store").mkdir(parents=True)
    (reproduction.parent / "calls").unlink()
    assert reproduce.main(["--config", str(reproduction), "--only", "lighter", "--dry-run"]) == 0
    assert f"openrlhf.actor.model_name_or_path={runs}/sft/model" in words(reproduction, "lighter")
    assert f"collect.stores=['{runs}/longreward/store']" in words(reproduction, "lighter")
    assert "--stage" in words(reproduction, "lighter")


def scored(rollout: str, split: str, total: float | None, statements: int = 0) -> ScoredAnswer:
    call = JudgeCall(kind="verify")
    dimension = DimensionScore(
        score=total,
        calls=[call, call.model_copy(update={"source": "cache"})],
        statements=[Statement(text=f"s{i}", support=1.0, call=call) for i in range(statements)],
    )
    reward = Reward(id=rollout.split("/")[0], total=total, dimensions={"faithfulness": dimension})
    sample = Sample(id=reward.id, context="c", query="q", answer=f"a{rollout}")
    return ScoredAnswer.of(sample, reward, rollout=rollout, split=split)


def test_the_table_has_our_figures_beside_the_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = paper.load(write(tmp_path, published="Llama-3.1-8B"), [])
    for name, add in (("sft", 0.0), ("longreward", 1.0)):
        folder = tmp_path / "paper" / f"{name}-evaluation"
        with Store(folder / "store" / "answers-0-1.jsonl") as store:
            for prompt, total in (("p", 6.0), ("q", 8.0), ("r", None)):
                store.append(scored(f"{prompt}/0", "heldout", None if total is None else total + add))
                store.append(scored(f"{prompt}/1", "heldout", None if total is None else total + add + (prompt == "q")))
        figures = {"average": {"mean": 50.0 + add, "interval": [45.0, 55.0], "n": 9}}
        figures |= {"single_doc_qa": {"mean": 60.0, "interval": None, "n": 3, "missing": ["qasper", "narrativeqa"]}}
        facts = {"facts": {"mean": 20.0, "interval": None, "n": 2}}
        (folder / "summary.json").write_text(json.dumps({"paper": {"m": figures}, "facts": {"m": facts}}))
    with Store(tmp_path / "paper/longreward/store/answers-0-1.jsonl") as store:
        store.append(scored("p/0", "train", 5.0, statements=2))
        store.append(scored("p/0", "train", None))  # a worker died
        store.append(scored("p/1", "train", 5.0))
    said = table.write(config)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("|")]
    first, last = (dict(zip(lines[0], line, strict=True)) for line in lines[2:])
    assert (first["row"], first["Avg"], first["facts"]) == ("sft", "50.0 (45.0 to 55.0) [55.0]", "20.0 [21.8]")
    assert (first["Summ"], first["held-out reward"], first["less sft"]) == ("- [39.6]", "7.25", "-")
    assert (last["row"], last["Avg"], last["held-out reward"]) == ("longreward", "51.0 (45.0 to 55.0) [59.9]", "8.25")
    assert (last["less sft"], last["answers judged"], last["judge calls"]) == ("+1.00 (+1.00 to +1.00)", "2", "5")
    assert "S-Doc QA without qasper, narrativeqa." in said and "Avg without" not in said
    assert "Not there yet: base, lighter, other, online." in said
    page = json.loads((tmp_path / "paper/reproduction.json").read_text())
    assert page["rows"][1] == list(last.values())
    assert page["runs"] == [
        "sft-evaluation",
        "longreward-evaluation",
        "longreward",
    ]


def test_the_shipped_configurations_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for path in sorted((ROOT / "configs/paper").glob("*.yaml")):
        if "rows" in yaml.safe_load(path.read_text()):
            assert steps.steps(paper.load(path, []))
    with pytest.raises(ConfigError, match="published"):
        paper.load(ROOT / "configs/paper/toy.yaml", ["published=Llama-2"])
