"""What a run's store adds up to."""

from __future__ import annotations

from longreward import store
from longreward.schema import DimensionScore, JudgeCall, Reward, Sample, ScoredAnswer, Usage
from rl.monitor import store_totals


def record(rollout: str, total: float | None, calls: int, status: str = "ok") -> ScoredAnswer:
    usage = Usage(calls=1, prompt_tokens=100, completion_tokens=10, cost=0.5)
    made = [JudgeCall(kind="helpfulness", usage=usage)] * calls
    reward = Reward(
        id="1", total=total, dimensions={"helpfulness": DimensionScore(score=total, status=status, calls=made)}
    )
    return ScoredAnswer.of(Sample(id="1", context="", query="?", answer="!"), reward, rollout=rollout)


def test_an_answer_scored_twice_counts_once_and_costs_twice(tmp_path):
    with store.Store(tmp_path / "answers-a.jsonl") as part:
        part.append(record("1", 7.0, 2))
        part.append(record("2", None, 1, "timeout"))
    with store.Store(tmp_path / "answers-b.jsonl") as part:
        part.append(record("2", 6.0, 3))
        part.append(record("3", None, 1, "filtered"))
    (tmp_path / "answers-b.jsonl").open("a").write('{"half a li')
    found = store_totals.of_store(tmp_path)
    assert found.answers == 3
    assert dict(found.void) == {"filtered": 1}, "judged again, it was found to be good"
    assert found.void_rate == 1 / 3
    assert (found.usage.calls, found.usage.tokens, found.usage.cost) == (7, 770, 3.5)


def test_an_empty_store_is_no_division_by_zero(tmp_path):
    assert store_totals.of_store(tmp_path).void_rate == 0
