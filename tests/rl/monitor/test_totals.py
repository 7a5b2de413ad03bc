"""What a run's store adds up to."""

from __future__ import annotations

from longreward.store import Store
from rl.monitor import store_totals


def record(rollout: str, total: float | None, calls: int, status: str = "ok") -> dict:
    usage = {"calls": 1, "prompt_tokens": 100, "completion_tokens": 10, "cost": 0.5}
    dimension = {"score": total, "calls": [{"kind": "helpfulness", "usage": usage}] * calls}
    if total is None:
        dimension = {**dimension, "status": status}
        del dimension["score"]
    return {"rollout": rollout, "total": total, "dimensions": {"helpfulness": dimension}}


def test_an_answer_scored_twice_counts_once_and_costs_twice(tmp_path):
    with Store(tmp_path / "a.jsonl") as store:
        store.append(record("1", 7.0, 2))
        store.append(record("2", None, 1, "timeout"))
    with Store(tmp_path / "b.jsonl") as store:
        store.append(record("2", 6.0, 3))
        store.append(record("3", None, 1, "filtered"))
    (tmp_path / "b.jsonl").open("a").write('{"half a li')
    found = store_totals.of_store(tmp_path)
    assert found.answers == 3
    assert dict(found.void) == {"filtered": 1}, "judged again, it was found to be good"
    assert found.void_rate == 1 / 3
    assert (found.usage.calls, found.usage.tokens, found.usage.cost) == (7, 770, 3.5)


def test_an_empty_store_is_no_division_by_zero(tmp_path):
    assert store_totals.of_store(tmp_path).void_rate == 0
