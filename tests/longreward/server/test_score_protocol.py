"""/v1/score as a client sees it: one answer, several, and each as it comes."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading

import pytest

pytest.importorskip("fastapi")

JSON = {"Content-Type": "application/json"}


def items(rows):
    return [{"id": row["idx"]} | {name: row[name] for name in ("context", "query", "answer")} for row in rows]


def ask(server, body):
    return server.request("POST", "/v1/score", json.dumps(body), **JSON)


def hold(judge_server, word):
    """The judge gives every answer 6, but one with this word only once the first event is set; the second one tells
    that it was asked."""
    released, arrived = threading.Event(), threading.Event()

    async def held(prompt, _):
        if word in prompt:
            arrived.set()
            while not released.is_set():  # noqa: ASYNC110 - another thread sets it
                await asyncio.sleep(0.01)
        return "[[6]]"

    judge_server.script["helpfulness"] = held
    return released, arrived


def test_one_answer_gets_one_result(offline_server, rows):
    status, _, reply = ask(offline_server, items(rows)[0])
    assert status == 200
    assert (reply["index"], reply["id"], reply["status"]) == (0, "0", "ok")
    assert reply["reward"] == pytest.approx(sum(d["score"] for d in reply["dimensions"].values()) / 4)
    assert set(reply["dimensions"]) == {"helpfulness", "logicality", "faithfulness", "completeness"}
    assert reply["dimensions"]["helpfulness"]["status"] == "ok" and reply["usage"]["calls"] == 0


def test_several_get_theirs_in_order(offline_server, rows):
    _, _, reply = ask(offline_server, {"items": items(rows)})
    alone = [ask(offline_server, item)[2]["reward"] for item in items(rows)]
    assert [one["reward"] for one in reply["results"]] == alone and len(set(alone)) == 3
    assert [one["id"] for one in reply["results"]] == ["0", "1", "2"]


def test_a_void_answer_is_null_with_its_reason(serve, judge_server, rows):
    judge_server.script["helpfulness"] = lambda prompt, _: "no idea" if "silver" in prompt else "[[6]]"
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge", "parse_attempts": 1}
    with serve({"judge": judge, "weights": {"helpfulness": 1, "logicality": 1}}) as server:
        _, _, reply = ask(server, {"items": items(rows)})
        assert [one["reward"] for one in reply["results"]] == [7.0, None, 7.0]
        void = reply["results"][1]
        assert void["status"] == "helpfulness: parse_error"
        assert void["dimensions"]["helpfulness"] == {"score": None, "status": "parse_error"}
        assert void["dimensions"]["logicality"] == {"score": 8.0, "status": "ok"}
        assert void["usage"]["calls"] == 2
        assert server.metrics()["longreward_void_items_total"] == 1


def test_a_stream_sends_each_result_as_it_comes(serve, judge_server, rows):
    released, _ = hold(judge_server, "silver")
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge"}
    with serve({"judge": judge, "weights": {"helpfulness": 1}}) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        try:
            client.request("POST", "/v1/score", json.dumps({"items": items(rows), "stream": True}), JSON)
            response = client.getresponse()
            assert response.getheader("Content-Type") == "application/x-ndjson"
            first = {json.loads(response.readline())["index"] for _ in range(2)}
            assert first == {0, 2}, "before the one that is held"
            released.set()
            assert json.loads(response.readline())["index"] == 1 and response.read() == b""
        finally:
            released.set()
            client.close()
        assert server.end() == 0


def test_a_stream_that_was_begun_is_finished_before_the_server_ends(serve, judge_server, rows):
    released, arrived = hold(judge_server, "copper")
    judge = {"kind": "openai", "base_url": judge_server.url, "model": "judge"}
    with serve({"judge": judge, "weights": {"helpfulness": 1}}) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        client.request("POST", "/v1/score", json.dumps({"items": items(rows[:1]), "stream": True}), JSON)
        assert arrived.wait(60)
        server.process.terminate()
        while server.request("GET", "/readyz")[0] != 503:
            pass
        released.set()
        assert json.loads(client.getresponse().read())["reward"] == 6.0
        client.close()
        assert server.process.wait(60) == 0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "Input should be"),
        ({}, "context: Field required"),
        ({"items": []}, "items: List should have at least 1 item"),
        ({"items": [{"context": "c", "query": "q"}]}, "items.0.answer: Field required"),
        ({"context": "c", "query": "q", "answer": "a", "anwser": "b"}, "anwser: Extra inputs are not permitted"),
        ({"context": "c", "query": "q", "answer": None}, "answer: Input should be a valid string"),
        ({"items": [{"context": "c", "query": "q", "answer": "a"}] * 9}, "serve.max_items=8"),
        ({"context": "c" * 100_001, "query": "q", "answer": "a"}, "serve.max_chars=100000"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(offline_server, body, words):
    status, _, reply = ask(offline_server, body)
    assert status == 422 and words in reply["detail"]
    assert "one." not in reply["detail"] and "several." not in reply["detail"]


def test_the_description_has_every_part_of_every_request(offline_server):
    found = offline_server.request("GET", "/openapi.json")[2]
    for path in ("/get_reward", "/", "/slime", "/v1/score"):
        assert "requestBody" in found["paths"][path]["post"]
    text = json.dumps(found)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in found["components"]["schemas"], name
