"""`rl/doctor.py`: what a user is told of a run before any GPU is taken."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from rl.doctor import main

ROOT = Path(__file__).parents[3]


@pytest.fixture
def judge(module_judge):
    module_judge.script, module_judge.latency, module_judge.most_in_flight = {}, 0.0, 0
    module_judge.calls.clear()
    module_judge.keys.clear()
    return module_judge


@pytest.fixture
def examine(tmp_path, monkeypatch, capsys):
    """Runs the doctor on the quickstart's configuration with changes: exit code and the lines it printed."""
    monkeypatch.chdir(ROOT)

    def run(*overrides: str) -> tuple[int, list[str]]:
        common = [f"run.dir={tmp_path}/runs", "run.device=cpu"]
        code = main(["--config", "configs/grpo_cpu.yaml", *common, *overrides])
        return code, capsys.readouterr().out.splitlines()

    return run


def judged_by(server, *more: str) -> list[str]:
    words = ["kind=openai", f"base_url={server.url}", "model=m", *more]
    return [f"reward.judge.{word}" for word in words]


def told(lines: list[str], level: str, about: str) -> list[str]:
    return [line for line in lines if line.split()[:2] == [level, about]]


def test_the_quickstart_has_no_problem_and_nothing_is_left_behind(examine, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("no Ray is to be started"))
    code, lines = examine()
    assert code == 0 and lines[-1].startswith("no problems, "), lines
    assert "the run takes 1 GPU (1 learners)" in told(lines, "ok", "GPUs")[0]
    train, heldout = told(lines, "ok", "data")
    assert "data.train: 512 prompts kept" in train and "data.heldout: 96 prompts kept" in heldout
    assert "the first 256 of 512 prompts are trained on" in told(lines, "note", "data")[0]
    assert "64 steps of 4 prompts x 8 answers" in told(lines, "ok", "batches")[0]
    assert "519,040 parameters" in told(lines, "ok", "disk")[0]
    assert "stand-in" in told(lines, "note", "judge")[0]
    assert list(tmp_path.iterdir()) == []


def test_cost_and_pace_follow_from_the_data_and_the_measured_latency(examine, judge):
    judge.latency = 0.1
    limits = ["requests_per_minute=600", "price.prompt_per_million=1", "spend.max_cost=0.5"]
    code, lines = examine(*judged_by(judge, *limits), "openrlhf.data.max_samples=32", "evaluation.max_prompts=4")
    assert code == 0, lines
    assert judge.calls.total() == 17
    run, cap = told(lines, "ok", "cost")[0], told(lines, "note", "cost")[0]
    assert "8 steps and the held-out scores take about" in run and "reward.judge.spend.max_cost=0.5 ends" in cap
    (pace,) = told(lines, "ok", "pace")
    calls, seconds = (
        re.search(r"a step of 4 prompts x 8 answers asks ([\d,]+) calls", pace),
        re.search(r"at least ([\d.]+) s of judging, by reward.judge.requests_per_minute", pace),
    )
    # 600 a minute are 10 a second, whatever the judge could do.
    assert float(seconds[1]) == pytest.approx(int(calls[1].replace(",", "")) / 10, rel=0.02)
    total = int(re.search(r"about ([\d,]+) calls", run)[1].replace(",", ""))
    assert total > 8 * int(calls[1].replace(",", ""))


def test_how_long_the_last_run_waited_for_its_judge_is_said_with_what_shortens_it(examine, judge, tmp_path):
    directory = tmp_path / "runs" / "slow"
    directory.mkdir(parents=True)
    words = [*judged_by(judge, "requests_per_minute=600"), f"run.dir={tmp_path}/runs", "run.name=slow"]
    for share, notes in ((0.31, 1), (0.04, 0)):
        (directory / "summary.json").write_text(json.dumps({"judge_wait_s": 4.2, "judge_wait_share": share}))
        _, lines = examine(*words, "openrlhf.data.max_samples=32", "evaluation.max_prompts=4")
        found = told(lines, "note", "pace")
        assert len(found) == notes
        for line in found:
            assert (
                f"in the run that is in {directory} the judge held the GPUs for 31% of its time, 4.2 s a step" in line
            )
            assert "raise reward.judge.requests_per_minute" in line


def test_settings_are_named_as_they_stand_in_a_runs_configuration(examine, judge):
    judge.script = {"verify": "who knows"}
    code, lines = examine(*judged_by(judge))
    assert code == 1
    (line,) = told(lines, "problem", "judge")
    assert "verification" in line and "'who knows'" in line and "reward.judge.verdict=constrained" in line
    assert "reward.judge.requests_per_minute" in told(lines, "note", "limits")[0]
    assert not any(re.search(r"(?<![\w./])judge\.", line) for line in lines), lines


