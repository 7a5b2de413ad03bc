"""What is shown while a run goes on, as the run sees it: on each step, in TensorBoard and W&B, and never in its way."""

from __future__ import annotations

import io
import json
import time
import uuid
from types import SimpleNamespace

import pytest
import ray
from rich.console import Console

from longreward.evaluation import second_scores
from longreward.evaluation.second_scores import SecondScore
from longreward.files.jsonlines import Appender
from rl.config import RunConfig
from rl.errors import JudgeDriftError
from rl.monitor.live_view import Screen
from rl.monitor.step_watch import StepWatch
from rl.rollout import judge_workers
from rl.rollout.judge_wait import JudgeWaits
from rl.rollout.rounds import Round
from rl.run.interrupt import Interrupt, interruptible
from rl.run.session import Session

STEP = 4  # answers


@pytest.fixture(scope="module")
def small_ray():
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80_000_000)
    yield
    ray.shutdown()


@pytest.fixture
def session(tmp_path):
    def make(watched, **sections):
        base = {"run": {"name": "watched", "dir": str(tmp_path)}, "data": {"train": "train.jsonl"}, "watch": watched}
        config = RunConfig.model_validate(base | {"reward": {"tokenizer": "words"}} | sections)
        config.directory.mkdir(exist_ok=True)
        flags = SimpleNamespace(answers_per_step=4)
        console = Console(file=io.StringIO(), force_terminal=True, width=1000)
        asked = "canaries" in watched and ray.is_initialized()
        started.append(judge_workers.start(config, None, uuid.uuid4().hex[:8]) if asked else judge_workers.Workers([]))
        plan = SimpleNamespace(config=config, flags=flags, tokenizer=None)
        return Session(plan, Screen(console), workers=started[-1])

    started: list[judge_workers.Workers] = []
    yield make
    for workers in started:
        workers.kill()


@pytest.fixture
def canaries_file(tmp_path, rows):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def watch(run, interrupt):
    return StepWatch(run.plan, run.screen, run.workers, interrupt.raise_in_main, first_step=run.first_step)


def score_a_step(run, step):
    """What the judge workers leave behind when a step's answers are scored."""
    with Appender(run.config.directory / "store" / "answers-0.jsonl") as store:
        for number in range(STEP):
            dimensions = {name: {"score": number * 2.0, "calls": []} for name in run.config.reward.needed}
            record = {"id": f"s{step}-{number}", "split": "train", "rollout": f"{step}-{number}", "time": 10.0 * step}
            store.append(record | {"query": "?", "answer": "!", "total": number * 2.0, "dimensions": dimensions})


def events(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.config.directory / "tensorboard" / "watched-watch"))
    found.Reload()
    return found


@pytest.fixture
def scalars(curves):
    def read(run):
        folder = run.config.directory / "tensorboard" / "watched-watch"
        return {tag: [(n, round(v, 3)) for n, v in by_step.items()] for tag, by_step in curves(folder).items()}

    return read


def texts(run):
    found = events(run)
    tags = [tag for tag in found.Tags()["tensors"] if tag.startswith("watch/samples")]
    return {e.step: e.tensor_proto.string_val[0].decode() for tag in tags for e in found.Tensors(tag)}


def screen(run):
    return run.console.file.getvalue()


def rounds(run):
    path = run.config.directory / "canaries.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return found


def test_samples_and_canaries_go_to_tensorboard_and_wandb(small_ray, session, canaries_file, scalars, monkeypatch):
    # OpenRLHF's W&B run, whose id the environment holds, is not to be written to.
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    monkeypatch.setenv("WANDB_RESUME", "allow")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = session(
        {"every": 2, "samples": 3, "canaries": str(canaries_file), "canaries_every": 3},
        wandb={"mode": "offline", "run_id": "abc"},
    )
    score_a_step(run, 0)
    with watch(run, Interrupt()) as watched:
        wait_for(lambda: rounds(run))
        for step in range(1, 5):
            score_a_step(run, step)
            watched.on_step(step)
            due = {2: lambda: 2 in texts(run), 3: lambda: len(rounds(run)) == 2, 4: lambda: 4 in texts(run)}
            wait_for(due.get(step, lambda: True))
    wait_for(lambda: not watched._thread.is_alive())
    shown = texts(run)
    assert list(shown) == [2, 4]
    assert [mark in shown[4] for mark in ("s4&#45;3", "s4&#45;0", "s3&#45;", "best: 6.00", "worst: 0.00")] == [
        True, True, False, True, True,
    ]  # fmt: skip
    found = scalars(run)
    assert found["watch/canary_drift"] == [(0, 0.0), (3, 0.0)] and found["watch/canary_void"] == [(0, 0), (3, 0)]
    assert {"watch/canary_total", "watch/canary_faithfulness"} < set(found)
    assert [row["step"] for row in rounds(run)] == [0, 3]
    assert "canaries at step 3: reward" in screen(run) and "drift +0.00" in screen(run)
    (offline,) = (run.config.directory / "wandb").glob("offline-run-*")
    assert offline.name.endswith("-abc-watch")
    (binary,) = offline.glob("*.wandb")
    for name in (b"watch/canary_total", b"watch/samples"):
        wait_for(lambda name=name: name in binary.read_bytes())  # W&B's own process writes it
    summary = watched.summary()["canaries"]
    assert summary["n"] == 3 and summary["drift"] == 0.0 and summary["alarms"] == 0
    assert summary["last"] == summary["reference"] > 0


