"""LongReward as a judge of verifiers 0.4.0: its own loader, `Task.score`, rollouts and retries."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
import verifiers.v1 as vf
from pydantic import ValidationError
from verifiers.v1.configs.retries import RetryConfig, RetryRule
from verifiers.v1.graph import MessageNode
from verifiers.v1.harnesses.null.harness import NullHarness, NullHarnessConfig
from verifiers.v1.rollout import Rollout, RolloutTimeouts
from verifiers.v1.runtimes import SubprocessConfig, make_runtime
from verifiers.v1.session import RolloutLimits
from verifiers.v1.types import AssistantMessage, UserMessage
from verifiers.v1.utils.loaders import import_judge, judge_class, load_taskset, resolve_env_config
from verifiers.v1.utils.retries import RetryState

from longreward import InputError, LongReward, Sample
from longreward.adapters.verifiers import LongRewardJudge, LongRewardJudgeConfig, LongRewardTaskset


class Question(vf.TaskData):
    context: str
    query: str
    criteria: list[str | dict] | None = None


def task_of(row, config=None, task_type=vf.Task, **judge):
    """The task of a row, judged by LongReward as a user's configuration plugs it."""
    data = Question(idx=row["idx"], prompt="read and answer", context=row["context"], query=row["query"])
    plugged = {"id": "longreward-verifiers", "config": {} if config is None else config} | judge
    return task_type(data, vf.TaskConfig.model_validate({"judges": [plugged]}))


def nodes(answer):
    asked = MessageNode(parent=None, message=UserMessage(content="read and answer"), sampled=False)
    return [asked, MessageNode(parent=0, message=AssistantMessage(content=answer), sampled=True)]


def trace_of(task, answer, agent=None):
    about = vf.TraceTask(type="Task", data=task.data)
    return vf.Trace(agent=vf.AgentInfo(config=agent or vf.AgentConfig()), task=about, nodes=nodes(answer))


async def score_all(rows, *args, **more):
    """The traces of rows, scored at the same time by verifiers, and what it raised for each."""
    tasks = [task_of(row, *args, **more) for row in rows]
    traces = [trace_of(task, row["answer"]) for task, row in zip(tasks, rows, strict=True)]
    scoring = (task.score(trace) for task, trace in zip(tasks, traces, strict=True))
    return traces, await asyncio.gather(*scoring, return_exceptions=True)


def scored(rows, *args, **more):
    traces, raised = asyncio.run(score_all(rows, *args, **more))
    assert raised == [None] * len(rows)
    return traces


@pytest.fixture
def judge(judge_server):
    """A judge that gives no verdict on completeness where the answer speaks of silver."""
    judge_server.script["completeness"] = lambda prompt, _: "no idea" if "silver" in prompt else "[[6]]"
    return {"judge": {"kind": "openai", "base_url": judge_server.url, "model": "judge", "retry_base_s": 0}}


@pytest.fixture
def rollout(rows):
    """A rollout of verifiers that has come to its answer; `close` is what verifiers does from there on."""

    async def close(task, answer, **timeouts):
        harness, settings = NullHarness(NullHarnessConfig(id="null")), SubprocessConfig()
        given = {"ctx": None, "runtime_config": settings, "limits": RolloutLimits()}
        agent = vf.AgentConfig(timeout=timeouts)
        run = Rollout(task=task, agent_config=agent, harness=harness, timeouts=RolloutTimeouts(**timeouts), **given)
        run.trace.nodes = nodes(answer)
        run.runtime = make_runtime(settings, name=run.trace.id)
        await run.runtime.start()
        run._opened = True
        return await run.close()

    return lambda *args, **timeouts: asyncio.run(close(*args, **timeouts))


def test_verifiers_finds_the_judge_by_its_module_and_by_no_dotted_name():
    assert judge_class("longreward-verifiers") is LongRewardJudge
    with pytest.raises(ModuleNotFoundError):
        import_judge("longreward.adapters.verifiers")  # else longreward_verifiers.py would not be needed


