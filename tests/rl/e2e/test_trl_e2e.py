"""TRL's own GRPOTrainer on the toy policy, with LongReward as its reward functions."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from longreward import DIMENSIONS, LongReward, Sample
from longreward.adapters.trl import longreward_rewards

pytest.importorskip("trl", reason="TRL is not installed; pip install trl==1.16.0 --no-deps")
pytestmark = pytest.mark.e2e

POLICY = "rl/toy/policy"


def train(directory: Path, rewards, *, steps: int, **settings):
    """GRPO for a few steps of 2 prompts x 4 answers; the trainer afterwards."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    with Path("rl/toy/data/train.jsonl").open() as lines:
        rows = [json.loads(line) for line in islice(lines, 8)]
    prompts = [
        {
            "prompt": [{"role": "user", "content": f"{row['context']}\n\n{row['query']}"}],
            "context": row["context"],
            "query": row["query"],
        }
        for row in rows
    ]
    arguments = GRPOConfig(
        output_dir=str(directory),
        reward_weights=rewards.reward_weights,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=32,
        gradient_checkpointing=False,
        max_steps=steps,
        learning_rate=1e-3,
        logging_steps=1,
        log_completions=True,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **settings,
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32),
        reward_funcs=rewards,
        args=arguments,
        train_dataset=Dataset.from_list(prompts),
        processing_class=AutoTokenizer.from_pretrained(POLICY),
    )
    trainer.train()
    return trainer


def completions(directory: Path):
    """The table of all completions that TRL writes, its columns as lists."""
    import pandas

    tables = [pandas.read_parquet(path) for path in sorted((directory / "completions").glob("*.parquet"))]
    return pandas.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trl")
    trainer = train(directory, longreward_rewards({}, per_dimension=True), steps=2)
    return trainer, completions(directory)


def test_the_policy_was_trained(trained):
    import torch
    from transformers import AutoModelForCausalLM

    trainer, _ = trained
    before = AutoModelForCausalLM.from_pretrained(POLICY, dtype=torch.float32).state_dict()
    after = trainer.model.state_dict()
    assert trainer.state.global_step == 2
    assert all(torch.isfinite(weights).all() for weights in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_each_dimension_is_a_column_in_the_log(trained):
    trainer, _ = trained
    steps = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(steps) == 2
    for step in steps:
        dimensions = [step[f"rewards/longreward_{name}/mean"] for name in DIMENSIONS]
        assert all(0 <= value <= 10 for value in dimensions)
        assert step["reward"] == pytest.approx(sum(dimensions) / 4, abs=1e-4)
        assert step["longreward/total"] == pytest.approx(step["reward"], abs=1e-4)
        assert step["longreward/void"] == 0


def test_its_scores_are_those_of_the_library_for_the_same_answers(trained):
    _, table = trained
    with Path("rl/toy/data/train.jsonl").open() as lines:
        rows = {row["context"]: row["query"] for row in map(json.loads, lines)}
    samples = []
    for prompt, completion in zip(table["prompt"], table["completion"], strict=True):
        context, query = prompt[-1]["content"].rsplit("\n\n", 1)
        assert rows[context] == query
        samples.append(Sample(context=context, query=query, answer=completion[-1]["content"]))
    assert len(samples) == 16 and any(sample.answer.strip() for sample in samples)

    async def score():
        reward = LongReward.from_config({})
        scored = await reward.score_many(samples)
        await reward.aclose()
        return scored

    for place, reward in enumerate(asyncio.run(score())):
        for name in DIMENSIONS:
            assert table[f"longreward_{name}"][place] == pytest.approx(reward.dimensions[name].score, abs=1e-5)
        assert table["longreward/total"][place] == pytest.approx(reward.total)


def test_the_example_of_the_documentation_runs(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", Path("docs/adapters.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "runs/trl" in example
    ran: dict[str, Any] = {}
    exec(example.replace("runs/trl", str(tmp_path)), ran)
    log = ran["trainer"].state.log_history
    assert [entry["step"] for entry in log if "rewards/longreward_faithfulness/mean" in entry] == [1, 2]


@pytest.fixture(params=["sum_then_normalize", "normalize_then_sum"])
def with_voids(request, judge_server, tmp_path):
    """One step whose judge fails on one dimension of every third answer, beside another reward function."""
    scores = iter(range(1, 100))
    judge_server.script["helpfulness"] = lambda _, number: "no idea" if number % 3 == 1 else f"[[{next(scores) % 9}]]"
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "retry_base_s": 0, "parse_attempts": 1}

    def length(completions, **_):
        return [len(completion[-1]["content"]) / 100 for completion in completions]

    rewards = longreward_rewards({"judge": judge}, per_dimension=True, others=[length])
    logging.getLogger("trl.trainer.grpo_trainer").setLevel(logging.ERROR)  # it shows the whole row, document included
    trainer = train(tmp_path, rewards, steps=1, multi_objective_aggregation=request.param)
    return request.param, trainer, completions(tmp_path), rewards.reward_weights


def test_a_void_answer_is_none_and_harmless(with_voids):
    import numpy as np
    import torch

    how, trainer, table, weights = with_voids
    columns = [*(f"longreward_{name}" for name in DIMENSIONS), "length"]
    values = table[columns].to_numpy(dtype=float)
    void = np.isnan(values).all(axis=1)
    assert (np.isnan(values).any(axis=1) == void).all(), "an answer has all of its reward or none"
    assert 0 < void.sum() < len(values) == 8
    advantages = table["advantage"].to_numpy(dtype=float)
    assert (advantages[void] == 0).all()
    if how == "sum_then_normalize":
        totals = (values * weights).sum(axis=1)
        for start in (0, 4):
            group = [place for place in range(start, start + 4) if not void[place]]
            alone = (totals[group] - totals[group].mean()) / (totals[group].std(ddof=1) + 1e-4)
            assert advantages[group] == pytest.approx(alone, abs=1e-3), "the others are as if it had not been there"
    (step,) = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert step["longreward/void"] == pytest.approx(void.mean())
    assert all(torch.isfinite(weights).all() for weights in trainer.model.state_dict().values())