def test_a_drift_ends_the_run_with_a_sentence(small_ray, session, canaries_file, judge_server, scalars):
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge"}
    run = session(
        {"canaries": str(canaries_file), "canaries_every": 1, "on_drift": "stop", "samples": 0},
        reward={"tokenizer": "words", "judge": judge},
    )
    with pytest.raises(JudgeDriftError, match=r"was 8\.50 and is 6\.50.*moved most.*resume=true"):  # noqa: SIM117
        with interruptible() as interrupt, watch(run, interrupt) as watched:
            wait_for(lambda: rounds(run))
            judge_server.script |= {"helpfulness": "[[4]]", "logicality": "[[4]]"}
            watched.on_step(1)
            time.sleep(120)
    assert watched.summary()["canaries"]["alarms"] == 1
    assert "\x1b[33mthe judge has drifted" in screen(run)
    assert scalars(run)["watch/canary_drift"] == [(0, 0.0), (1, -2.0)]


def test_a_round_that_is_due_while_another_goes_on_is_left_out(small_ray, session, canaries_file, judge_server):
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge"}
    run = session(
        {"canaries": str(canaries_file), "canaries_every": 1, "samples": 0},
        reward={"tokenizer": "words", "judge": judge},
    )
    judge_server.latency = 0.5
    with watch(run, Interrupt()) as watched:
        wait_for(lambda: judge_server.calls)
        for step in range(1, 6):
            watched.on_step(step)
        wait_for(lambda: rounds(run))
        time.sleep(1)
        assert [row["step"] for row in rounds(run)] == [0]
        watched.on_step(6)
        wait_for(lambda: len(rounds(run)) == 2)
    assert [row["step"] for row in rounds(run)] == [0, 6]


def test_canaries_that_are_gone_and_no_place_to_write_do_not_end_the_run(session, capfd):
    run = session({"every": 1, "canaries": "gone.jsonl"}, wandb={"mode": "offline"})
    (run.config.directory / "tensorboard").write_text("a file where TensorBoard wants a folder")
    with interruptible() as interrupt, watch(run, interrupt) as watched:
        for step in range(1, 4):
            score_a_step(run, step)
            watched.on_step(step)
        wait_for(lambda: list((run.config.directory / "wandb").glob("*/*.wandb")))
    assert interrupt.error is None and watched.summary() == {}
    printed = capfd.readouterr()
    assert printed.err.count("gone.jsonl cannot be read") == 1
    assert printed.out.count("canaries failed") == printed.out.count("TensorBoard failed") == 1


def test_a_board_that_fails_is_told_once_and_the_others_are_written_to(session, capfd):
    class Broken:
        name = "Broken"

        def answers(self, step, chosen):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    run = session({"every": 1})
    with watch(run, Interrupt()) as watched:
        watched._boards.insert(0, Broken())
        for step in range(1, 4):
            score_a_step(run, step)
            watched.on_step(step)
            wait_for(lambda step=step: step in texts(run))
    printed = capfd.readouterr()
    assert printed.out.count("Broken failed") == 1 and printed.err.count("OSError: [Errno 28]") == 1


def test_steps_that_are_passed_over_do_not_lose_a_turn(session):
    run = session({"every": 10, "samples": 1})
    with watch(run, Interrupt()) as watched:
        for step in (3, 9, 13, 18, 21):
            score_a_step(run, step)
            watched.on_step(step)
            wait_for(lambda step=step: step not in (13, 21) or step in texts(run))
            time.sleep(0.1)
    assert list(texts(run)) == [13, 21]


