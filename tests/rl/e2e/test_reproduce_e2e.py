"""The paper's table on the toy for real: trained, killed in the middle, continued, evaluated, shown."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from longreward.files import jsonlines

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]
ROWS = ("sft", "longreward", "contrast")
SETTINGS = (
    "openrlhf.data.max_samples=8",
    "evaluation.max_prompts=4",
    "evaluation.n_samples_per_prompt=2",
)
OF_PROGRAM = {
    "configs/sft_cpu.yaml": ["train_sft.train.batch_size=8"],
    "configs/dpo_cpu.yaml": [
        "openrlhf.rollout.n_samples_per_prompt=6",
        *("train_dpo.train.batch_size=4", "train_dpo.train.micro_batch_size=4", "train_dpo.train.max_epochs=1"),
    ],
}


@pytest.fixture(scope="module")
def reproduced(cluster, tmp_path_factory):
    """What it said before it was killed, what after, and its directory."""
    launcher, address = cluster
    folder = tmp_path_factory.mktemp("reproduced")
    config = yaml.safe_load((ROOT / "configs/paper/toy.yaml").read_text())
    config |= {"dir": str(folder), "settings": [*config["settings"], *SETTINGS]}
    config["rows"] = {name: dict(config["rows"][name]) for name in ROWS}
    for row in config["rows"].values():
        row["settings"] = [*row.get("settings", []), *OF_PROGRAM[row["config"]]]
    (folder / "table.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    words = [sys.executable, "rl/reproduce.py", "--config", str(folder / "table.yaml")]
    run = folder / "paper_toy"
    killed = launcher.start(*words, RAY_ADDRESS=address)
    launcher.wait_for(lambda: [*run.glob("longreward/store/answers-*")], killed)
    os.killpg(killed.pid, signal.SIGKILL)
    before, _ = killed.communicate()
    code, after = launcher.run(*words, RAY_ADDRESS=address)
    assert code == 0, after
    return before, after, run


def test_a_kill_costs_nothing_that_was_done(reproduced):
    before, after, run = reproduced
    assert "reproduce: 1 of 6: sft is there" in after and "reproduce: 2 of 6: sft-evaluation is there" in after
    trained = Counter(line for line in (before + after).splitlines() if "trained in" in line)
    assert len(trained) == len(ROWS), "each row is trained once"
    for name in ("longreward", *(f"{row}-evaluation" for row in ROWS)):
        rows = [row for path in (run / name / "store").glob("*") for _, row in jsonlines.read(path, broken=[])]
        assert len({(row["rollout"], row["query"]) for row in rows}) == len(rows) > 0, "an answer was judged twice"
    assert not list((run / "contrast").glob("store/answers-*")), "it pairs what is there"


def test_the_rows_are_what_the_configuration_says(reproduced):
    _, _, run = reproduced
    data = {row["answer"] for _, row in jsonlines.read(ROOT / "rl/toy/data/sft.jsonl")}
    chosen = [row["chosen"].removesuffix("<|end|>") for _, row in jsonlines.read(run / "contrast/pairs/train.jsonl")]
    assert chosen and set(chosen) <= data
    for name in ("longreward", "contrast"):
        command = (run / name / "command.txt").read_text()
        assert f"{run}/sft/model" in command


def test_the_table_has_all_rows_and_the_report_begins_with_it(reproduced):
    _, after, run = reproduced
    table = json.loads((run / "reproduction.json").read_text())
    assert [row[0] for row in table["rows"]] == list(ROWS)
    wanted = ["row", "LongBench-Chat", "S-Doc QA", "M-Doc QA", "Summ", "Avg", "facts", "FactScore", "held-out reward"]
    assert table["heads"] == [*wanted, "less sft", "short, wins against sft", "answers judged", "judge calls"]
    rows = {row[0]: dict(zip(table["heads"], row, strict=True)) for row in table["rows"]}
    assert rows["longreward"]["answers judged"] == "48" and rows["contrast"]["answers judged"] == "-"
    assert all(row[name] != "-" for row in rows.values() for name in wanted)
    assert rows["sft"]["less sft"] == "-" and "(" in rows["contrast"]["less sft"]
    assert "| longreward |" in after
    assert (run / "report.html").stat().st_size > 100_000
