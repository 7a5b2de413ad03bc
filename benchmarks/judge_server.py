"""A judge of fixed latency and capacity on 127.0.0.1, in a process of its own, as lean as asyncio allows.

It speaks just enough HTTP for a well-behaved client, because a web framework would take the CPU that the client under
test needs. Its ratings follow from the prompt's bytes (`judge_replies.rating`), so that a wrong one is seen. With
--faults that share of its replies are faults of the failure table.

    python benchmarks/judge_server.py --port 8000 --latency 0.5 --capacity 256
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from judge_replies import reply, ruled

FAULTS = (
    *("429", "429 retry-after", "429 retry-after 300", "429 junk", "500", "502 html", "503", "200 html", "reset"),
    *("cut body", "close", "hang", "drip", "bad json", "json list", "200 error", "no choices", "null content"),
    *("length", "no verdict", "score 11", "huge"),
)
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99999\r\n\r\n"


class Judge:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.requests = self.in_flight = self.most_in_flight = self.most_open = 0
        self.queue: deque[Connection] = deque()
        self.faults: Counter[str] = Counter()
        self.answered: Counter[int] = Counter()
        self.random = random.Random(options.seed)
        self.since = -math.inf
        self.possible = [name for name in FAULTS if not options.without or not name.startswith(options.without)]

    def arrive(self, connection: Connection) -> None:
        self.requests += 1
        self.most_open = max(self.most_open, self.in_flight + len(self.queue) + 1)
        if self.in_flight >= self.options.capacity:
            self.queue.append(connection)
        else:
            self.serve(connection)

    def serve(self, connection: Connection, begun: float | None = None) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        loop = asyncio.get_running_loop()
        began = loop.time() if begun is None else begun
        due = self.due(began)
        loop.call_at(due, self.leave, connection, due)

    def due(self, began: float) -> float:
        """When a call that begins now is done."""
        options, seconds, since = self.options, self.options.latency, began - self.since
        if options.sigma:
            seconds *= self.random.lognormvariate(0, options.sigma)
        if self.random.random() < options.slow:
            seconds *= options.times
        if options.slow_from <= since < options.slow_until:
            seconds *= options.times
        return began + max(seconds, options.hang - since)

    def leave(self, connection: Connection, due: float) -> None:
        self.in_flight -= 1
        if self.queue:
            # From when the place was free: this process's own delays are not the judge's.
            self.serve(self.queue.popleft(), due)
        connection.answer()

    def fault(self) -> str | None:
        if self.random.random() >= self.options.faults:
            return None
        name = self.random.choice(self.possible)
        self.faults[name] += 1
        return name

    def change(self, options: dict[str, list[str]]) -> None:
        """Set options from now on; those in seconds count from here."""
        self.since = asyncio.get_running_loop().time()
        for name, (value,) in options.items():
            setattr(self.options, name, float(value))

    def stats(self) -> dict[str, object]:
        repeated = sum(self.answered.values()) - len(self.answered)
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "most_open": self.most_open,
            "faults": self.faults,
            "repeated": repeated,
        }


class Connection(asyncio.Protocol):
    def __init__(self, judge: Judge) -> None:
        self.judge = judge
        self.buffer = bytearray()
        self.body = b""
        self.kind = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self.buffer.clear()
            if options := urllib.parse.parse_qs(head.split()[1].decode().partition("?")[2]):
                self.judge.change(options)
            self.send(json.dumps(self.judge.stats()).encode())
            return
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
        if len(rest) >= length:
            self.body = bytes(rest[:length])
            kind = re.search(rb"(?i)x-longreward-request: (\w+)", head)
            self.kind = kind[1].decode() if kind else ""
            del self.buffer[: len(head) + 4 + length]
            self.judge.arrive(self)

    def answer(self) -> None:
        if self.transport.is_closing():
            return
        fault = self.judge.fault()
        if fault is None:
            self.complete(json.loads(self.body)["messages"][-1]["content"])
        else:
            self.fail(fault)

    def complete(self, prompt: str, content: str | None = "", finish: str = "stop") -> None:
        options = self.judge.options
        if options.repeats and content == "":
            self.judge.answered[hash(prompt)] += 1
        if content == "":
            content = ruled(self.kind, prompt) if options.rules else reply(self.kind, prompt, options.statements)
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 10}
        self.send(json.dumps({"choices": [choice], "usage": usage}).encode())

    def send(self, body: bytes, status: int = 200, kind: str = "application/json", more: str = "") -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
        self.transport.write(head.encode() + body)

    def fail(self, fault: str) -> None:
        loop = asyncio.get_running_loop()
        match fault:
            case "429" | "500" | "503":
                self.send(b'{"error": {"message": "no"}}', int(fault))
            case "429 retry-after":
                self.send(b"{}", 429, more="Retry-After: 1\r\n")
            case "429 retry-after 300":
                self.send(b"{}", 429, more="Retry-After: 300\r\n")
            case "429 junk":
                self.send(b"{}", 429, more="Retry-After: soon\r\n")
            case "502 html" | "200 html":
                self.send(b"<html>Bad gateway</html>", int(fault[:3]), "text/html")
            case "reset":
                self.transport.abort()
            case "close":
                self.transport.close()
            case "cut body":
                self.transport.write(_HEAD + b'{"c')
                loop.call_later(0.05, self.transport.abort)
            case "hang":
                pass
            case "drip":
                self.transport.write(_HEAD)
                self.drip()
            case "bad json":
                self.send(b'{"choices": [')
            case "json list":
                self.send(b"[1, 2]")
            case "200 error":
                self.send(b'{"error": {"message": "oops"}}')
            case "no choices":
                self.send(b'{"choices": []}')
            case "null content":
                self.complete("", None)
            case "length":
                self.complete("", "[[1", "length")
            case "no verdict":
                self.complete("", "I would rather not say.")
            case "score 11":
                self.complete("", "[[11]]")
            case "huge":
                self.send(b" " * 6 * 2**20)

    def drip(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b" ")
            asyncio.get_running_loop().call_later(0.2, self.drip)


@contextmanager
def running(port: int = 0, **options: float | str) -> Iterator[str]:
    """Start a judge in a process of its own, on a free port where none is given; its base URL."""
    port = port or free_port()
    words = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in options.items()]
    process = subprocess.Popen([sys.executable, Path(__file__), f"--port={port}", *words])
    try:
        deadline = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if time.monotonic() > deadline or process.poll() is not None:
                raise TimeoutError(f"the judge server did not open port {port} within 20 s")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def stats(url: str, **options: float) -> dict:
    """What the judge at `url` has seen: requests, most_in_flight, most_open (with those that wait), faults by name.
    From now on it has these options too."""
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(options)}") as response:
        found: dict = json.load(response)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True, help="seconds per call")
    parser.add_argument("--capacity", type=int, default=100_000, help="calls worked on at once; others wait")
    parser.add_argument("--statements", type=int, default=10, help="statements found in each answer")
    parser.add_argument("--faults", type=float, default=0, help="share of replies that are faults")
    parser.add_argument("--without", default="", help="no faults whose names begin like this")
    parser.add_argument("--slow", type=float, default=0, help="share of calls that take --times as long")
    parser.add_argument("--times", type=float, default=1)
    parser.add_argument("--sigma", type=float, default=0, help="of log-normal latencies, whose median is --latency")
    parser.add_argument("--slow-from", type=float, default=math.inf, help="then all calls take --times as long")
    parser.add_argument("--slow-until", type=float, default=math.inf)
    parser.add_argument("--hang", type=float, default=0, help="no call is done before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", action="store_true", help="judge as the offline judge does")
    parser.add_argument("--repeats", action="store_true", help="count the prompts answered well more than once")
    judge = Judge(parser.parse_args())

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(judge), "127.0.0.1", judge.options.port, backlog=4096
        )
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
