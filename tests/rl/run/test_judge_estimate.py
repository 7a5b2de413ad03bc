"""What a run is expected to ask of its judge."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from longreward.model_config import PriceConfig
from rl.config import load
from rl.data import prompt_files
from rl.run import judge_estimate, planning

CONFIG = Path(__file__).parents[3] / "configs" / "grpo_cpu.yaml"


def test_a_runs_calls_follow_from_its_prompts_answers_and_epochs(tmp_path):
    rows = [{"idx": i, "context": f"Mara {i} sold copper. " * 50, "query": "What did Mara do?"} for i in range(20)]
    rows.insert(3, {"idx": "no question", "context": "Mara"})  # which is no prompt
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = load(CONFIG, ["run.device=cpu", f"data.train={data}", f"data.heldout={data}", "evaluation.max_prompts=5"])
    flags = planning.make(config, "online").flags
    flags = replace(flags, rollout_max_new_tokens=64, data_max_samples=10, rollout_n_samples_per_prompt=4)
    flags = replace(flags, train_num_episodes=3)
    found = judge_estimate.expected(config, flags)
    # Ten prompts of four answers, three times over; five held-out prompts of four answers, twice.
    assert found.answers == 10 * 4 * 3 + 5 * 4 * 2
    assert found.calls >= found.answers * 4
    assert f"{found.calls:,} calls" in judge_estimate.sentence(found, PriceConfig())
    assert "cost" not in judge_estimate.sentence(found, PriceConfig())
    judge = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "judge"}
    config.reward.judge = config.reward.judge.model_validate(judge)
    config.watch = config.watch.model_validate({"noise_share": 0.1, "shadow": {"share": 0.25, "judge": judge}})
    assert judge_estimate.expected(config, flags).answers == found.answers + 0.35 * 10 * 4 * 3


def test_where_answers_are_ranked_held_out_ones_are_rated(tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"idx": 1, "context": "Mara sold copper.", "query": "What did Mara do?"}) + "\n")
    words = ["run.device=cpu", f"data.train={data}", f"data.heldout={data}", "reward.helpfulness.way=ranking"]
    config = load(CONFIG, [*words, "reward.weights={helpfulness: 1}"])
    flags = planning.make(config, "online").flags
    flags = replace(flags, rollout_n_samples_per_prompt=4, train_num_episodes=3)
    assert judge_estimate.expected(config, flags).calls == 3 * 2 + 2 * 4


def test_rows_without_a_reference_are_not_counted_where_one_is_needed(tmp_path):
    rows = [{"context": "Mara sold copper.", "query": f"What {word}?", "gold": word} for word in ("copper", "?", 3)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    flags = planning.make(load(CONFIG, ["run.device=cpu"]), "online").flags
    flags = replace(flags, rollout_max_new_tokens=64, data_max_samples=10, rollout_n_samples_per_prompt=4)

    def counted(*overrides):
        config = load(CONFIG, [f"data.train={data}", "reward.reference.field=gold", *overrides])
        prompts = prompt_files.count(data, flags.data_max_samples, config.reward.reference_field)
        return prompts, judge_estimate.of_episode(config, flags).answers

    assert counted() == (3, 12)
    parts = "reward.composite.parts={longreward: {weight: 1}, reference: {weight: 1}}"
    assert counted("reward.name=composite", parts) == (1, 4)
