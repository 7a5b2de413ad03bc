"""Clients that keep the server waiting, many at once, with few descriptors: they hurt nobody but themselves."""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

pytest.importorskip("fastapi")

HEAD = b"POST /get_reward HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HALF_SENT = (b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{")
PATIENT = {"serve": {"body_timeout_s": 600}}


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def all_said(client: socket.socket) -> bytes:
    """What the server says until it closes the connection."""
    said = b""
    while part := client.recv(65536):
        said += part
    return said


def wait_until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def dropped(server, reason: str) -> float:
    return server.metrics().get(f'longreward_dropped_connections_total{{reason="{reason}"}}', 0.0)


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD], ids=["nothing", "a word", "half a head"])
def test_a_head_that_does_not_come_is_told_and_the_connection_closed(offline_server, sent):
    before = dropped(offline_server, "head_timeout")
    with connected(offline_server.port) as client:
        client.sendall(sent)
        said = all_said(client)
    assert said.startswith(b"HTTP/1.1 408 ") and b"the head of a request did not come within 1 s" in said
    assert dropped(offline_server, "head_timeout") == before + 1


def test_a_head_that_comes_byte_by_byte_gets_no_more_time(offline_server):
    with connected(offline_server.port) as client, pytest.raises(ConnectionError):
        client.sendall(HEAD)
        for _ in range(400):
            client.sendall(b"X")
            time.sleep(0.05)