def test_the_reward_is_a_tenth_of_the_total_and_the_scores_are_metrics(rows):
    async def library():
        reward = LongReward.from_config({})
        found = await reward.score_many(Sample(**{k: v for k, v in row.items() if k != "idx"}) for row in rows)
        await reward.aclose()
        return found

    expected = asyncio.run(library())
    traces = scored(rows, weight=0.5)
    for trace, reward in zip(traces, expected, strict=True):
        assert trace.rewards == {"longreward": vf.Reward(score=reward.total / 10, weight=0.5)}
        metrics = {f"longreward/{name}": value for name, value in reward.scores.items()}
        usage = {"longreward/judge_calls": reward.usage.calls, "longreward/judge_cost": 0.0}
        assert {name: value for name, value in trace.metrics.items() if name in metrics} == pytest.approx(metrics)
        assert trace.metrics.keys() == {*metrics, *usage, "longreward/void"} and trace.metrics["longreward/void"] == 0
    assert traces[0].reward > traces[1].reward > traces[2].reward


def test_answers_of_a_process_share_document_and_limits(judge, judge_server, rows):
    judge["judge"]["max_in_flight"] = 2
    judge_server.latency = 0.02
    answers = ["Otto bought copper.", "Karl sold apples.", "It rained.", "Nobody knows."]
    traces = scored([rows[0] | {"answer": answer} for answer in answers], judge)
    assert judge_server.calls["helpfulness"] == 4 and judge_server.calls["extract"] == 1
    assert judge_server.most_in_flight == 2
    calls = judge_server.calls.total()
    assert sum(trace.metrics["longreward/judge_calls"] for trace in traces) == calls
    used = vf.Usage.aggregate(usage for trace in traces for usage in trace.extra_usage)
    assert (used.input_tokens, used.completion_tokens) == (100 * calls, 10 * calls)


def test_a_void_has_no_reward_and_its_siblings_have_theirs(judge, rows):
    (first, void, last), raised = asyncio.run(score_all(rows, judge))
    assert raised[0] is None and raised[2] is None
    assert isinstance(raised[1], vf.TaskError)
    assert "VoidRewardError: no reward for the answer to task 1 (completeness: parse_error)" in str(raised[1])
    assert void.rewards == {"longreward": None}, "the name without a score: verifiers' own mark of what was not scored"
    assert void.metrics["longreward/void"] == 1.0 and void.metrics["longreward/judge_calls"] > 0
    assert "longreward/total" not in void.metrics and void.extra_usage, "what it cost is told, and no score"
    alone = scored([rows[0], rows[2]], judge)
    assert [trace.rewards for trace in (first, last)] == [trace.rewards for trace in alone]


def test_a_void_ends_the_rollout_as_an_error(judge, rows, rollout):
    fine = rollout(task_of(rows[0], judge), rows[0]["answer"])
    assert fine.ok and fine.reward > 0
    void = rollout(task_of(rows[1], judge), rows[1]["answer"])
    assert void.has_error and void.rewards == {"longreward": None} and void.stop_condition == "task_error"
    assert [error.type for error in void.errors] == ["TaskError"]
    assert RetryState(RetryConfig()).next_error(void.errors) is None, "verifiers does not try again by itself"
    rule = RetryRule(message="VoidRewardError", max_retries=1)
    assert RetryState(RetryConfig(rules=[rule])).next_error(void.errors) is void.errors[0]


def test_with_other_rewards_a_void_is_an_error_of_the_rollout_all_the_same(judge, rows, rollout):
    class Polite(vf.Task[Question]):
        @vf.reward
        async def polite(self, trace) -> float:
            return 1.0

    void = rollout(task_of(rows[1], judge, Polite), rows[1]["answer"])
    assert void.has_error and void.rewards == {"polite": vf.Reward(score=1.0), "longreward": None}


def test_an_empty_answer_has_the_floor_without_a_call(judge, judge_server, rows, rollout):
    for answer in ("", " \n"):
        trace = rollout(task_of(rows[0], judge), answer)
        assert trace.ok and trace.rewards["longreward"].score == 0.0
    assert not judge_server.calls


