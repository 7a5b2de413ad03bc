"""The server beside NeMo Gym's own code: what Gym computes, checks and finds. Where nemo_gym is not installed, skipped.

nemo_gym 0.7.0 asks for Python 3.13, but what is used here runs with this project's Python too:
pip install --no-deps --ignore-requires-python nemo_gym==0.7.0, and what its imports then miss.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import warnings
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    gym = pytest.importorskip("nemo_gym.base_resources_server", exc_type=ImportError)
    judges = pytest.importorskip("nemo_gym.judge", exc_type=ImportError)
    profile = pytest.importorskip("nemo_gym.reward_profile", exc_type=ImportError)

ROOT = Path(__file__).parents[3] / "launch/nemo_gym"
JSON = {"Content-Type": "application/json"}
RESPONSE = {
    **{"id": "resp_1", "created_at": 0.0, "model": "policy", "object": "response", "parallel_tool_calls": True},
    **{"tool_choice": "auto", "tools": [], "status": "completed"},
}


def asked(row, answer):
    content = [{"type": "output_text", "text": answer, "annotations": []}]
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": content}
    prompt = [{"role": "user", "content": f"{row['context']}\n\n{row['query']}"}]
    fields = {"context": row["context"], "query": row["query"]}
    return fields | {"responses_create_params": {"input": prompt}, "response": RESPONSE | {"output": [message]}}


@pytest.fixture
def server(serve, judge_server):
    def rate(prompt, number):
        answer = prompt.rpartition("<answer>")[2]
        return "I would rather not say." if "broken" in answer else "[[7]]"

    judge_server.script = {"helpfulness": rate, "logicality": rate}
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "max_attempts": 1, "parse_attempts": 1}
    with serve({"judge": judge, "weights": {"helpfulness": 1, "logicality": 1}}) as running:
        yield running


def verified(server, body):
    status, _, reply = server.request("POST", "/verify", json.dumps(body), **JSON)
    assert status == 200, reply
    return reply


def test_a_void_reply_has_what_gyms_judge_failsafe_writes(server, rows):
    class Request(gym.BaseVerifyRequest, extra="allow"):
        pass

    @judges.judge_failsafe
    async def verify(body):
        raise judges.JudgeError("helpfulness: parse_error; logicality: parse_error")

    sent = asked(rows[0], "It is broken.") | {"instance_config": {"seed": 3}}
    gyms = json.loads(asyncio.run(verify(body=Request.model_validate(sent))).body)
    ours = verified(server, sent)
    same = [name for name in gyms if name not in ("response", "responses_create_params", "context", "reward")]
    assert {name: ours[name] for name in same} == {name: gyms[name] for name in same}
    assert "_ng_failure_class" in same and ours["reward"] != gyms["reward"] == 0
    assert gym.BaseVerifyResponse.model_validate(ours).mask_sample


def test_a_reply_is_a_verify_response(server, rows):
    reply = gym.BaseVerifyResponse.model_validate(verified(server, asked(rows[0], "An answer.")))
    assert reply.reward == 7 and not reply.mask_sample and reply.failure_kind is None


def test_means_are_those_that_gym_computes(server, rows):
    found = []
    for number in range(9):
        answer = "It is broken." if number in (2, 7, 8) else "An answer."
        reply = verified(server, asked(rows[0], answer))
        usage = {"usage": {"input_tokens": 100 + number, "output_tokens": 7}}
        stripped = {name: value for name, value in reply.items() if name != "responses_create_params"}
        where = {"_ng_task_index": number // 4, "_ng_rollout_index": number % 4}
        found.append(stripped | where | {"response": usage, "reward": reply["reward"] + number / 3})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gyms = profile.compute_aggregate_metrics(found)
    body = json.dumps({"verify_responses": found})
    ours = profile.AggregateMetrics.model_validate(server.request("POST", "/aggregate_metrics", body, **JSON)[2])
    assert ours.key_metrics == pytest.approx(gyms.key_metrics) and len(ours.key_metrics) > 8
    assert {name: gyms.agent_metrics[name] for name in ours.agent_metrics} == pytest.approx(ours.agent_metrics)
    assert {
        name for name in gyms.agent_metrics.keys() - ours.agent_metrics.keys() if "_across_repeats/" not in name
    } == set()
    for group, same in zip(ours.group_level_metrics, gyms.group_level_metrics, strict=True):
        assert group == pytest.approx({name: same[name] for name in group})


def test_gyms_check_of_sessions_passes(server):
    conformance = pytest.importorskip("nemo_gym.testing.session_conformance", exc_type=ImportError)

    async def forwarding(scope, receive, send):
        body = b""
        while (event := await receive()).get("more_body", False) or event.get("body"):
            body += event["body"]
            if not event.get("more_body"):
                break
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request(scope["method"], scope["path"], body, JSON)
        reply = connection.getresponse()
        content = reply.read()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    seed = gym.ResourcesSeedSessionRequest(
        resources_session_id="s",
        episode_id=gym.EpisodeId(rollout_id="r"),
        task_id=gym.TaskId(taskset="t", task_id="1"),
        task_data={"query": "Who?"},
    )
    conformance.check_resources_session_contract(forwarding, seed, keeps_state=False)


def test_gym_finds_the_server_in_its_folder(monkeypatch):
    registry = pytest.importorskip("nemo_gym.resources_server_registry", exc_type=ImportError)
    monkeypatch.setenv("NEMO_GYM_EXTRA_ROOTS", str(ROOT))
    entry = registry.discover_resources_servers()["longreward"]
    assert entry.path == ROOT / "resources_servers/longreward" and entry.domain == "long_context"
    assert "0 to 10" in entry.description