def test_the_second_head_of_a_connection_has_the_same_limit(offline_server):
    with connected(offline_server.port) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        said = b""
        while not said.endswith(b"}"):
            said += client.recv(65536)
        assert said.startswith(b"HTTP/1.1 200 ")
        client.sendall(b"GET /hea")
        assert all_said(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("line", [b"POST /nowhere", b"GET /healthz", b"POST /healthz"])
def test_nobody_waits_for_a_body_that_is_not_asked_for(offline_server, line):
    with connected(offline_server.port) as client:
        client.sendall(line + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
        said = all_said(client)
    assert said.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 ")) and b"connection: close" in said


def test_a_client_that_does_not_take_its_replies_is_disconnected(offline_server):
    before = dropped(offline_server, "reply_timeout")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(20)
        client.connect(("127.0.0.1", offline_server.port))
        with pytest.raises(ConnectionError):
            while True:
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                time.sleep(0.05)
    assert dropped(offline_server, "reply_timeout") == before + 1


def test_requests_that_do_not_wait_for_a_reply_cost_one(offline_server):
    with connected(offline_server.port) as client:
        client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
        said = all_said(client)
    assert said.count(b"HTTP/1.1 404 ") == 1


def test_what_is_not_http_is_not_logged(offline_server):
    before = offline_server.log.stat().st_size
    for _ in range(50):
        with connected(offline_server.port) as client:
            client.sendall(b"\x00\r\n\r\n")
            assert all_said(client).startswith(b"HTTP/1.1 400 ")
    assert offline_server.log.stat().st_size == before


def test_many_slow_clients_and_few_descriptors_leave_room_for_the_others(serve, rows):
    with ExitStack() as slow, serve(PATIENT, files=96) as server:
        for number in range(240):
            slow.enter_context(connected(server.port)).sendall(HALF_SENT[number // 80])
            assert server.request("GET", "/healthz")[0] == 200
        assert server.ask(rows)[0] == 200
        assert server.metrics()["longreward_connections"] <= 96 and dropped(server, "no_room") > 150
        log = server.log.read_text()
        assert log.count("those that have not sent their request are closed") == 1 and len(log) < 1500


def test_a_large_body_that_comes_has_time_beside_slow_clients(serve, rows, as_sent):
    body = json.dumps(as_sent(rows)).encode().rjust(2**21)
    with ExitStack() as slow, serve(PATIENT, files=96) as server, connected(server.port) as client:
        client.sendall(HEAD + f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), 2**16):
            for _ in range(10):
                slow.enter_context(connected(server.port)).sendall(HALF_SENT[-1])
            client.sendall(body[start : start + 2**16])
            assert server.request("GET", "/healthz")[0] == 200
        assert all_said(client).startswith(b"HTTP/1.1 200 ")


def test_a_limit_that_is_lowered_while_it_runs_holds(serve, rows):
    with ExitStack() as slow, serve(PATIENT, files=200) as server:
        for _ in range(100):
            slow.enter_context(connected(server.port)).sendall(HEAD)
        wait_until(lambda: server.metrics()["longreward_connections"] > 100)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (90, 90))
        for _ in range(60):
            slow.enter_context(connected(server.port)).sendall(HEAD)
            assert server.request("GET", "/healthz")[0] == 200
        assert server.ask(rows)[0] == 200
        assert server.metrics()["longreward_connections"] < 90 and len(server.log.read_text()) < 1500


def test_an_accepted_request_keeps_its_connection_and_the_rest_is_told_to_wait(serve, judge_server, rows):
    config = {"judge": {"kind": "openai", "base_url": judge_server.url, "model": "judge", "max_in_flight": 4}}
    judge_server.latency = 0.0
    with ExitStack() as slow, serve(config | PATIENT, files=100) as server:
        most = int(re.search(r"allows (\d+) requests at once, fewer than serve.queue=4096", server.log.read_text())[1])
        judge_server.latency = 30.0
        with ThreadPoolExecutor(most) as pool:
            accepted = [pool.submit(server.ask, [{**rows[0], "answer": f"Answer {i}."}]) for i in range(most)]
            wait_until(lambda: server.metrics()["longreward_queue_items"] == most)
            for _ in range(150):
                slow.enter_context(connected(server.port)).sendall(HEAD)
            status, headers, reply = server.ask(rows[:1])
            assert status == 429 and int(headers["retry-after"]) >= 1
            assert f"{most} requests are being scored, all that a limit of 100 open files allows" in reply["detail"]
            assert server.request("GET", "/healthz")[0] == 200
            assert server.metrics()["longreward_queue_items"] == most
            assert not any(each.done() for each in accepted)
            server.process.kill()  # the judge would take its time
    assert all(isinstance(each.exception(), OSError) for each in accepted)


def test_a_limit_that_leaves_no_client_a_descriptor_is_told_at_start():
    command = f"ulimit -n 60 && exec {sys.executable} -m longreward serve --port 0"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    told = [line for line in ended.stderr.splitlines() if line.startswith("longreward: ")]
    assert len(told) == 1 and "the limit of 60 open files is too low" in told[0] and "ulimit -n" in told[0]


@pytest.mark.parametrize(
    "version, lengths, why",
    [
        ("1.1", ["Content-Length: 4", "Transfer-Encoding: chunked"], "Content-Length and Transfer-Encoding"),
        ("1.1", ["transfer-encoding: Chunked", "content-length: 0"], "Content-Length and Transfer-Encoding"),
        ("1.0", ["Transfer-Encoding: chunked"], "Transfer-Encoding in an HTTP/1.0 request"),
    ],
)
@pytest.mark.parametrize("path", ["/get_reward", "/healthz", "/nowhere"])
def test_a_body_of_two_lengths_is_refused_and_what_follows_is_no_request(offline_server, path, version, lengths, why):
    smuggled = b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    head = "\r\n".join([f"POST {path} HTTP/{version}", "Host: 127.0.0.1", "Content-Type: application/json", *lengths])
    with connected(offline_server.port) as client:
        client.sendall(head.encode() + b"\r\n\r\n" + smuggled)
        said = all_said(client)
    assert said.startswith(b"HTTP/1.1 400 ") and why.encode() in said
    assert said.count(b"HTTP/1.1 ") == 1


def asked_by(port: int, *host: str, version: str = "1.1") -> bytes:
    lines = [f"GET /readyz HTTP/{version}", *(f"Host: {each}" for each in host), "Connection: close", "", ""]
    with connected(port) as client:
        client.sendall("\r\n".join(lines).encode())
        return all_said(client)


@pytest.mark.parametrize("host", ["localhost", "LocalHost:9", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:8400"])
def test_without_a_token_loopback_hosts_are_served(offline_server, host):
    assert asked_by(offline_server.port, host).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8400", "127.0.0.1.evil.example", "localhost.evil.example", "evil@localhost"),
        *("0.0.0.0", "192.168.1.5:8400", "[::]", "[fe80::1]:8400", "localhost:80:80", "", ":8400", "2130706433"),
    ],
)
def test_without_a_token_another_host_is_refused_with_the_reason(offline_server, host):
    said = asked_by(offline_server.port, host)
    assert said.startswith(b"HTTP/1.1 421 ") and f"the header Host is {host!r}".encode() in said
    assert b"set a token" in said


def test_without_a_token_and_a_host_nothing_is_served(offline_server):
    assert asked_by(offline_server.port, version="1.0").startswith(b"HTTP/1.1 421 ")


def test_with_a_token_any_host_is_served(serve):
    with serve({}, LONGREWARD_SERVER_TOKEN="s3cret-0123456789-ABCDEF") as server:
        assert asked_by(server.port, "reward.cluster.example:8400").startswith(b"HTTP/1.1 200 ")