def test_prompts_that_are_cut_or_cannot_be_read_are_counted(examine, tmp_path):
    document = "Mara sold copper to Otto in Lisbon . " * 80
    rows = [{"idx": i, "context": document[: 400 * i], "query": "What did Mara sell ?"} for i in range(1, 7)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"idx": 9, "context": 3}\n{"idx": \n')
    code, lines = examine(
        f"data.train={data}", "data.heldout=null", "openrlhf.data.max_len=400", "openrlhf.rollout.max_new_tokens=64"
    )
    assert code == 0, lines
    (kept,) = told(lines, "ok", "data")
    longest = int(re.search(r"the longest has ([\d,]+) tokens, the budget is 336", kept)[1].replace(",", ""))
    assert "6 prompts kept" in kept and longest > 336
    cut, broken = told(lines, "note", "data")
    assert re.search(r"[1-5] prompts over the budget are cut in the middle", cut)
    assert f"openrlhf.data.max_len={longest + 64} would keep all" in cut
    assert "2 unreadable rows" in broken and f"{data}:7: context must be text" in broken


def test_everything_that_is_wrong_is_told_at_once(examine, monkeypatch):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**6))
    wrong = ["openrlhf.train.batch_size=40", "openrlhf.vllm.num_engines=2", "ray.address=127.0.0.1:1"]
    code, lines = examine(*judged_by(SimpleNamespace(url="http://127.0.0.1:9/v1")), *wrong)
    assert code == 1
    problems = [line.split()[1] for line in lines if line.startswith("problem")]
    assert sorted(problems) == ["GPUs", "GPUs", "batches", "disk", "judge"], lines
    assert lines[-1].startswith("5 problems, ")
    assert any("no Ray cluster answers at 127.0.0.1:1" in line for line in lines)
    assert "the pace of judging is unknown" in told(lines, "note", "pace")[0]


def test_missing_files_and_keys_are_problems(examine, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, lines = examine("data.train=none.jsonl", "openrlhf.actor.model_name_or_path=./none", "wandb.mode=online")
    assert code == 1
    data, model = told(lines, "problem", "files")
    assert "data.train none.jsonl does not exist" in data and "./none holds no model" in model
    assert "WANDB_API_KEY is not set" in told(lines, "problem", "keys")[0]
    assert not told(lines, "ok", "data")


def test_a_run_that_saves_nothing_is_warned(examine):
    _, lines = examine("openrlhf.ckpt.save_steps=-1", "data.heldout=null", "openrlhf.data.max_samples=8")
    assert "a crash loses everything" in told(lines, "note", "disk")[0]
    _, lines = examine("openrlhf.ckpt.save_steps=5", "data.heldout=null", "openrlhf.data.max_samples=8")
    assert "every 5 steps and the run has 2" in told(lines, "note", "disk")[0]


def test_a_hub_model_says_what_was_not_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = ["reward.judge.kind=offline", "wandb.mode=disabled", f"run.dir={tmp_path}"]
    assert main(["--config", "configs/grpo_llama31_8b_64k.yaml", *words]) == 1  # its data are not here
    lines = capsys.readouterr().out.splitlines()
    assert "is not a local folder" in told(lines, "note", "disk")[0]
    assert "8 GPUs (8 learners)" in told(lines, "note", "GPUs")[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config", "none.yaml"], "config file none.yaml does not exist"),
        (["--config", "configs/grpo_cpu.yaml", "openrlhf.actor.adam.lrr=1"], "did you mean 'actor.adam.lr'?"),
        (["--config", "configs/grpo_cpu.yaml", "--verbos"], "unrecognized arguments: --verbos"),
        (["--config", "configs/grpo_cpu.yaml", "reward.name=nice"], "reward.name 'nice' is unknown"),
        (["--config", "configs/dpo_cpu.yaml", "train_dpo.model.beat=1"], "did you mean 'model.beta'?"),
    ],
)
def test_a_users_error_is_one_sentence_and_exit_code_2(words, sentence, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main([*words, *(["run.device=cpu"] if "none.yaml" not in words else [])]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("name", ["dpo_cpu", "sft_cpu"])
def test_runs_of_other_kinds_are_looked_at_too(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(["--config", f"configs/{name}.yaml", f"run.dir={tmp_path}/runs", "run.device=cpu"]) == 0
    assert told(capsys.readouterr().out.splitlines(), "ok", "files")
    kind = name.removesuffix("_cpu")
    assert main(["--config", f"configs/{name}.yaml", "run.device=cpu", f"train_{kind}.train.micro_batch_size=5"]) == 1
    (line,) = told(capsys.readouterr().out.splitlines(), "problem", "batches")
    assert f"train_{kind}.train.batch_size=" in line and "x 1 learners" in line


@pytest.mark.e2e
def test_a_cluster_is_looked_at_and_left_as_it_was(cluster):
    launcher, address = cluster
    words = [sys.executable, "rl/doctor.py", "--config", "configs/grpo_cpu.yaml", f"run.dir={launcher.directory}/runs"]
    code, output = launcher.run(*words, timeout=600, RAY_ADDRESS=address)
    assert code == 0, output
    assert f"Ray at {address} has 4 GPUs" in output and "Traceback" not in output
    code, output = launcher.run(
        *words, "openrlhf.train.colocate_all=false", "openrlhf.vllm.num_engines=3", timeout=600, RAY_ADDRESS=address
    )
    assert code == 1
    assert "the run needs 5 GPUs (1 learners + 1 reference + 3 vLLM engines) and Ray has 4" in output
    assert not (launcher.directory / "runs").exists()


def test_without_a_judge_none_is_asked_and_rows_without_a_reference_are_not_counted(examine, judge, tmp_path):
    row = {"context": "Mara sold copper to Otto .", "query": "What did Mara sell ?"}
    data = tmp_path / "data.jsonl"
    rows = [row | {"idx": i, **({"gold": "copper"} if i % 2 else {})} for i in range(8)]
    data.write_text("".join(json.dumps(one) + "\n" for one in rows))
    _, lines = examine(
        *judged_by(judge),
        f"data.train={data}",
        "data.heldout=null",
        "reward.name=reference",
        "reward.reference.field=gold",
    )
    assert told(lines, "ok", "judge")[0].endswith("no judge is asked") and not judge.calls
    assert "4 prompts kept" in told(lines, "ok", "data")[0]
    assert "there is no reference answer in 'gold'" in told(lines, "note", "data")[0]
