"""Another reward function is one line of the configuration: the real loop with several at once, a reward model too."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[3]

# The same answers by the same model, without our code between.
BY_HAND = """
import json, sys
from rl.trainer import cpu_backend
cpu_backend.apply()
import torch
from openrlhf.models import get_llm_for_sequence_regression
from transformers import AutoTokenizer
path = sys.argv[1]
model = get_llm_for_sequence_regression(path, "reward", attn_implementation="sdpa", param_dtype="fp16").eval()
tokenizer = AutoTokenizer.from_pretrained(path)
for line in sys.stdin:
    ids = tokenizer(json.loads(line) + tokenizer.eos_token, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        print(model(ids["input_ids"], attention_mask=ids["attention_mask"]).item())
"""


def test_several_reward_functions_train_a_policy(launcher, tiny, reward_model) -> None:
    (launcher.directory / "brevity.py").write_text("async def reward(sample):\n    return 10 / (1 + sample.tokens)\n")
    code, output = launcher.train(
        "reward.name=composite",
        "reward.composite.parts={openrlhf: {weight: 1}, reference: {weight: 1}, python: {weight: 2}}",
        f"reward.openrlhf.model_name_or_path={reward_model}",
        "reward.openrlhf.param_dtype=fp16",
        "reward.reference.field=context",
        f"reward.python.function={launcher.directory}/brevity.py:reward",
        "reward.python.allow=true",
        "data.heldout=null",
        *tiny,
    )
    assert code == 0, output
    run = launcher.directory / "runs" / "grpo_cpu"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 2 and summary["void_rate"] == 0 and summary["judge_calls"] == 0
    assert "stand-in" not in output, "no judge is asked, so none is announced"
    prompts = {}
    for line in (run / "data" / "train.jsonl").read_text().splitlines():
        row = json.loads(line)
        label = json.loads(row["label"])
        assert label["reference"] == [row["input"][slice(*label["context"])]]
        prompts[label["id"]] = row["input"]
    stored = [json.loads(line) for path in (run / "store").glob("*") for line in path.read_text().splitlines()]
    trained = [record for record in stored if record["split"] == "train"]
    assert len(trained) == 32
    for record in trained:
        scores = {name: dimension["score"] for name, dimension in record["dimensions"].items()}
        mean = (scores["openrlhf"] + scores["reference"] + 2 * scores["python"]) / 4
        assert record["total"] == pytest.approx(mean)
        assert scores["python"] == pytest.approx(10 / (1 + record["tokens"]))
    texts = "\n".join(json.dumps(prompts[record["id"]] + record["answer"]) for record in trained[:8])
    words = [sys.executable, "-c", BY_HAND, str(reward_model)]
    found = subprocess.run(words, cwd=ROOT, input=texts, text=True, capture_output=True, check=True, timeout=600)
    by_hand = [10 / (1 + math.exp(-float(line))) for line in found.stdout.split()[-8:]]
    ours = [record["dimensions"]["openrlhf"]["score"] for record in trained[:8]]
    assert ours == pytest.approx(by_hand, abs=0.02)


def test_places_among_siblings_and_criteria_of_the_rows_train_a_policy(launcher, tiny) -> None:
    rows = [json.loads(line) for line in (ROOT / "rl/toy/data/train.jsonl").read_text().splitlines()[:16]]
    criteria = ["Names a place.", {"text": "Refuses to answer.", "weight": -1}]
    data = launcher.directory / "rows.jsonl"
    data.write_text("".join(json.dumps(row | {"criteria": criteria}) + "\n" for row in rows))
    code, output = launcher.train(
        "reward.helpfulness.way=ranking",
        "reward.weights={helpfulness: 1, criteria: 1}",
        f"data.train={data}",
        "data.heldout=null",
        *tiny,
    )
    assert code == 0, output
    run = launcher.directory / "runs" / "grpo_cpu"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 2 and summary["void_rate"] == 0
    groups: dict[str, list[dict]] = {}
    for path in (run / "store").glob("*"):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            groups.setdefault(record["id"], []).append(record)
    assert sum(map(len, groups.values())) == 32
    for group in groups.values():
        spoken = [r["dimensions"]["helpfulness"]["score"] for r in group if r["answer"].strip()]
        assert sum(spoken) / len(spoken) == pytest.approx(5)
        for record in group:
            judged = record["dimensions"]["criteria"].get("criteria", [])
            assert [one["text"] for one in judged] == ["Names a place.", "Refuses to answer."] or not record["answer"]
