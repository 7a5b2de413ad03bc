"""Variants over the answers of another run: paired in another way, or with the data's own answers."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from longreward.errors import ConfigError
from longreward.files.jsonlines import Appender
from rl import config, dpo
from rl.data.prompts import document_hash
from rl.monitor.live_view import Screen
from rl.offline import stages
from rl.offline.config import DpoConfig
from rl.offline.pair_report import PairReport
from rl.offline.planning import plan_dpo
from rl.run import planning, run_directory
from rl.run import session as run_session
from rl.run.session import Session

ROOT = Path(__file__).parents[3]
END = "<|end|>"
ROWS = [
    {"idx": 1, "context": "Mara sold copper to Otto .", "query": "What did Mara do ?", "answer": "Mara sold copper ."},
    {"idx": 2, "context": "Lena lent iron to Karl .", "query": "What did Lena do ?", "answer": "Lena lent iron ."},
    # Another document under the same id.
    {"idx": 2, "context": "Hugo gave maps to Klara .", "query": "What did Hugo do ?", "answer": "Hugo gave maps ."},
]
IDS = ["1", "2@2", "2@3"]


def record(row: int, number: int, **fields: Any) -> dict[str, Any]:
    """A scored answer as a judge worker stores it: the later ones are more helpful and less faithful."""
    source = ROWS[row]
    about = {"id": IDS[row], "split": "train", "rollout": f"{IDS[row]}/{number}", "query": source["query"]}
    about |= {"document": document_hash(str(source["context"])), "tokens": 4, "truncated": False, "time": 1.8e9}
    scores = {"helpfulness": number, "logicality": 5, "faithfulness": 9 - 2 * number, "completeness": 5}
    dimensions = {name: {"score": score} for name, score in scores.items()}
    answer = f"Answer {number} ."
    return about | {"answer": answer, "total": sum(scores.values()) / 4, "dimensions": dimensions} | fields


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., Path]:
    """Writes the store of another run."""

    def write(*records: dict[str, Any]) -> Path:
        with Appender(tmp_path / "other" / "store" / "answers-0-1.jsonl") as file:
            for one in records:
                file.append(one)
        return tmp_path / "other" / "store"

    return write


Pair = Callable[..., tuple[list[dict[str, Any]], str]]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """The stage `pair` of a run of its own: the pairs, and what it said."""
    monkeypatch.chdir(ROOT)
    data = tmp_path / "train.jsonl"

    def run(*overrides: str, rows: list[dict[str, Any]] = ROWS) -> tuple[list[dict[str, Any]], str]:
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [f"run.dir={tmp_path}/runs", "run.name=ablation", "run.device=cpu", f"data.train={data}", *overrides]
        made = config.load_as(DpoConfig, ROOT / "configs/dpo_cpu.yaml", words)
        plan = plan_dpo(made, ["pair"], resume=True)
        planning.refuse(plan.findings)
        run_directory.write_config(plan.config.directory, plan.config)
        said = io.StringIO()
        stages.make_pairs(Session(plan, Screen(Console(file=said, width=200))), plan.config)
        return [json.loads(line) for line in plan.config.examples.read_text().splitlines()], said.getvalue()

    return run


def test_the_answers_of_another_run_are_paired_by_other_dimensions(store, pair, tmp_path):
    source = store(*(record(row, number) for row in range(3) for number in range(5)))
    rows, said = pair(f"collect.stores=[{source}]", "pair.weights={helpfulness: 1}")
    assert [row["id"] for row in rows] == IDS
    assert {(row["chosen"], row["rejected"]) for row in rows} == {(f"Answer 4 .{END}", f"Answer 0 .{END}")}
    assert rows[0]["prompt"].startswith("<|user|>\nMara sold copper to Otto .\n\nWhat did Mara do ?")
    assert "passed over" not in said and "unreadable" not in said, "the run has no store of its own, and needs none"
    prepared = tmp_path / "runs" / "ablation" / "data" / "train.jsonl"
    written = prepared.read_bytes()
    # Continued with other data in the file: what was prepared stays.
    again, _ = pair(f"collect.stores=[{source}]", "pair.weights={helpfulness: 1}", rows=ROWS[:1])
    assert again == rows and prepared.read_bytes() == written
    other, _ = pair(f"collect.stores=[{source}]", "pair.weights={faithfulness: 1}")
    assert {(row["chosen"], row["rejected"]) for row in other} == {(f"Answer 0 .{END}", f"Answer 4 .{END}")}


def test_a_variant_that_is_there_does_not_go_on_with_another_policy(store, pair, tmp_path):
    source = f"collect.stores=[{store(*(record(row, number) for row in range(3) for number in range(5)))}]"
    pair(source)
    with pytest.raises(ConfigError, match=r"openrlhf\.data\.max_len is 600 and was 640"):
        pair(source, "openrlhf.data.max_len=600")


def test_the_datas_own_answer_against_the_first_sampled_one(store, pair, tmp_path):
    own = ROWS[2]["answer"]
    source = store(
        record(0, 2), record(0, 1, total=None), record(1, 0, answer=f"a{END}b"), record(1, 3), record(2, 0, answer=own)
    )
    rows, said = pair(f"collect.stores=[{source}]", "pair={by: contrast}")
    # Scored or not; not the one with the mark inside; and none that is the data's own.
    assert [(row["id"], row["chosen"], row["rejected"]) for row in rows] == [
        ("1", f"Mara sold copper .{END}", f"Answer 1 .{END}"),
        ("2@2", f"Lena lent iron .{END}", f"Answer 3 .{END}"),
    ]
    assert {row["chosen_score"] for row in rows} == {row["rejected_score"] for row in rows} == {None}
    report = PairReport.read(tmp_path / "runs" / "ablation" / "pairs" / "train.jsonl")
    assert report is not None
    assert (report.prompts, report.prompts_kept, report.left_out) == (3, 2, {"unusable": 1})
    assert (report.pairs, report.answers, report.void, report.unwritable) == (2, 5, 0, 1)
    assert "void" not in said and "mean score" not in said


def test_prompts_that_a_contrast_leaves_out_are_counted_by_their_reason(store, pair, tmp_path):
    long = "word " * 700
    rows = [ROWS[0], ROWS[1] | {"answer": None}, ROWS[2] | {"answer": long}]
    extra = {"idx": 3, "context": "Nina sold amber .", "query": "?", "answer": "Nina ."}
    source = store(*(record(row, number) for row in range(3) for number in range(2)))
    _, said = pair(f"collect.stores=[{source}]", "pair={by: contrast}", rows=[*rows, extra])
    report = PairReport.read(tmp_path / "runs" / "ablation" / "pairs" / "train.jsonl")
    assert report is not None and (report.prompts, report.prompts_kept) == (4, 1)
    assert report.left_out == {"no_supervised": 1, "too_long": 1, "no_answers": 1}
    assert "no answer in data.train for pair.by=contrast to choose" in said


def test_both_answers_of_a_contrast_begin_as_the_policy_begins(store, pair, tmp_path):
    """With a template as GLM-4's the line break before an answer is the policy's own to write; others print it."""
    asks = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    policy = shutil.copytree(ROOT / "rl/toy/policy", tmp_path / "policy")
    (policy / "chat_template.jinja").write_text(asks + "{% if add_generation_prompt %}<|assistant|>{% endif %}")
    # Sampled, published (without its white space), and the data's own once more.
    source = store(record(0, 0, answer="\nSampled ."), record(1, 0), record(2, 0, answer="\nHugo gave maps ."))
    data = [ROWS[0] | {"answer": " Mara sold copper .\n"}, *ROWS[1:]]
    words = [f"collect.stores=[{source}]", "pair={by: contrast}"]
    rows, _ = pair(*words, f"openrlhf.actor.model_name_or_path={policy}", "run.name=glm", rows=data)
    assert [(row["prompt"].endswith("<|assistant|>"), row["chosen"], row["rejected"]) for row in rows] == [
        (True, f"\nMara sold copper .{END}", f"\nSampled .{END}"),
        (True, f"\nLena lent iron .{END}", f"\nAnswer 0 .{END}"),
    ]
    rows, _ = pair(*words, rows=data)
    assert rows[0]["prompt"].endswith("<|assistant|>\n") and rows[0]["chosen"] == f"Mara sold copper .{END}"


@pytest.mark.parametrize(
    ("settings", "rejected", "why"),
    [
        ({}, "0", None),
        ({"skip_truncated": True}, "1", None),
        ({"max_length_ratio": 2}, "2", None),
        ({"max_length_ratio": 1.1}, None, "length"),
    ],
)
def test_length_and_cut_answers_matter_to_a_contrast(store, pair, tmp_path, settings, rejected, why):
    answers = [record(0, 0, truncated=True, tokens=99), record(0, 1, tokens=99), record(0, 2, tokens=8)]
    source, section = store(*answers), yaml.safe_dump({"by": "contrast"} | settings, default_flow_style=True)
    if why is not None:
        with pytest.raises(ConfigError, match="no pair could be made"):
            pair(f"collect.stores=[{source}]", f"pair={section}", rows=ROWS[:1])
        report = PairReport.read(tmp_path / "runs" / "ablation" / "pairs" / "train.jsonl")
        assert report is not None and report.left_out == {why: 1}
        return
    rows, _ = pair(f"collect.stores=[{source}]", f"pair={section}", rows=ROWS[:1])
    assert [row["rejected"] for row in rows] == [f"Answer {rejected} .{END}"]


def test_a_contrast_is_continued_from_the_configuration_that_was_written(tmp_path):
    made = config.load_as(DpoConfig, ROOT / "configs/dpo_cpu.yaml", [f"run.dir={tmp_path}", "pair.by=contrast"])
    run_directory.write_config(made.directory, made)
    assert run_directory.earlier(made) == made


def test_without_held_out_prompts_nothing_is_started_to_evaluate(store, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [f"run.dir={tmp_path}/runs", "run.device=cpu", "data.heldout=null", "short.heldout=null"]
    words += ["reward.name=openrlhf", "reward.openrlhf.model_name_or_path=rl/toy/policy", "reward.openrlhf.gpus=1"]
    plan = plan_dpo(config.load_as(DpoConfig, ROOT / "configs/dpo_cpu.yaml", words), ["evaluate"])
    folder = plan.config.directory
    for path in ("pairs/train.jsonl", "model/config.json"):
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text("{}\n")
    done = {"of": {"data": stages.finetune.digest(plan.config.examples)}, "steps": 7}
    (folder / "trained.json").write_text(json.dumps(done))
    for module, name in ((stages, "rollout_engines"), (stages.judge_workers, "start")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("something was started"))
    run = Session(plan, Screen(Console(quiet=True)))
    run.workers.run_id = "ab"  # as if they had been ended for the training
    summary = stages.evaluate(run, plan.config)
    assert (summary["steps"], summary["judge_calls"], summary["void_rate"]) == (7, 0, 0)


@pytest.mark.parametrize(
    ("names", "begun", "left"),
    [
        (["collect", "pair", "train", "evaluate"], True, ["train", "evaluate"]),
        (["collect", "pair", "train"], True, ["train"]),
        (["collect", "pair", "train"], False, ["collect", "pair", "train"]),
        (["collect", "pair"], True, ["collect", "pair"]),
        (["pair", "train"], True, ["pair", "train"]),
    ],
)
def test_the_pairs_of_a_training_that_has_begun_stay(tmp_path, monkeypatch, names, begun, left):
    monkeypatch.chdir(ROOT)
    words = [f"run.dir={tmp_path}/runs", "run.device=cpu", "resume=true", "data.heldout=null", "short.heldout=null"]
    plan = plan_dpo(config.load_as(DpoConfig, ROOT / "configs/dpo_cpu.yaml", words), names)
    for path, content in (
        (plan.config.examples, "{}\n"),
        (plan.config.checkpoints / "begun.json", ""),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    of = {"data": stages.finetune.digest(plan.config.examples) if begun else "of other pairs"}
    (plan.config.checkpoints / "begun.json").write_text(json.dumps(of))
    done = []
    for opened in ("open_session", "open_directory"):
        session = Session(plan, Screen(Console(quiet=True)))
        monkeypatch.setattr(run_session, opened, lambda *_, session=session, **__: nullcontext(session))
    monkeypatch.setattr(stages, "collect_answers", lambda *_: done.append("collect"))
    monkeypatch.setattr(stages, "make_pairs", lambda *_: done.append("pair"))
    monkeypatch.setattr(stages.finetune, "train", lambda *_: done.append("train"))
    monkeypatch.setattr(stages, "evaluate", lambda *_: done.append("evaluate") or {})
    assert dpo.dpo(plan, names, False) == 0
    assert done == left
