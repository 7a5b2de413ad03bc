"""Canaries: the judge's drift is seen, on a real Ray and a real socket, and counted in the run's spend."""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path

import pytest
import ray
from toy import answers, make_data, task

from longreward.errors import InputError
from longreward.schema import Sample
from rl.config import RunConfig
from rl.monitor import canaries
from rl.monitor.canaries import Canaries, Canary
from rl.rollout import judge_workers

TOY = Path(__file__).parents[3] / "rl" / "toy" / "data" / "canaries.jsonl"


@pytest.fixture(scope="module")
def small_ray():
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80_000_000)
    yield
    ray.shutdown()


@pytest.fixture
def configure(tmp_path, judge_server):
    def make(judge=None, **reward):
        judge = judge or {"kind": "openai", "base_url": judge_server.url, "model": "judge", "max_tokens": 64}
        reward = {"tokenizer": "words", "cache": {"path": str(tmp_path / "cache.db")}, **reward, "judge": judge}
        return RunConfig.model_validate(
            {"run": {"name": "watched", "dir": str(tmp_path)}, "data": {"train": "train.jsonl"}, "reward": reward}
        )

    return make


@pytest.fixture
def start(small_ray, configure):
    """Canaries of a run whose directory is there, and its judge worker."""
    started = []

    def begin(found, **reward):
        config = configure(**reward)
        config.directory.mkdir(exist_ok=True)
        workers = judge_workers.start(config, None, uuid.uuid4().hex[:8])
        started.append(workers)
        made = Canaries(config, found, workers.actors[0], threading.Event())
        made.spend = workers.spend
        return made

    yield begin
    for workers in started:
        workers.kill()


def some(rows):
    """The shared rows as canaries."""
    return [Canary(Sample(id=str(r["idx"]), **{k: r[k] for k in ("context", "query", "answer")}), None) for r in rows]


def history(path, found, max_drift=1.0, on_drift="warn"):
    """Canaries whose rounds are in `path`, without a judge worker."""
    run, watch = {"name": path.parent.name, "dir": path.parent.parent}, {"max_drift": max_drift, "on_drift": on_drift}
    config = RunConfig.model_validate({"run": run, "data": {"train": "train.jsonl"}, "watch": watch})
    return Canaries(config, found, None, threading.Event())


def scores(*totals):
    return [None if total is None else {"total": total, "helpfulness": total / 2} for total in totals]


def test_drift_is_the_mean_less_that_of_the_first_time_over_what_was_scored_both_times(tmp_path, rows):
    kept = history(tmp_path / "canaries.jsonl", some(rows))
    first, alarm = kept.add(0, scores(8.0, 6.0, None))
    assert (first.reference, first.drift, first.void, alarm) == (7.0, 0.0, 1, None)
    assert first.means == {"total": 7.0, "helpfulness": 3.5}
    second, alarm = kept.add(50, scores(7.5, None, 2.0))
    assert (second.reference, second.drift, alarm) == (5.0, -0.25, None)  # the third was not there the first time
    third, _ = kept.add(100, scores(None, None, None))
    assert third.drift is None and third.means == {} and third.scalars() == {"watch/canary_void": 3.0}
    assert "none of 3" in third.sentence()
    assert kept.summary() == {"canaries": {"n": 3, "reference": 5.0, "last": 4.75, "drift": -0.25, "alarms": 0}}
    written = [json.loads(line) for line in (tmp_path / "canaries.jsonl").read_text().splitlines()]
    assert [row["step"] for row in written] == [0, 50, 100]
    assert written[0]["scores"]["1"]["total"] == 6.0 and written[0]["scores"]["2"] is None
    assert all(row["time"] > 1e9 for row in written)


def test_an_alarm_comes_once_for_each_crossing_with_both_numbers_and_the_canary(tmp_path, rows):
    kept = history(tmp_path / "canaries.jsonl", some(rows), on_drift="stop")
    told = [kept.add(step, scores(9.0, low, 8.0))[1] for step, low in enumerate([7.0, 6.0, 1.0, 1.0, 7.0, 0.0])]
    assert [text is not None for text in told] == [False, False, True, False, False, True]
    assert "was 8.00 and is 6.00 at step 2" in told[2]
    assert "canary '1' moved most, from 7.00 to 1.00" in told[2]
    assert "resume=true" in told[2] and "max_drift is 1" in told[2]
    assert kept.summary()["canaries"]["alarms"] == 2