def test_a_continued_run_shows_its_steps_once(session):
    run = session({"every": 1, "samples": 1})
    for resume, steps in ((False, (1, 2, 3)), (True, (3,))):
        run.config.resume, run.first_step = resume, 2 * resume
        with watch(run, Interrupt()) as watched:
            for step in steps:
                score_a_step(run, step + 10 * resume)
                watched.on_step(step)
                mark = f"s{step + 10 * resume}&#45;3"
                wait_for(lambda step=step, mark=mark: mark in texts(run).get(step, ""))
        # TensorBoard reads files in the order of their names, which begin with the second they were made in.
        made = int(time.time())
        wait_for(lambda made=made: int(time.time()) > made)
    assert list(texts(run)) == [1, 2, 3]


def score_twice(run, step, kind, first, second):
    """What a judge worker leaves behind of a group that was scored a second time."""
    folder = run.config.directory / second_scores.FOLDER
    with second_scores.SecondScores(folder / "0-a.jsonl") as file:
        for place, (one, other) in enumerate(zip(first, second, strict=True)):
            scores = None if other is None else {"total": other}
            file.append(SecondScore(kind, f"p{step}", f"p{step}", f"p{step}/{place}", step, {"total": one}, scores))


def test_the_judges_noise_and_its_shadow_have_curves_and_where_they_part_there_is_one_alarm(session, scalars):
    shadow = {"share": 1.0, "judge": {"kind": "offline"}}
    judge = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "judge"}
    run = session({"samples": 0, "noise_share": 1.0, "shadow": shadow}, reward={"tokenizer": "words", "judge": judge})
    with watch(run, Interrupt()) as watched:
        for step in range(1, 37):
            # Both rise to step 12; then the reward goes on and the shadow does not.
            total, other = 4 + step / 8 + step % 3 / 20, 3 + min(step, 12) / 8 - step % 2 / 20
            score_twice(run, step, "shadow", [total, total + 1], [other, None])
            score_twice(run, step, "repeat", [4.0, 6.0, 8.0], [4.5, 6.0, 7.5])
            watched.on_step(step)
            wait_for(lambda step=step: step in dict(scalars(run).get("watch/shadow_total", [])))
    found = scalars(run)
    assert dict(found["watch/shadowed_total"])[16] == 6.05 and dict(found["watch/shadow_void"])[16] == 0.5
    # Differences of 0.5, 0 and -0.5: their variance is 0.25, half of it is the judge's, of a spread of 2.
    assert dict(found["watch/noise_total"])[3] == 0.354 and dict(found["watch/signal_total"])[3] == 0.969
    said = watched.summary()["divergence"]
    assert 10 <= said["onset"] <= 14 < said["step"] <= 36
    assert screen(run).count("the reward has parted from the shadow judge: since step") == 1
    assert f"'p{said['step']}' (rollout p{said['step']}/0)" in screen(run)


def test_a_continued_run_knows_what_was_scored_twice_before(session, scalars):
    run = session({"samples": 0, "shadow": {"share": 1.0, "judge": {"kind": "offline"}}})
    for step in range(1, 31):
        score_twice(run, step, "shadow", [4 + step / 8], [4 + min(step, 10) / 8])
    run.first_step = 30
    with watch(run, Interrupt()) as watched:
        score_twice(run, 31, "shadow", [7.9], [5.2])
        watched.on_step(31)
        wait_for(lambda: "watch/shadow_total" in scalars(run))
    assert scalars(run)["watch/shadow_total"] == [(31, 5.2)]
    assert watched.summary()["divergence"]["onset"] == 30  # at the latest: when it was, the report tells


def test_how_long_steps_wait_for_the_judge_has_a_curve(session, scalars):
    run, waits = session({"samples": 0}), JudgeWaits()
    run.workers.judge_wait = lambda: waits.so_far
    with watch(run, Interrupt()) as watched:
        for step in (1, 2, 3):
            waits.add(Round(10 * step, 10 * step + 6, 10 * step + 8))
            watched.on_step(step)
            wait_for(lambda step=step: step in dict(scalars(run).get("longreward/judge_wait_s", [])))
    found = scalars(run)
    assert found["longreward/judge_wait_s"] == [(1, 2.0), (2, 2.0), (3, 2.0)]
    assert found["longreward/judge_wait_share"] == [(1, 0.25), (2, 0.2), (3, 0.2)]
