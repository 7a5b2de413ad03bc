"""What a run's summary says of the judge: what its store adds up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longreward import store
from longreward.schema import DimensionScore, JudgeCall, Reward, Sample, ScoredAnswer, Usage
from rl.config import RunConfig
from rl.run import online_training


def record(rollout: str, total: float | None, calls: int, status: str = "ok") -> ScoredAnswer:
    usage = Usage(calls=1, prompt_tokens=100, completion_tokens=10, cost=0.5)
    made = [JudgeCall(kind="helpfulness", usage=usage)] * calls
    reward = Reward(
        id="1", total=total, dimensions={"helpfulness": DimensionScore(score=total, status=status, calls=made)}
    )
    return ScoredAnswer.of(Sample(id="1", context="", query="?", answer="!"), reward, rollout=rollout)


def judged(tmp_path: Path) -> dict[str, Any]:
    sections = {"run": {"name": "run", "dir": str(tmp_path)}, "data": {"train": "train.jsonl"}}
    price = {"judge": {"price": {"prompt_per_million": 1.0}}}
    return online_training.judged(RunConfig.model_validate(sections | {"reward": price}))


def test_an_answer_scored_twice_counts_once_and_costs_twice(tmp_path):
    folder = tmp_path / "run" / "store"
    with store.Store(folder / "answers-a.jsonl") as part:
        part.append(record("1", 7.0, 2))
        part.append(record("2", None, 1, "timeout"))
    with store.Store(folder / "answers-b.jsonl") as part:
        part.append(record("2", 6.0, 3))
        part.append(record("3", None, 1, "filtered"))
    (folder / "answers-b.jsonl").open("a").write('{"half a li')
    found = judged(tmp_path)
    assert found["void_reasons"] == {"filtered": 1}, "judged again, it was found to be good"
    assert found["void_rate"] == 0.3333
    assert (found["judge_calls"], found["judge_tokens"], found["cost"]) == (7, 770, 3.5)


def test_an_empty_store_is_no_division_by_zero(tmp_path):
    assert judged(tmp_path)["void_rate"] == 0