def test_a_judge_that_fails_at_most_canaries_gives_no_alarm(tmp_path, rows):
    kept = history(tmp_path / "canaries.jsonl", some(rows))
    kept.add(0, scores(9.0, 9.0, 9.0))
    assert kept.add(1, scores(None, None, 1.0))[1] is None
    assert kept.add(2, scores(None, 1.0, 1.0))[1] is not None
    assert kept.add(3, scores(None, None, 9.0))[1] is None
    assert kept.add(4, scores(1.0, 1.0, 1.0))[1] is None  # known already


def test_a_continued_run_compares_with_the_same_first_time(tmp_path, rows):
    path = tmp_path / "canaries.jsonl"
    history(path, some(rows)).add(0, scores(8.0, 8.0, 8.0))
    with path.open("a") as file:
        file.write('{"step": 50, "sco')  # killed while writing
    kept = history(path, some(rows))
    assert kept.summary()["canaries"]["last"] == 8.0
    later, alarm = kept.add(50, scores(5.0, 5.0, 5.0))
    assert later.drift == -3.0 and alarm is not None
    assert history(path, some(rows)).summary()["canaries"] == {
        "n": 3, "reference": 8.0, "last": 5.0, "drift": -3.0, "alarms": 1,
    }  # fmt: skip
    edited = some([rows[0], rows[1] | {"answer": "Another one."}, rows[2]])
    changed, _ = history(path, edited).add(100, scores(8.0, 3.0, 8.0))
    assert changed.drift == 0.0


def test_a_reference_in_the_file_goes_first(tmp_path, rows):
    path = tmp_path / "mine.jsonl"
    given = [rows[0] | {"total": 9}, rows[1] | {"scores": {"total": 7.0, "helpfulness": 1.0}}, rows[2]]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    kept = history(tmp_path / "canaries.jsonl", canaries.load(path), max_drift=0.5)
    first, alarm = kept.add(0, scores(8.0, 6.0, 3.0))
    assert first.reference == pytest.approx(19 / 3) and first.drift == pytest.approx(-2 / 3)
    assert alarm is not None


