"""Processes and signals: nothing accepted is lost, limits hold over all workers, and the dead are replaced."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
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

    with serve(config(judge_server), "--workers", "2") as server, ThreadPoolExecutor(9) as pool:
        judge_server.script = dict.fromkeys(("helpfulness", "logicality"), held)
        try:
            # One request: one worker is at work, the other one is not.
            accepted = pool.submit(server.ask, rows[:1])
            wait_until(lambda: server.metrics()["longreward_queue_items"] == 1)
            server.process.send_signal(signal.SIGTERM)
            clients = [pool.submit(client, number) for number in range(8)]
            time.sleep(3)  # longer than a worker takes to leave
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
    assert set(late) <= {200, 503, ConnectionRefusedError, ConnectionResetError}


def test_a_worker_that_is_told_to_end_alone_does_not_wait_for_the_others(serve, rows):
    with serve({}, "--workers", "2") as server:
        first = set(server.children())
        os.kill(min(first), signal.SIGTERM)
        wait_until(lambda: len(server.children()) == 2 and set(server.children()) != first)
        assert "a worker ended with 0; another one is started" in server.log.read_text()
        assert server.ask(rows)[0] == 200


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


def test_workers_share_the_judges_places(serve, judge_server, rows):
    judge_server.latency = 0.1
    with serve(config(judge_server, max_in_flight=3), "--workers", "3") as server, ThreadPoolExecutor(30) as pool:
        many = [[{**rows[0], "answer": f"Answer {i}."}] for i in range(30)]
        assert {reply[0] for reply in pool.map(server.ask, many)} == {200}
        assert len(server.children()) == 3
    assert judge_server.most_in_flight == 3


def test_a_killed_worker_is_replaced_and_its_gauges_are_forgotten(serve, judge_server, rows):
    judge_server.latency = 2.0
    with serve(config(judge_server), "--workers", "2") as server, ThreadPoolExecutor(8) as pool:
        first = set(server.children())
        for i in range(8):
            pool.submit(server.ask, [{**rows[0], "answer": f"Answer {i}."}])
        wait_until(lambda: judge_server.in_flight >= 8)
        os.kill(min(first), signal.SIGKILL)
        wait_until(lambda: len(server.children()) == 2 and set(server.children()) != first)
        wait_until(lambda: server.metrics()["longreward_queue_items"] == 0)
        judge_server.latency = 0.0
        time.sleep(1)
        wait_until(lambda: server.request("GET", "/readyz")[0] == 200)
        assert server.ask(rows)[0] == 200
        assert "a worker ended with -9; another one is started" in server.log.read_text()
        assert server.end() == 0


def test_workers_end_with_their_parent(serve, rows):
    with serve({}, "--workers", "2") as server:
        workers = server.children()
        assert server.ask(rows)[0] == 200
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(alive(pid) for pid in workers))


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
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(head.encode() + body)
            wait_until(lambda: server.metrics()["longreward_queue_items"] == 20)
        wait_until(lambda: server.metrics()["longreward_queue_items"] == 0)
        time.sleep(0.5)
        assert sum(judge_server.calls.values()) < 10


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