def test_an_answer_that_was_cut_loses_what_the_configuration_says(rows):
    task = task_of(rows[0], {"truncated_loss": 0.5})
    whole, cut = (trace_of(task, rows[0]["answer"]) for _ in range(2))
    cut.calls = [vf.ModelCall(finish_reason="length")]
    for trace in (whole, cut):
        asyncio.run(task.score(trace))
    assert cut.reward == pytest.approx(whole.reward / 2) and whole.reward > 0


def test_scoring_that_is_cancelled_ends_its_calls_and_none_of_its_siblings(judge, judge_server, rows):
    asked = threading.Event()

    async def hang():
        asked.set()
        await asyncio.Event().wait()

    judge_server.script["helpfulness"] = lambda prompt, _: hang() if "I hope this helps" in prompt else "[[8]]"
    tasks = [task_of(row, judge) for row in (rows[0], rows[2])]
    traces = [trace_of(task, row["answer"]) for task, row in zip(tasks, (rows[0], rows[2]), strict=True)]
    (plugged,) = tasks[0].plugged_judges()
    background = plugged.config.reward()

    def until_nothing_is_asked():
        while background._worker.reward.stats()["judge/in_flight"]:
            time.sleep(0.01)

    async def run():
        kept, cancelled = (asyncio.create_task(t.score(trace)) for t, trace in zip(tasks, traces, strict=True))
        await asyncio.to_thread(asked.wait)
        cancelled.cancel()
        await asyncio.wait([kept, cancelled])
        assert cancelled.cancelled() and traces[1].rewards == {"longreward": None}
        assert kept.exception() is None and traces[0].reward > 0
        await asyncio.wait_for(asyncio.to_thread(until_nothing_is_asked), 60)

    asyncio.run(run())


def test_a_time_out_of_scoring_would_be_a_zero_and_is_refused(rows, rollout):
    class Slow(vf.Task[Question]):
        @vf.reward
        async def slow(self, trace) -> float:
            await asyncio.sleep(60)
            return 1.0

    data = Question(idx=0, prompt="read and answer", context="", query="")
    lost = rollout(Slow(data), "It rained.", scoring=0.01)
    assert lost.ok and lost.reward == 0.0 and lost.rewards == {"slow": None}, "as we warn"
    refused = rollout(task_of(rows[0]), rows[0]["answer"], scoring=30)
    assert refused.has_error and "timeout.scoring is 30: an answer" in refused.last_error.message
    by_task = task_of(rows[0]).with_data(timeout=vf.TaskTimeout(scoring=0.5))
    assert "timeout.scoring is 0.5" in rollout(by_task, rows[0]["answer"]).last_error.message
    replayed = trace_of(by_task, rows[0]["answer"])
    asyncio.run(by_task.score(replayed))  # without a rollout nothing ends it
    assert replayed.reward > 0


def test_the_configuration_is_a_file_or_that_of_the_environment(monkeypatch, tmp_path, rows):
    file = tmp_path / "reward.yaml"
    file.write_text("weights: {faithfulness: 1}\n")
    (by_path,) = scored(rows[:1], str(file))
    assert "longreward/faithfulness" in by_path.metrics and "longreward/logicality" not in by_path.metrics
    unnamed = vf.Task(task_of(rows[0]).data, vf.TaskConfig(judges=[LongRewardJudgeConfig()]))
    with pytest.raises(vf.TaskError, match="LONGREWARD_CONFIG"):
        asyncio.run(unnamed.score(trace_of(unnamed, rows[0]["answer"])))
    monkeypatch.setenv("LONGREWARD_CONFIG", str(file))
    trace = trace_of(unnamed, rows[0]["answer"])
    asyncio.run(unnamed.score(trace))
    assert trace.rewards == by_path.rewards


