"""Offline DPO for real: vLLM collects, judge workers score, OpenRLHF's train_dpo learns, and a kill costs nothing."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from longreward import DIMENSIONS, LongReward, RewardConfig, Sample
from longreward.adapters.trl import longreward_rewards
from longreward.files import jsonlines
from rl.data.prompts import document_hash

pytestmark = pytest.mark.e2e

SMALL = (
    "openrlhf.data.max_samples=12",
    "openrlhf.rollout.n_samples_per_prompt=6",
    "evaluation.max_prompts=4",
    "evaluation.n_samples_per_prompt=2",
    "short.train=rl/toy/data/short_pairs.jsonl",
    "train_dpo.train.batch_size=4",
    "train_dpo.train.micro_batch_size=1",
    "train_dpo.train.max_epochs=1",
    "processes=2",
)


def words(launcher, name: str, *more: str) -> list[str]:
    return [
        *[sys.executable, "rl/dpo.py", "--config", "configs/dpo_cpu.yaml", f"run.dir={launcher.directory}/runs"],
        *[f"run.name={name}", *SMALL, *more],
    ]


def training_answers(run: Path) -> dict[str, str]:
    records = [record for path in (run / "store").glob("*.jsonl") for _, record in jsonlines.read(path, broken=[])]
    mine = [record for record in records if record["split"] == "train"]
    assert len({record["rollout"] for record in mine}) == len(mine), "an answer was scored twice"
    return {record["rollout"]: record["answer"] for record in mine}


@pytest.fixture(scope="module")
def judged(module_judge):
    """A judge that takes its time, so that there is something to kill; its scores differ with the answer."""
    module_judge.script = {
        name: lambda prompt, _: f"[[{len(prompt) % 11}]]" for name in ("helpfulness", "logicality", "completeness")
    }
    module_judge.latency = 0.2
    url = f"reward.judge.base_url={module_judge.url}"
    return "reward.judge.kind=openai", url, "reward.judge.model=judge", "reward.tokenizer=words"


@pytest.fixture(scope="module")
def pipeline(cluster, judged):
    """Killed while it collects, then continued to the end; and the pairs of a run that nobody disturbed."""
    launcher, address = cluster
    judge = judged
    runs = launcher.directory / "runs"
    killed = launcher.start(*words(launcher, "killed", *judge, "collect.answers_in_flight=12"), RAY_ADDRESS=address)
    deadline = time.monotonic() + 900
    while sum(1 for path in (runs / "killed/store").glob("*") for _ in path.open()) < 12:
        assert killed.poll() is None, killed.stdout.read()
        assert time.monotonic() < deadline, "nothing was collected"
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    at_the_kill = training_answers(runs / "killed")
    code, output = launcher.run(*words(launcher, "killed", *judge, "resume=true"), RAY_ADDRESS=address)
    assert code == 0, output
    whole = words(launcher, "undisturbed", *judge, "--stage", "collect", "--stage", "pair")
    code, other = launcher.run(*whole, RAY_ADDRESS=address)
    assert code == 0, other
    return output, at_the_kill, runs / "killed", runs / "undisturbed"


def test_it_ends_with_scores_before_and_after(pipeline):
    output, _, run, _ = pipeline
    summary = json.loads((run / "summary.json").read_text())
    assert summary["kind"] == "dpo" and summary["steps"] > 0
    assert summary["before"]["n"] == summary["after"]["n"] == 4
    assert len(summary["gain"]["interval"]) == 2
    assert "held-out reward" in output and str(run) in output
    assert summary["short"]["items"] == 64, summary["short"]


def test_the_policy_was_really_trained(pipeline):
    import torch
    from transformers import AutoModelForCausalLM

    _, _, run, _ = pipeline
    before = AutoModelForCausalLM.from_pretrained("rl/toy/policy").state_dict()
    after = AutoModelForCausalLM.from_pretrained(run / "model").state_dict()
    assert all(torch.isfinite(weights).all() for weights in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_kill_while_collecting_changes_nothing(pipeline):
    _, at_the_kill, run, undisturbed = pipeline
    answers = training_answers(run)
    assert 0 < len(at_the_kill) < len(answers) == 72, "it was to be killed in the midst of it"
    assert at_the_kill.items() <= answers.items()
    assert answers == training_answers(undisturbed)
    for name in ("long.jsonl", "train.jsonl"):
        assert (run / "pairs" / name).read_bytes() == (undisturbed / "pairs" / name).read_bytes()


def test_long_and_short_pairs_are_mixed(pipeline):
    _, _, run, _ = pipeline
    rows = [row for _, row in jsonlines.read(run / "pairs" / "train.jsonl")]
    short = [row for row in rows if row["id"].startswith("short-")]
    assert len(short) == round((len(rows) - len(short)) / 3), "a quarter of all"
    assert all(row["chosen_score"] > row["rejected_score"] for row in rows if row not in short)


def test_library_server_and_adapters_give_the_agents_scores_to_the_same_answers(pipeline, serve, launcher, monkeypatch):
    _, _, run, _ = pipeline
    rows = [row for _, row in jsonlines.read(run / "data" / "train.jsonl")]
    prompts = {json.loads(row["label"])["id"]: (row["input"], row["label"]) for row in rows}
    records = [record for path in (run / "store").glob("*.jsonl") for _, record in jsonlines.read(path, broken=[])]
    records = [record for record in records if record["split"] == "train"]
    asked = [prompts[record["id"]] for record in records]
    spans = [json.loads(label) for _, label in asked]
    contexts, queries = (
        [prompt[slice(*span[name])] for (prompt, _), span in zip(asked, spans, strict=True)]
        for name in ("context", "query")
    )
    answers = [record["answer"] for record in records]
    sent = {
        "query": [prompt + answer for (prompt, _), answer in zip(asked, answers, strict=True)],
        "prompts": [prompt for prompt, _ in asked],
        "labels": [label for _, label in asked],
    }
    section = yaml.safe_load((run / "config.yaml").read_text())["reward"]
    settings = {name: section[name] for name in RewardConfig.model_fields if name in section}

    async def by_the_library():
        reward = LongReward.from_config(settings)
        samples = [
            Sample(context=context, query=query, answer=answer)
            for context, query, answer in zip(contexts, queries, answers, strict=True)
        ]
        scored = await reward.score_many(samples)
        await reward.aclose()
        return [[one.total, *(one.dimensions[name].score for name in DIMENSIONS)] for one in scored]

    async def by_trl():
        columns = [*longreward_rewards(settings), *longreward_rewards(settings, per_dimension=True)]
        given = {"prompts": [prompt for prompt, _ in asked], "completions": answers, "trainer_state": None}
        values = [await column(**given, context=contexts, query=queries) for column in columns]
        return [list(row) for row in zip(*values, strict=True)]

    def of_reply(reply):
        names = ["total", *DIMENSIONS]
        return [list(row) for row in zip(*(reply["extra_logs"][f"longreward/{name}"] for name in names), strict=True)]

    url = serve(settings)
    request = urllib.request.Request(url, json.dumps(sent).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as response:
        served = json.load(response)
    assert served["status"] == ["ok"] * len(records)
    monkeypatch.setenv("LONGREWARD_CONFIG", str(launcher.directory / "reward.yaml"))
    loaded = runpy.run_path("longreward/adapters/openrlhf_reward.py")
    scores = {
        "agent": [[r["total"], *(r["dimensions"][name]["score"] for name in DIMENSIONS)] for r in records],
        "library": asyncio.run(by_the_library()),
        "server": of_reply(served),
        "TRL": asyncio.run(by_trl()),
        "reward_func": of_reply(loaded["reward_func"](sent["query"], sent["prompts"], sent["labels"])),
    }
    assert len({tuple(row) for row in scores["agent"]}) > 8, "the answers differ, and so do their scores"
    for name, found in scores.items():
        assert found == [pytest.approx(row, abs=1e-6) for row in scores["agent"]], name


def test_a_stage_alone_works_on_what_is_there(pipeline, cluster, judged):
    launcher, _ = cluster
    _, _, run, _ = pipeline
    before = training_answers(run)
    nowhere = "ray.address=127.0.0.1:1"  # pairing needs neither Ray nor an engine
    code, output = launcher.run(*words(launcher, "killed", *judged, "--stage", "pair", "pair.min_margin=2", nowhere))
    assert code == 0, output
    rows = [row for _, row in jsonlines.read(run / "pairs" / "long.jsonl")]
    assert all(row["chosen_score"] - row["rejected_score"] > 2 for row in rows)
    assert training_answers(run) == before


def test_it_left_nothing_on_the_cluster(pipeline, cluster):
    launcher, _ = cluster
    left = {pid: command for pid, command in launcher.descendants().items() if "train_dpo" in command}
    assert left == {}


def test_the_same_answers_by_another_reward_and_against_the_datas_own(launcher, reward_model):
    """Another run's answers, scored by a reward model that reads question and answer: no engine is started."""
    rows = [row for _, row in jsonlines.read(Path("rl/toy/data/train.jsonl"))][:6]
    data = launcher.directory / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = launcher.directory / "other" / "store"
    with jsonlines.Appender(other / "answers-0-1.jsonl") as file:
        for row in rows:
            about = {"id": row["idx"], "query": row["query"], "document": document_hash(row["context"])}
            for number, answer in enumerate(sentence + "." for sentence in row["context"].split(".")[:5]):
                sampled = {"split": "train", "rollout": f"{row['idx']}/{number}", "answer": answer.strip()}
                file.append(about | sampled | {"tokens": 40 + number, "truncated": False, "total": None})
    small = [word for word in SMALL if not word.startswith(("short.", "processes="))]
    small += ["short={}", "data.heldout=null", f"data.train={data}"]
    common = [sys.executable, "rl/dpo.py", "--config", "configs/dpo_cpu.yaml", f"run.dir={launcher.directory}/runs"]
    words = ["reward.name=openrlhf", "reward.openrlhf.reads=query", "reward.openrlhf.param_dtype=fp16"]
    words += [f"reward.openrlhf.model_name_or_path={reward_model}", f"collect.responses={other}"]
    code, output = launcher.run(*common, *small, *words, "run.name=reward_model")
    assert code == 0, output
    run = launcher.directory / "runs" / "reward_model"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] > 0 and summary["void_rate"] == 0 and "before" not in summary
    assert "starting the rollout engines" not in output and "scoring 30 answers of" in output
    before = [row for _, row in jsonlines.read(other / "answers-0-1.jsonl")]
    assert training_answers(run) == {row["rollout"]: row["answer"] for row in before}
    stored = [row for path in (run / "store").glob("*.jsonl") for _, row in jsonlines.read(path)]
    assert {row["rollout"]: row["tokens"] for row in stored} == {row["rollout"]: row["tokens"] for row in before}
    assert all(0 < row["total"] < 10 for row in stored)
    pairs = [row for _, row in jsonlines.read(run / "pairs" / "train.jsonl")]
    assert len(pairs) == 6 and all(row["chosen_score"] > row["rejected_score"] for row in pairs)

    stages = [
        "--stage",
        "pair",
        "--stage",
        "train",
        "run.name=contrast",
        "pair={by: contrast}",
        "ray.address=nowhere:1",
    ]
    contrast = [*common, *small, *stages, f"collect.stores=[{other}]"]
    code, output = launcher.run(*contrast)
    assert code == 0, output
    folder = launcher.directory / "runs" / "contrast"
    pairs = [row for _, row in jsonlines.read(folder / "pairs" / "train.jsonl")]
    assert [row["chosen"] for row in pairs] == [row["answer"] + "<|end|>" for row in rows]
    model = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    code, output = launcher.run(*contrast, "resume=true")
    assert code == 0 and "the model is trained already" in output, output
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == model
