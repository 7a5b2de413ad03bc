"""The process and its signals: nothing accepted is lost, and a client that is gone costs nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi")


def config(judge, **more):
    judge_section = {"kind": "openai", "base_url": judge.url, "model": "judge", **more}
    return {"judge": judge_section, "weights": {"helpfulness": 1, "logicality": 1}}


def wait_until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_sigterm_under_load_answers_all_that_was_accepted_and_refuses_the_rest(serve, judge_server, rows):
    released = threading.Event()

    async def held(*_):
        await asyncio.to_thread(released.wait)
        return "[[8]]"

    late: list[object] = []

    def client(number: int) -> None:
        for attempt in itertools.count():
            try:
                late.append(server.ask([{**rows[0], "answer": f"Answer {number} {attempt}."}])[0])
            except OSError as error:
                # Nobody listens any more, or the kernel had the connection and nobody came to take it.
                late.append(type(error))
                return

    with serve(config(judge_server)) as server, ThreadPoolExecutor(9) as pool:
        judge_server.script = dict.fromkeys(("helpfulness", "logicality"), held)
        try:
            accepted = pool.submit(server.ask, rows[:1])
            wait_until(lambda: server.metrics()["longreward_queue_items"] == 1)
            server.process.send_signal(signal.SIGTERM)
            clients = [pool.submit(client, number) for number in range(8)]
            time.sleep(3)  # longer than the server takes to leave when it is idle
            wait_until(lambda: len(late) >= 400)
            assert set(late) == {503}
            assert server.request("GET", "/readyz")[2] == {"status": "not ready", "detail": "shutting down"}
            assert server.request("GET", "/healthz")[0] == 200
        finally:
            released.set()
        assert accepted.result()[0] == 200
        assert server.process.wait(60) == 0
        for each in clients:
            each.result()
    # One that came in before the signal did may have been accepted.
    assert set(late) <= {200, 503, ConnectionRefusedError, ConnectionResetError, BrokenPipeError}


def test_a_second_signal_ends_at_once(serve, judge_server, rows):
    judge_server.latency = 20.0
    with serve(config(judge_server), ready=False) as server:
        judge_server.latency = 0.0
        wait_until(lambda: server.request("GET", "/readyz")[0] == 200)
        judge_server.latency = 20.0
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(server.ask, rows[:1])
            wait_until(lambda: judge_server.in_flight > 0)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(5) == 1
            with pytest.raises(ConnectionError):
                asking.result()


def test_ctrl_c_while_it_waits_for_the_judge_ends_it(serve, judge_server):
    judge_server.script["helpfulness"] = "I would rather not say."
    with serve(config(judge_server, max_attempts=1), ready=False) as server:
        wait_until(lambda: server.request("GET", "/readyz")[0] == 503)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log.read_text()


def test_a_signal_while_it_starts_ends_it(serve):
    with serve({}, ready=False) as server:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log.read_text()


def test_more_than_one_worker_is_a_users_error(tmp_path):
    words = [sys.executable, "-m", "longreward", "serve", "--port", "0", "--workers", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "--workers 2: the server is one process" in done.stderr and "leave --workers out" in done.stderr


def test_it_is_not_ready_before_the_judge_answers(serve, judge_server, rows):
    down = {"judge": {"kind": "openai", "base_url": judge_server.url, "model": "judge", "max_attempts": 1}}
    judge_server.script["helpfulness"] = "I would rather not say."
    with serve(down, ready=False) as server:
        wait_until(lambda: "parse_error" in server.request("GET", "/readyz")[2]["detail"])
        assert server.request("GET", "/readyz")[0] == 503
        status, headers, reply = server.ask(rows)
        assert status == 503 and "the judge does not answer" in reply["detail"] and int(headers["retry-after"]) > 0
        del judge_server.script["helpfulness"]
        wait_until(lambda: server.request("GET", "/readyz")[0] == 200)
        assert server.ask(rows)[0] == 200


def test_a_client_that_hangs_up_costs_no_more_judge_calls(serve, judge_server, rows, as_sent):
    judge_server.latency = 0.3
    with serve(config(judge_server, max_in_flight=1)) as server:
        body = json.dumps(as_sent([{**rows[0], "answer": f"Answer {i}."} for i in range(20)])).encode()
        kind = "Host: 127.0.0.1\r\nContent-Type: application/json"
        head = f"POST / HTTP/1.1\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(head.encode() + body)
            wait_until(lambda: server.metrics()["longreward_queue_items"] == 20)
        wait_until(lambda: server.metrics()["longreward_queue_items"] == 0)
        time.sleep(0.5)
        assert sum(judge_server.calls.values()) < 10
