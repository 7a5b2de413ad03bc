"""The server as NeMo Gym's agents and tools see it, and verifiers' own client of such servers."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from trainers.served import NemoGym

from longreward import LongReward, Sample

pytest.importorskip("fastapi")

ROOT = Path(__file__).parents[3]
JSON = {"Content-Type": "application/json"}


GYM = NemoGym({}, url="")


def post(server, path, body):
    return server.request("POST", path, body if isinstance(body, str) else json.dumps(body), **JSON)


def verified(server, body, path="/verify"):
    status, _, reply = post(server, path, body)
    assert status == 200, reply
    return reply


def answered(row, *output, **more):
    body = GYM.request([{**row, "answer": ""}]) | more
    return body | {"response": body["response"] | {"output": list(output)}}


def message(text, **more):
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}], **more}


def config(judge, **serve):
    return judge.asked_once() | {"serve": serve}


@pytest.fixture
def judge(judge_server):
    """Rates an answer by the number in it. One with `broken` gets no verdict, one with `half` none for logicality."""

    def rating(broken):
        def rate(prompt, number):
            answer = prompt.rpartition("<answer>")[2]
            if re.search(broken, answer):
                return "I would rather not say."
            return f"[[{next(sign for sign in answer if sign.isdigit())}]]"

        return rate

    judge_server.script = {"helpfulness": rating("broken"), "logicality": rating("broken|half")}
    return judge_server


def test_the_reply_is_the_request_with_the_librarys_reward_and_without_the_document(offline_server, rows):
    async def score():
        samples = [Sample(id="", **{k: row[k] for k in ("context", "query", "answer")}) for row in rows]
        return await LongReward.from_config({}).score_many(samples)

    for row, expected in zip(rows, asyncio.run(score()), strict=True):
        sent = GYM.request([row]) | {"agent_ref": {"name": "an agent"}, "_ng_task_index": 3}
        reply = verified(offline_server, sent)
        assert reply["reward"] == pytest.approx(expected.total)
        dimensions = {f"longreward/{name}": d.score for name, d in expected.dimensions.items()}
        assert {name: reply[name] for name in dimensions} == pytest.approx(dimensions)
        assert reply["mask_sample"] is False and reply["failure_kind"] is reply["failure_reason"] is None
        assert not [name for name in reply if name.startswith("_ng_failure")] and "instance_config" not in reply
        del sent["context"]
        assert {name: reply[name] for name in sent} == sent


@pytest.mark.parametrize("container", ["verifier_metadata", "task_data"])
def test_a_rows_fields_may_be_inside_a_container(offline_server, rows, container):
    sent = GYM.request(rows[:1])
    inside = {name: sent.pop(name) for name in ("context", "query", "id")}
    reply = verified(offline_server, sent | {container: {**inside, "source": "towns"}})
    assert reply["reward"] == verified(offline_server, GYM.request(rows[:1]))["reward"]
    assert reply[container] == {"query": inside["query"], "id": inside["id"], "source": "towns"}


def test_the_last_message_of_the_assistant_is_the_answer(offline_server, rows):
    plain = verified(offline_server, GYM.request(rows[:1]))["reward"]
    text, row = rows[0]["answer"], rows[0]
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Nonsense."}], "content": None}
    call = {"type": "function_call", "name": "read", "arguments": "{}", "call_id": "1"}
    returned = {"type": "function_call_output", "call_id": "1", "output": "Nonsense."}
    asked = {"type": "message", "role": "user", "content": "Go on."}
    output = [message("Let me look."), call, returned, thought, message(text), asked, thought]
    in_parts = message("") | {"content": [{"type": "output_text", "text": part} for part in (text[:9], text[9:])]}
    for each in (output, [in_parts], [message("") | {"content": text}], [{"role": "assistant", "content": text}]):
        assert verified(offline_server, answered(row, *each))["reward"] == pytest.approx(plain) and plain > 0


def test_no_message_is_an_empty_answer_and_that_is_the_floor_not_void(serve, judge, rows):
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "An 8 would be right."}]}
    with serve(config(judge)) as server:
        for output in ([], [thought], [thought, message("")]):
            reply = verified(server, answered(rows[0], *output))
            assert reply["reward"] == 0.0 and reply["mask_sample"] is False and reply["longreward/void"] == 0


def test_a_void_answer_is_told_as_gyms_judge_failsafe_tells_it_and_has_the_mean_of_its_siblings(serve, judge, rows):
    texts = ["A 7.", "It is broken.", "An 8.", "A half: 5.", "A 3."]
    with serve(config(judge, group_size=5)) as server, ThreadPoolExecutor(5) as pool:
        sent = [answered(rows[0], message(text), instance_config={"seed": 1}) for text in texts]
        replies = list(pool.map(lambda body: verified(server, body), sent))
    assert [GYM.seen(reply)[0] for reply in replies] == [(7, False), (6, True), (8, False), (6, True), (3, False)]
    why = "helpfulness: parse_error; logicality: parse_error"
    expected = {
        **{"mask_sample": True, "failure_kind": "judge_failed", "failure_reason": why},
        **{"instance_config": {"seed": 1, "mask_sample": True}},
        **{"_ng_failure_class": "judge_failed", "_ng_failure_judge_error": why, "_ng_failure_message": why},
        **{"longreward/helpfulness": None, "longreward/logicality": None, "longreward/void": 1},
    }
    assert {name: replies[1][name] for name in expected} == expected
    # What is known of a void answer is not kept back.
    assert replies[3]["longreward/helpfulness"] == 5 and replies[3]["longreward/logicality"] is None
    assert [reply["longreward/judge_calls"] for reply in replies] == [2] * 5


def test_a_row_that_was_void_before_is_not_put_aside_once_it_is_scored(serve, judge, rows):
    with serve(config(judge)) as server:
        void = verified(server, answered(rows[0], message("It is broken.")))
        again = verified(server, void | {"context": rows[0]["context"], "response": {"output": [message("A 6.")]}})
    assert again["reward"] == 6 and again["failure_kind"] is None and again["mask_sample"] is False
    assert not [name for name in again if name.startswith("_ng_failure")]


def test_sessions_are_accepted_and_nothing_is_kept(offline_server, rows):
    episode = {"resources_session_id": "s1", "episode_id": {"rollout_id": "r", "attempt": 0}}
    seed = episode | {"task_id": {"taskset": "t", "task_id": "1"}, "task_data": {}}
    for prefix in ("", "/ng-rollout/0-1-a2"):
        for _ in range(2):
            status, headers, reply = post(offline_server, f"{prefix}/seed_session", seed)
            # Gym's single_agent_turn takes a seed without a cookie for a failure.
            assert status == 200 and reply == {"resources_session_id": "s1"} and "=" in headers["set-cookie"]
        assert verified(offline_server, episode, f"{prefix}/close_session") == {"resources_session_id": "s1"}
        assert verified(offline_server, GYM.request(rows[:1]), f"{prefix}/seed_session") == {}
        assert offline_server.request("GET", f"{prefix}/reverify_mode")[::2] == (200, "stateless")
        assert verified(offline_server, GYM.request(rows[:1]), f"{prefix}/verify")["reward"] > 0
        assert verified(offline_server, {"verify_responses": []}, f"{prefix}/aggregate_metrics")["key_metrics"] == {}


def test_means_leave_masked_rows_out_and_tell_how_many(offline_server):
    def row(task, rollout, reward, mask=False, **more):
        about = {"_ng_task_index": task, "_ng_rollout_index": rollout, "reward": reward, "mask_sample": mask}
        return about | {"query": "Who?", "flag": True, "longreward/helpfulness": None if mask else reward, **more}

    sent = [row(1, 0, 2.0), row(1, 1, 9.0, mask=True), row(0, 0, 4.0), row(0, 1, 8.0), row(2, 0, 5.0, mask=True)]
    sent[0]["response"] = {"usage": {"input_tokens": 12, "input_tokens_details": {"cached_tokens": 3}}}
    found = verified(offline_server, {"verify_responses": sent}, "/aggregate_metrics")
    agent, groups = found["agent_metrics"], found["group_level_metrics"]
    assert agent["mean/reward"] == agent["mean/longreward/helpfulness"] == pytest.approx(14 / 3)
    assert (agent["max/reward"], agent["min/reward"], agent["median/reward"]) == (8, 2, 4)
    assert agent["std/reward"] == pytest.approx(3.0550504633) and agent["std/input_tokens"] == 0
    assert agent["mean/flag"] == 1 and agent["mean/input_tokens"] == 12 and agent["num_repeats"] == 2
    assert not [name for name in agent if "mask_sample" in name or "_ng_" in name]
    coverage = {"measured_rollouts": 3, "masked_rollouts": 2, "measured_tasks": 2, "fully_masked_tasks": 1}
    for name, count in coverage.items():
        assert agent[f"coverage/{name}"] == found["key_metrics"][f"coverage/{name}"] == count
    assert [(group["_ng_task_index"], group["mean/reward"], group["num_rollouts"]) for group in groups] == [
        (0, 6, 2),
        (1, 2, 1),
    ]
    assert {name for name in found["key_metrics"] if name.startswith("mean/")} <= agent.keys()


@pytest.mark.parametrize(
    "path, body, words",
    [
        ("/verify", "{", "Invalid JSON"),
        ("/verify", "[" * 10_000, "recursion limit"),
        ("/verify", {}, "responses_create_params: Field required"),
        ("/verify", {"responses_create_params": {}, "response": {"output": []}}, "input: Field required"),
        ("/verify", {"responses_create_params": {"input": 1}, "response": {"output": []}}, "input"),
        ("/verify", {"responses_create_params": {"input": ""}, "response": {"output": [1]}}, "response.output.0"),
        ("/verify", {"responses_create_params": {"input": ""}, "response": {"output": []}}, "context: Field required"),
        ("/verify", {"responses_create_params": {"input": ""}, "response": {"output": [message("") | {"content": 1}]},
                     "context": "", "query": ""}, "content"),
        ("/verify", {"responses_create_params": {"input": ""}, "response": {"output": [{"role": "assistant"}]},
                     "context": "", "query": ""}, "content: Field required"),
        ("/verify", {"responses_create_params": {"input": ""}, "response": {"output": []},
                     "context": "a" * 100_001, "query": ""}, "serve.max_chars=100000"),
        ("/seed_session", "", "Invalid JSON"),
        ("/seed_session", "[]", "object"),
        ("/seed_session", {"resources_session_id": 1}, "resources_session_id"),
        ("/close_session", "null", "object"),
        ("/aggregate_metrics", "{}", "verify_responses: Field required"),
        ("/aggregate_metrics", {"verify_responses": [1]}, "verify_responses.0"),
        ("/aggregate_metrics", {"verify_responses": [{"_ng_task_index": {}}]}, "_ng_task_index"),
        ("/aggregate_metrics", '{"verify_responses": [{"_ng_task_index": "\\ud800"}]}', "Invalid JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_reason(offline_server, path, body, words):
    for prefix in ("", "/ng-rollout/0-0"):
        status, _, reply = post(offline_server, prefix + path, body)
        assert status == 422 and words in reply["detail"]


def test_odd_numbers_and_deep_rows_come_back_as_valid_json(offline_server, rows):
    body = json.dumps(GYM.request(rows[:1]))[:-1]
    deep = '{"a":' * 150 + "1" + "}" * 150
    reply = verified(offline_server, f'{body}, "nan": NaN, "huge": 1e999, "long": {10**400}, "deep": {deep}}}')
    assert reply["nan"] is reply["huge"] is None and reply["long"] == 10**400 and json.dumps(reply["deep"]).count("a")
    odd = f'{{"reward": 5, "x": {10**400}, "y": 1e999, "z": NaN, "_ng_task_index": {10**400}}}'
    found = verified(offline_server, f'{{"verify_responses": [{odd}]}}', "/aggregate_metrics")
    assert found["agent_metrics"]["mean/reward"] == 5 and "mean/x" not in found["agent_metrics"]


@pytest.mark.parametrize("path", ["/verify", "/seed_session", "/close_session", "/aggregate_metrics"])
def test_limits_hold_on_every_path(offline_server, path):
    assert offline_server.request("POST", path, "{}", **{"Content-Type": "text/plain"})[0] == 415
    assert offline_server.request("GET", path)[0] == 405
    with socket.create_connection(("127.0.0.1", offline_server.port), timeout=10) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        client.sendall(head.encode() + b"Content-Length: 99999999999\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_sessions_and_means_need_no_judge_that_answers(serve, rows):
    nobody = {"judge": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "judge"}}
    with serve(nobody, ready=False) as server:
        assert server.request("GET", "/readyz")[0] == 503
        assert post(server, "/seed_session", "{}")[0] == 200
        assert verified(server, {"verify_responses": [{"reward": 4}]}, "/aggregate_metrics")["key_metrics"]


def test_with_a_token_every_path_asks_for_it(serve):
    with serve({}, LONGREWARD_SERVER_TOKEN="a-token-of-sixteen") as server:
        server.headers = {}
        paths = ("/verify", "/seed_session", "/close_session", "/aggregate_metrics", "/ng-rollout/1-1/verify")
        assert {post(server, path, "{}")[0] for path in paths} == {401}
        assert server.request("GET", "/reverify_mode")[0] == 401


def test_openapi_describes_every_path(offline_server):
    described = offline_server.request("GET", "/openapi.json")[2]
    for path in ("/verify", "/seed_session", "/close_session", "/aggregate_metrics"):
        post_ = described["paths"][path]["post"]
        assert post_["requestBody"]["required"] and {"200", "413", "415", "422"} <= post_["responses"].keys()
    assert set(described["paths"]["/reverify_mode"]["get"]["responses"]) >= {"200", "503"}
    assert not [path for path in described["paths"] if "{" in path]


def test_verifiers_own_client_of_such_servers_gets_the_reward(serve, judge, rows):
    vf = pytest.importorskip("verifiers.v1")
    nemo = pytest.importorskip("verifiers.v1.tasksets.nemo_gym")
    from verifiers.v1.graph import MessageNode
    from verifiers.v1.types import AssistantMessage, UserMessage

    row = {name: value for name, value in GYM.request(rows[:1]).items() if name != "response"}

    async def ask(port, answer):
        data = nemo.NeMoGymData(name="a row", prompt="read", row=row)
        task = nemo.NeMoGymTask(data, nemo.NeMoGymTaskConfig(resources_url=f"http://127.0.0.1:{port}"))
        said = AssistantMessage(content=answer, reasoning_content="A 9.")
        nodes = [
            MessageNode(message=UserMessage(content="read")),
            MessageNode(parent=0, message=said, sampled=True),
        ]
        about = vf.TraceTask(type="NeMoGymTask", data=data)
        trace = vf.Trace(agent=vf.AgentInfo(config=vf.AgentConfig()), task=about, nodes=nodes, state=state())
        await task.setup(trace, None)
        return await task.nemo_gym(trace), trace

    state = importlib.import_module("verifiers.v1.tasksets.nemo_gym.toolset").NeMoGymState
    with serve(config(judge)) as server:
        reward, trace = asyncio.run(ask(server.port, "A 7."))
        assert reward == 7 and trace.metrics["longreward/helpfulness"] == 7 and trace.metrics["mask_sample"] == 0
        reward, trace = asyncio.run(ask(server.port, "It is broken."))
    assert reward == 7 and trace.metrics["mask_sample"] == 1 and "longreward/helpfulness" not in trace.metrics
    assert trace.info["nemo_gym"]["failure_kind"] == "judge_failed"