def test_what_cannot_work_is_said_before_anything_runs(tmp_path, rows):
    with pytest.raises(ValidationError, match="did you mean 'weights'"):
        task_of(rows[0], {"weight": {"faithfulness": 1}})
    with pytest.raises(ValidationError, match=r"missing\.yaml does not exist"):
        task_of(rows[0], str(tmp_path / "missing.yaml"))
    with pytest.raises(ValidationError, match="max_in_flight is 2, too little for 3 processes"):
        endpoint = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "model": "judge", "max_in_flight": 2}
        task_of(rows[0], {"judge": endpoint}, processes=3)
    with pytest.raises(ValidationError, match="model is 'big-judge', which has no effect here"):
        task_of(rows[0], model="big-judge")
    again = vf.TaskConfig.model_validate(task_of(rows[0], weight=2).config.model_dump(mode="json"))
    assert isinstance(again.judges[0], LongRewardJudgeConfig) and again.judges[0].weight == 2, "to a worker and back"


def test_a_task_without_document_names_what_is_missing(rows):
    with pytest.raises(
        vf.TaskError, match=r"'document' of task 0 is None, not text \(there: context, criteria, query\)"
    ):
        task = task_of(rows[0], context_field="document")
        asyncio.run(task.score(trace_of(task, "It rained.")))
    data = {"idx": 0, "prompt": "?", "document": rows[0]["context"], "question": rows[0]["query"]}
    names = {"context_field": "document", "query_field": "question"}
    task = vf.Task(vf.WireTaskData(**data), task_of(rows[0], **names).config)
    trace = trace_of(task, rows[0]["answer"])
    asyncio.run(task.score(trace))
    assert trace.rewards == scored(rows[:1])[0].rewards


def test_criteria_are_read_where_they_have_a_weight(rows):
    config = {"weights": {"criteria": 1}}
    wanted = ["Mara sold copper to Otto in Lisbon.", {"text": "Mara sold silver.", "weight": -1}]
    tasks = [task_of(row, config).with_data(criteria=wanted) for row in rows]
    found = [trace_of(task, row["answer"]) for task, row in zip(tasks, rows, strict=True)]
    for task, trace in zip(tasks, found, strict=True):
        asyncio.run(task.score(trace))
    assert found[0].reward > found[1].reward >= found[2].reward == 0
    with pytest.raises(vf.TaskError, match="task 0: criteria is NoneType, not a list"):
        task = task_of(rows[0], config)
        asyncio.run(task.score(trace_of(task, rows[0]["answer"])))


def test_the_taskset_asks_the_rows_of_a_file_and_plugs_the_judge(monkeypatch, tmp_path, rows):
    def environment(**more):
        taskset = {"id": "longreward-verifiers", "path": str(tmp_path / "rows.jsonl"), **more}
        return resolve_env_config({"taskset": taskset})

    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    (tmp_path / "reward.yaml").write_text("{}\n")
    taskset = load_taskset(environment().taskset)
    assert isinstance(taskset, LongRewardTaskset)
    first, second = taskset
    assert (first.data.idx, first.data.id, second.data.id) == (0, "0", "1")
    assert first.data.prompt == rows[0]["context"] + "\n\n" + rows[0]["query"]
    monkeypatch.setenv("LONGREWARD_CONFIG", str(tmp_path / "reward.yaml"))
    trace = trace_of(first, rows[0]["answer"])
    asyncio.run(first.score(trace))
    assert trace.rewards == scored(rows[:1])[0].rewards
    plugged = {"id": "longreward-verifiers", "config": {"weights": {"faithfulness": 1}}}
    (other, *_) = load_taskset(environment(task={"judges": [plugged]}).taskset)
    asyncio.run(other.score(trace := trace_of(other, rows[0]["answer"])))
    assert "longreward/faithfulness" in trace.metrics and "longreward/logicality" not in trace.metrics
    (tmp_path / "rows.jsonl").write_text(json.dumps({"idx": 7, "context": "It rained."}) + "\n")
    with pytest.raises(InputError, match=r"rows.jsonl:1: query is None; it must be text"):
        list(taskset)
