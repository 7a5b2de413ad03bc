"""The server as a client sees it: rewards like the library's, and a clean refusal for everything else."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from longreward import LongReward, Sample

pytest.importorskip("fastapi")

JSON = {"Content-Type": "application/json"}


def test_the_rewards_are_the_librarys_in_the_order_asked(offline_server, rows):
    async def score() -> list[float | None]:
        samples = [Sample(id="", **{k: row[k] for k in ("context", "query", "answer")}) for row in rows]
        return [reward.total for reward in await LongReward.from_config({}).score_many(samples)]

    expected = asyncio.run(score())
    status, _, reply = offline_server.ask(rows)
    assert status == 200
    assert reply["rewards"] == pytest.approx(expected) and len(set(expected)) == 3
    assert reply["scores"] == pytest.approx([total / 10 for total in expected])
    assert reply["status"] == ["ok"] * 3
    assert reply["extra_logs"]["longreward/total"] == pytest.approx(expected)
    assert reply["extra_logs"]["longreward/void"] == [0.0] * 3


def test_every_reply_has_the_same_log_keys_with_our_prefix(offline_server, rows):
    logs = [offline_server.ask([row], "/")[2]["extra_logs"] for row in rows]
    assert logs[0].keys() == logs[1].keys() == logs[2].keys()
    assert all(name.startswith("longreward/") for name in logs[0])
    assert {"longreward/faithfulness", "longreward/void_timeout", "longreward/judge_cost"} <= logs[0].keys()


def test_openrlhfs_own_client_gets_a_list_of_one_for_one_answer(offline_server, rows, as_sent):
    agent = pytest.importorskip("openrlhf.utils.agent")
    executor = agent.SingleTurnAgentExecutor(f"http://127.0.0.1:{offline_server.port}/get_reward")
    sent = as_sent(rows[:1])
    (reply,) = asyncio.run(executor._fetch_rewards_via_http(sent["query"], sent["prompts"], sent["labels"]))
    assert reply["rewards"] == offline_server.ask(rows[:1])[2]["rewards"] and len(reply["rewards"]) == 1


def test_many_requests_at_once_are_all_answered_with_their_own_rewards(offline_server, rows):
    expected = [offline_server.ask([row])[2]["rewards"][0] for row in rows]
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda i: offline_server.ask([rows[i % 3]]), range(90)))
    rewards = [reply["rewards"][0] for status, _, reply in replies if status == 200]
    refused = {status for status, *_ in replies} - {200}
    assert not refused and rewards == [expected[i % 3] for i in range(90)]


def test_health_is_answered_while_an_answer_of_two_thousand_statements_is_scored(offline_server, rows):
    answer = " ".join(f"Mara sold {i} boats to Otto." for i in range(2_000))
    with ThreadPoolExecutor(1) as pool:
        scoring = pool.submit(offline_server.ask, [rows[0] | {"answer": answer}])
        meanwhile = 0
        while not scoring.done():
            assert offline_server.request("GET", "/healthz")[0] == 200
            meanwhile += not scoring.done()
        assert scoring.result()[0] == 200
    assert meanwhile > 5


@pytest.mark.parametrize(
    "body, words",
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[" * 10_000, "recursion limit"),
        ("[]", "Input should be an object"),
        ("{}", "query: Field required"),
        ('{"query": [], "prompts": [], "labels": []}', "query: List should have at least 1 item"),
        ('{"query": ["a"], "prompts": ["a", "b"], "labels": ["{}"]}', "of the same length"),
        ('{"query": [1], "prompts": ["a"], "labels": ["{}"]}', "query.0: Input should be a valid string"),
        ('{"query": ["\\ud800"], "prompts": ["a"], "labels": ["{}"]}', "Invalid JSON"),
        ('{"query": ["ab"], "prompts": ["a"], "labels": ["{}"]}', "item 0: label: context: Field required"),
        (json.dumps({"query": ["a"] * 9, "prompts": ["a"] * 9, "labels": ["{}"] * 9}), "serve.max_items=8"),
        (json.dumps({"query": ["a" * 100_001], "prompts": ["a"], "labels": ["{}"]}), "serve.max_chars=100000"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(offline_server, body, words):
    status, _, reply = offline_server.request("POST", "/get_reward", body, **JSON)
    assert status == 422 and words in reply["detail"]


def test_the_item_that_cannot_be_read_is_named(offline_server, rows, as_sent):
    body = as_sent(rows)
    body["query"][1] = "nothing of the prompt"
    status, _, reply = offline_server.request("POST", "/get_reward", json.dumps(body), **JSON)
    assert status == 422 and reply["detail"].startswith("item 1: the end of its prompt")


def test_a_form_from_a_web_page_is_refused(offline_server):
    status, _, reply = offline_server.request("POST", "/get_reward", "{}", **{"Content-Type": "text/plain"})
    assert status == 415 and "application/json" in reply["detail"]


def test_unknown_paths_and_methods_are_told(offline_server):
    assert offline_server.request("POST", "/get_reward/", "{}", **JSON)[0] == 404
    assert offline_server.request("GET", "/get_reward")[0] == 405


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(offline_server):
    with socket.create_connection(("127.0.0.1", offline_server.port), timeout=10) as client:
        client.sendall(head("Content-Length: 99999999999"))
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_that_grows_too_large_is_refused_while_it_comes(offline_server):
    chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    with socket.create_connection(("127.0.0.1", offline_server.port), timeout=10) as client:
        client.sendall(head("Transfer-Encoding: chunked") + chunk * 20)
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")
        client.sendall(chunk * 8)  # thrown away, not a reset connection
    assert offline_server.request("GET", "/healthz")[0] == 200


def test_a_body_that_does_not_come_is_refused_in_time(offline_server):
    with socket.create_connection(("127.0.0.1", offline_server.port), timeout=10) as client:
        client.sendall(head("Content-Length: 1000") + b"{")
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 1000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500,
        b"GET\r\n\r\n",
        b"POST /get_reward HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /get_reward HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"POST /get_reward HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 200_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_garbage_on_the_socket_hurts_nobody(offline_server, rows, garbage):
    with socket.create_connection(("127.0.0.1", offline_server.port), timeout=2) as client:
        try:
            client.sendall(garbage)
            answer = client.recv(4096)
        except (TimeoutError, ConnectionError):
            answer = b""  # waits for more, or hung up
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4",))
    assert offline_server.ask(rows[:1])[0] == 200


def test_health_and_readiness(offline_server):
    assert offline_server.request("GET", "/healthz")[::2] == (200, {"status": "ok", "detail": ""})
    assert offline_server.request("GET", "/readyz")[::2] == (200, {"status": "ok", "detail": ""})


def test_the_metrics_count_requests_items_and_time(offline_server, rows):
    before = offline_server.metrics()
    offline_server.ask(rows)
    offline_server.request("POST", "/get_reward", "{", **JSON)
    after = offline_server.metrics()

    def more(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more('longreward_requests_total{status="200"}') == 1
    assert more('longreward_requests_total{status="422"}') == 1
    assert more("longreward_items_total") == 3 and more("longreward_void_items_total") == 0
    assert more("longreward_request_seconds_count") == 1
    assert after["longreward_requests_in_flight"] == after["longreward_queue_items"] == 0


def test_openapi_declares_every_status_with_its_schema(offline_server):
    status, _, described = offline_server.request("GET", "/openapi.json")
    assert status == 200
    for path in ("/", "/get_reward"):
        operation = described["paths"][path]["post"]
        assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "421", "422", "429", "503"}
        for status, response in operation["responses"].items():
            name = response["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
            assert name == ("RewardReply" if status == "200" else "Refusal")
            assert name in described["components"]["schemas"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body["required"] == ["query", "prompts", "labels"]
    assert set(described["paths"]["/readyz"]["get"]["responses"]) == {"200", "400", "421", "503"}
    assert offline_server.request("GET", "/docs")[0] == 200


def test_a_full_queue_is_told_with_retry_after(serve, rows, judge_server):
    judge_server.latency = 1.0
    config = {"judge": {"kind": "openai", "base_url": judge_server.url, "model": "judge"}}
    config["serve"] = {"queue": 4, "max_items": 4}
    with serve(config) as server, ThreadPoolExecutor(4) as pool:
        filling = [pool.submit(server.ask, [{**rows[0], "answer": f"Answer {i}."}]) for i in range(4)]
        while server.metrics()["longreward_queue_items"] < 4:
            time.sleep(0.02)
        status, headers, reply = server.ask(rows[:1])
        assert status == 429 and int(headers["retry-after"]) >= 1 and "serve.queue" in reply["detail"]
        assert [future.result()[0] for future in filling] == [200] * 4


def head(header: str) -> bytes:
    return (
        f"POST /get_reward HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{header}\r\n\r\n".encode()
    )


def test_criteria_come_in_the_label_and_one_without_is_refused(serve, as_sent, rows):
    with serve({"weights": {"criteria": 1}}) as server:
        sent, headers = as_sent(rows), {"Content-Type": "application/json"}
        status, _, refused = server.request("POST", "/get_reward", json.dumps(sent), **headers)
        assert status == 422 and "item 0: there are no criteria; add the field criteria" in refused["detail"]
        wanted = {"criteria": ["Mara sold copper to Otto in Lisbon."]}
        sent["labels"] = [json.dumps(json.loads(label) | wanted) for label in sent["labels"]]
        status, _, reply = server.request("POST", "/get_reward", json.dumps(sent), **headers)
    assert status == 200 and reply["status"] == ["ok"] * 3
    good, _, padding = reply["extra_logs"]["longreward/criteria"]
    assert good > 9 and padding == 0