@pytest.mark.parametrize(
    "row, words",
    [
        ({"idx": "x", "context": "c", "query": "q"}, ["answer", ":2"]),
        ({"idx": 0, "context": "c", "query": "q", "answer": "a"}, ["two canaries '0'"]),
        ({"idx": 9, "context": "c", "query": "q", "answer": "a", "total": 11}, ["11", "0 to 10"]),
        ({"idx": 9, "context": "c", "query": "q", "answer": "a", "total": "good"}, ["'good'", "0 to 10"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_line(tmp_path, rows, row, words):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(rows[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(InputError) as error:
        canaries.load(path)
    assert all(word in str(error.value) for word in [*words, "mine.jsonl"])


@pytest.mark.parametrize("reference", [5, [5], {"text": "a"}, [], "", None])
def test_a_reference_that_is_no_text_is_refused_with_the_line(tmp_path, rows, reference):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(rows[0] | {"gold": "Copper."}) + "\n" + json.dumps(rows[1] | {"gold": reference}) + "\n")
    with pytest.raises(InputError, match=r"mine\.jsonl:2: .*gold.*reference"):
        canaries.load(path, "gold")
    path.write_text(json.dumps(rows[0] | {"gold": ["Copper.", "Tin."]}) + "\n")
    assert canaries.load(path, "gold")[0].sample.reference == ["Copper.", "Tin."]


def test_canaries_have_criteria_where_the_reward_asks_for_them(tmp_path, rows):
    path, keys = tmp_path / "mine.jsonl", []
    for text in ("Names copper.", "Names tin."):
        path.write_text(json.dumps(rows[0] | {"criteria": [text]}) + "\n")
        (canary,) = canaries.load(path, criteria=True)
        assert [criterion.text for criterion in canary.sample.criteria] == [text]
        keys.append(canary.key)
    assert keys[0] != keys[1], "a canary whose criteria were edited is another one"
    path.write_text(json.dumps(rows[0]) + "\n")
    assert canaries.load(path)[0].sample.criteria == ()
    with pytest.raises(InputError, match=r"mine\.jsonl:1: there are no criteria"):
        canaries.load(path, criteria=True)


def test_a_reward_model_on_a_gpu_has_no_canaries(configure):
    config = configure(name="openrlhf", openrlhf={"model_name_or_path": "x/y", "gpus": 1})
    assert canaries.check(config) is None
    config.watch.canaries = TOY
    problem = canaries.check(config)
    assert problem is not None and "watch.canaries" in problem.sentence and "leave watch.canaries out" in problem.action
    assert canaries.check(config.model_copy(update={"reward": configure().reward})) is None


def test_a_file_without_canaries_is_refused(tmp_path):
    (tmp_path / "none.jsonl").write_text("\n")
    for name in ("none.jsonl", "missing.jsonl"):
        with pytest.raises(InputError, match=name):
            canaries.load(tmp_path / name)


def test_the_shipped_canaries_are_what_the_maker_writes_and_of_the_quality_they_say():
    assert TOY.read_text(encoding="utf-8") == make_data.file_text("canaries.jsonl")
    rows = [json.loads(line) for line in TOY.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 12
    for row, prompt in zip(rows, task.prompts("canary"), strict=False):
        assert row["context"] == prompt.context
        expected = {row["idx"].split("-")[0]} - {"clean"}
        assert answers.faults(prompt, row["answer"]) == expected


def test_the_shipped_canaries_with_the_offline_judge_do_not_drift(start, tmp_path):
    found = canaries.load(TOY)
    chunks = {"evidence_tokens": 24, "extraction_tokens": 128}
    kept = start(found, judge={"kind": "offline"}, chunking=chunks)
    first, alarm = kept.score(0)
    assert first.void == 0 and alarm is None
    again, alarm = kept.score(50)
    assert again.drift == 0.0 and alarm is None
    assert again.means == first.means and set(again.means) > {"total", "faithfulness"}
    path = tmp_path / "watched" / canaries.FILE
    by_kind: dict[str, list[float]] = {}
    for name, one in json.loads(path.read_text().splitlines()[0])["scores"].items():
        by_kind.setdefault(name.split("-")[0], []).append(one["total"])
    assert min(by_kind["clean"]) == 10.0
    assert all(max(by_kind[kind]) < 10.0 for kind in ("invented", "missing", "padded"))


def test_a_judge_that_drifts_is_asked_again_found_out_and_in_the_spend(start, judge_server, rows, tmp_path):
    kept = start(some(rows))
    first, _ = kept.score(0)
    asked = judge_server.calls.total()
    assert first.drift == 0.0 and asked > 0
    second, alarm = kept.score(50)
    # Nothing is remembered: not in the cache, whose file is named in the configuration, nor a document's statements.
    assert judge_server.calls.total() == 2 * asked
    assert second.drift == 0.0 and alarm is None
    for kind in ("helpfulness", "logicality", "completeness"):
        judge_server.script[kind] = "Analysis.\n[[4]]"
    third, alarm = kept.score(100)
    assert third.drift == pytest.approx(-3.0)  # three of four dimensions by 4
    assert alarm is not None and "was 8.50 and is 5.50 at step 100" in alarm
    assert not (tmp_path / "cache.db").exists()
    assert kept.spend()["used"]["tokens"] == judge_server.calls.total() * 110


def test_a_round_past_its_deadline_or_the_runs_end_is_given_up(start, judge_server, rows):
    hurried = start(some(rows), answer_timeout_s=2)
    judge_server.latency = 300
    begun = time.monotonic()
    assert hurried.score(0) is None
    assert time.monotonic() - begun < judge_server.latency / 3  # the actor's start included

    patient = start(some(rows), answer_timeout_s=200)
    judge_server.latency = 0
    found, _ = patient.score(50)
    assert found.void == 0 and found.step == 50

    judge_server.latency = 300
    spent = patient.spend()["used"]["tokens"]
    asked, outcome = judge_server.calls.total(), []
    thread = threading.Thread(target=lambda: outcome.append(patient.score(100)))
    thread.start()
    while judge_server.calls.total() == asked:
        time.sleep(0.05)
    patient._ended.set()
    thread.join(60)
    assert outcome == [None]
    # What was sent may have to be paid for.
    deadline = time.monotonic() + 60
    while patient.spend()["used"]["tokens"] <= spent:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_full_disk_does_not_hide_an_alarm(tmp_path, rows, capfd):
    path = tmp_path / "gone" / "canaries.jsonl"
    kept = history(path, some(rows))
    kept.add(0, scores(9.0, 9.0, 9.0))
    path.unlink()
    path.mkdir()
    assert kept.add(1, scores(1.0, 1.0, 1.0))[1] is not None
    assert "cannot be written" in capfd.readouterr().out


def test_failed_canaries_are_void_and_the_others_count(start, judge_server, rows, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-of-the-canaries")
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "api_key_env": "MY_KEY"}
    judge_server.script["helpfulness"] = lambda prompt, number: "no verdict" if "silver" in prompt else "[[8]]"
    found, alarm = start(some(rows), judge=judge).score(0)
    assert (found.void, found.n, alarm) == (1, 3, None)
    assert found.means["total"] == pytest.approx(8.5)
    assert set(judge_server.keys) == {"Bearer sk-of-the-canaries"}
