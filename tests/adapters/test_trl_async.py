"""A void in the groups of TRL's AsyncGRPOTrainer: its own code from the scoring of a group to the batch of the learner.

tests/longreward/e2e/test_trl_async_e2e.py has the rest of the trainer.
"""

from __future__ import annotations

import math
import queue
from collections import defaultdict
from itertools import islice

import pytest
from trainers.trl import scored_group

from longreward.adapters.trl import longreward_rewards

pytest.importorskip("trl", reason="TRL is not installed; pip install trl==1.16.0 --no-deps")

GRADES = {"copper": 9, "silver": 6, "iron": 2, "gold": 5}
SILENT = ("tin", "lead")
"""The judge gives no verdict on answers that name one of these."""


@pytest.fixture
def config(judge_server):
    def grade(prompt, _):
        answer = prompt.rpartition("sold ")[2]
        return next((f"[[{grade}]]" for metal, grade in GRADES.items() if answer.startswith(metal)), "no idea")

    judge_server.script["completeness"] = judge_server.script["helpfulness"] = grade
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "retry_base_s": 0, "parse_attempts": 1}
    return {"judge": judge, "weights": {"helpfulness": 1, "completeness": 3}}


def length(completions, **_):
    return [len(completion[-1]["content"]) / 100 for completion in completions]


def scored(rewards, metals):
    completions = [[{"role": "assistant", "content": f"Mara sold {metal}."}] for metal in metals]
    return scored_group(rewards, completions, context="Mara sold copper to Otto.", query="Who sold what?")


def functions(config):
    return longreward_rewards(config, per_dimension=True, others=[length], other_weights=[0.5], weighted=True)


def test_a_void_has_no_advantage_and_moves_that_of_no_sibling(config):
    metals = ["copper", "tin", "iron", "silver"]
    with_void = scored(functions(config), metals)
    without = scored(functions(config), [metal for metal in metals if metal != "tin"])
    alone = [sample.advantage for sample in without]
    assert [sample.advantage for sample in with_void] == [alone[0], 0.0, *alone[1:]]
    assert alone[0] > alone[2] > 0 > alone[1]
    assert with_void[0].metrics == without[0].metrics
    assert with_void[0].metrics["reward"] == pytest.approx(9 + 0.5 * len("Mara sold copper.") / 100)
    rewards = {name: value for name, value in with_void[1].metrics.items() if name != "reward_std"}
    names = ["longreward_helpfulness", "longreward_completeness", "length"]
    assert list(rewards) == ["reward", *(f"rewards/{name}" for name in names)]
    assert all(math.isnan(value) for value in rewards.values()), "nothing of it is logged, and not as a 0"


@pytest.mark.parametrize("metals", [["tin", "lead", "tin"], ["copper", "lead", "tin"]])
def test_a_group_of_voids_teaches_nothing(config, metals):
    samples = scored(functions(config), metals)
    assert [sample.advantage for sample in samples] == [0.0, 0.0, 0.0]


def test_a_void_is_in_the_batch_with_advantage_zero_and_not_in_the_logged_means(config):
    from trl.experimental.async_grpo.async_grpo_trainer import (
        DataCollatorForRollout,
        FixedCountBatcher,
        RolloutQueueDataset,
    )

    samples = scored(functions(config), ["copper", "tin", "iron", "gold"])
    buffer: queue.Queue = queue.Queue()
    for sample in samples:
        buffer.put(sample)
    metrics = defaultdict(list)
    drained = RolloutQueueDataset(buffer, lambda: 0, lambda stale_after_s: None, 60.0, metrics)
    (rows,) = islice(FixedCountBatcher(drained, num_processes=1, microbatch_size=4), 1)
    batch = DataCollatorForRollout(pad_token_id=0, metrics=metrics)([rows])
    tokens = list(zip(batch["segment_id"][0].tolist(), batch["advantages"][0].tolist(), strict=True))
    assert tokens == [(place, pytest.approx(samples[place].advantage)) for place in (0, 0, 1, 1, 2, 2, 3, 3)]
    assert tokens[2:4] == [(1, 0.0), (1, 0.0)]
    assert batch["global_n_tokens"].tolist() == [8.0], "its two tokens are in what the loss is divided by"
    expected = [sample.metrics["reward"] for sample in samples if not math.isnan(sample.metrics["reward"])]
    assert len(expected) == 3 and metrics["reward"] == [pytest.approx(sum(expected) / 3)]
