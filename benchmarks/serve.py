"""`longreward serve` under load, under garbage and while it ends: the real command in processes of its own.

    python benchmarks/serve.py load --minutes 5         # as fast as the judge allows, nothing lost
    python benchmarks/serve.py fuzz --requests 10000    # no 5xx, no crash, memory flat; needs the extra `fuzz`
    python benchmarks/serve.py drain                    # SIGTERM under load
    python benchmarks/serve.py slow --minutes 5         # 1,000 clients that keep it waiting, 256 descriptors

Exit 1 where a bar is missed. The judge is benchmarks/judge_server.py, of fixed latency.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

import judge_server

from longreward import LongReward, Sample
from longreward.concurrency.pacing import rare_collections

LATENCY_S = 0.2
STATEMENTS = 3
CALLS = 4 + STATEMENTS  # of an answer whose document is prepared
WARM_UP = 0.2
Row = tuple[str, str, str, bool]


class Server:
    """The command, its process and its address."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log
        deadline = time.monotonic() + 60
        while not (found := re.search(r"serving on (http://\S+) ", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {log.read_text()}")
            time.sleep(0.05)
        self.url = found[1]

    def memory_mb(self) -> float:
        """Resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@contextmanager
def serving(config: dict[str, Any], *words: str, files: int | None = None) -> Iterator[Server]:
    """`files`: its limit of open files."""
    with tempfile.TemporaryDirectory() as name:
        path, log = Path(name) / "reward.yaml", Path(name) / "log.txt"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "longreward", "serve", "--config", str(path), "--port", "0", *words]
        if files is not None:
            command = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield Server(process, log)
        finally:
            for _ in range(2):
                if process.poll() is None:
                    process.terminate()
                    time.sleep(0.2)
            process.wait()


def judging(options: argparse.Namespace) -> AbstractContextManager[str]:
    return judge_server.running(latency=LATENCY_S, statements=STATEMENTS, capacity=options.capacity)


def judged(url: str, max_in_flight: int) -> dict[str, Any]:
    return {"judge": {"kind": "openai", "base_url": url, "model": "judge", "max_in_flight": max_in_flight}}


class Route(NamedTuple):
    """A way to ask: the body of some answers, and how many of a reply are scored."""

    body: Callable[[str, str, list[str]], Any]
    scored: Callable[[str], int]


QUERY = "What did Mara sell?"


def as_openrlhf(context: str, prompt: str, answers: list[str]) -> Any:
    label = json.dumps({"context": context, "query": QUERY})
    return {
        "query": [prompt + answer for answer in answers],
        "prompts": [prompt] * len(answers),
        "labels": [label] * len(answers),
    }


def as_slime(context: str, prompt: str, answers: list[str]) -> Any:
    label = {"context": context, "query": QUERY}
    return [{"prompt": prompt, "response": answer, "label": label} for answer in answers]


def as_items(context: str, prompt: str, answers: list[str]) -> Any:
    return {"items": [{"context": context, "query": QUERY, "answer": answer} for answer in answers]}


def as_stream(context: str, prompt: str, answers: list[str]) -> Any:
    return as_items(context, prompt, answers) | {"stream": True}


ROUTES = {
    "/get_reward": Route(as_openrlhf, lambda text: json.loads(text)["status"].count("ok")),
    "/slime": Route(as_slime, lambda text: len(json.loads(text))),
    "/v1/score": Route(as_items, lambda text: sum(one["status"] == "ok" for one in json.loads(text)["results"])),
    "/v1/score#stream": Route(as_stream, lambda text: text.count('"status":"ok","dimensions"')),
}
"""What clients ask in turn."""


def request(route: Route, client: int, number: int, batch: int) -> Any:
    """`batch` new answers about a document of the client's own."""
    context = f"Mara sold copper to Otto in Lisbon, {client}. " + "It rained all day. " * 50
    prompt = f"<user>{context}\n\n{QUERY}<assistant>"
    return route.body(context, prompt, [f"Mara {client} {number} {i} sold copper." for i in range(batch)])


class Clients:
    """Each asks again as soon as it is answered, until told to stop."""

    def __init__(self, url: str, clients: int, batch: int, routes: Sequence[str] = tuple(ROUTES)) -> None:
        self._url, self._clients, self._batch, self._routes = url, clients, batch, routes
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.lost = 0
        self.stopping = False

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)  # a connection each, as OpenRLHF has
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._client(session, number) for number in range(self._clients)))

    async def _client(self, session: aiohttp.ClientSession, client: int) -> None:
        path = self._routes[client % len(self._routes)]
        route, number = ROUTES[path], 0
        while not self.stopping:
            number += 1
            started = time.monotonic()
            body = request(route, client, number, self._batch)
            try:
                async with session.post(f"{self._url}{path}", json=body) as response:
                    reply = await response.text()
            except aiohttp.ClientConnectorError:
                self.statuses["nobody listens"] += 1
                return
            except (aiohttp.ClientError, OSError) as error:
                self.statuses[f"broken: {type(error).__name__}"] += 1
                continue
            self.statuses[str(response.status)] += 1
            if response.status == 200:
                self.seconds.append(time.monotonic() - started)
                self.lost += self._batch - route.scored(reply)
            else:
                await asyncio.sleep(0.1)


async def until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            async with session.get(f"{url}/readyz") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.1)
    raise RuntimeError(f"{url} does not become ready")


async def library(url: str, options: argparse.Namespace, seconds: float) -> float:
    """Judge calls a second that the library makes in this process: what machine and judge are good for."""
    reward, rows = LongReward.from_config(judged(url, options.max_in_flight)), itertools.count()
    rare_collections()

    async def client(number: int) -> None:
        while True:
            context = f"Mara sold copper to Otto in Lisbon, {number // options.batch}. " + "It rained all day. " * 50
            answer = f"Mara sold copper to {next(rows)}."
            await reward.score(Sample(context=context, query="What did Mara sell?", answer=answer))

    running = [asyncio.create_task(client(number)) for number in range(options.clients * options.batch)]
    await asyncio.sleep(seconds / 2)
    before = reward.stats()["judge/requests"]
    await asyncio.sleep(seconds / 2)
    calls = reward.stats()["judge/requests"] - before
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await reward.aclose()
    return calls / (seconds / 2)


def load(options: argparse.Namespace) -> list[Row]:
    best = options.capacity / LATENCY_S
    bound = options.clients * options.batch * CALLS / best
    whole_s = 60 * options.minutes
    with judging(options) as judge:
        alone = asyncio.run(library(judge, options, max(5.0, WARM_UP * whole_s)))
    with (
        judging(options) as judge,
        serving(judged(judge, options.max_in_flight), "serve.queue=100000") as server,
    ):
        clients = Clients(server.url, options.clients, options.batch, options.routes)

        async def run() -> float:
            await until_ready(server.url)
            running = asyncio.create_task(clients.run())
            await asyncio.sleep(WARM_UP * whole_s)
            before, begun = await asyncio.to_thread(judge_server.stats, judge), time.monotonic()
            await asyncio.sleep((1 - WARM_UP) * whole_s)
            after, ended = await asyncio.to_thread(judge_server.stats, judge), time.monotonic()
            clients.stopping = True
            await running
            return float(after["requests"] - before["requests"]) / (ended - begun)

        rate = asyncio.run(run())
        most = judge_server.stats(judge)["most_open"]
    times = sorted(clients.seconds)
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    others = {status: count for status, count in clients.statuses.items() if status != "200"}
    share = rate / best
    return [
        ("requests answered; others", f"{clients.statuses['200']}; {others or 'none'}", "no others", not others),
        ("answers lost or void", str(clients.lost), "0", clients.lost == 0),
        ("judge calls a second, of what it allows", f"{rate:.0f}, {share:.1%}", "at least 95%", share >= 0.95),
        ("the same by the library without a server, before", f"{alone:.0f}, {alone / best:.1%}", "", True),
        (
            "p50, p99 of a request",
            f"{p50:.2f} s, {p99:.2f} s ({p99 / bound:.2f} x the bound)",
            "1.5 x",
            p99 <= 1.5 * bound,
        ),
        ("most judge calls open", str(most), f"at most {options.max_in_flight}", most <= options.max_in_flight),
    ]


def drain(options: argparse.Namespace) -> list[Row]:
    with (
        judging(options) as judge,
        serving(judged(judge, options.max_in_flight), "serve.queue=100000") as server,
    ):
        clients = Clients(server.url, options.clients, options.batch, options.routes)

        async def run() -> tuple[int, float, int]:
            await until_ready(server.url)
            running = asyncio.create_task(clients.run())
            await asyncio.sleep(3)
            answered = clients.statuses["200"]
            server.process.send_signal(signal.SIGTERM)
            begun = time.monotonic()
            code = await asyncio.to_thread(server.process.wait)
            took = time.monotonic() - begun
            clients.stopping = True
            await running
            return code, took, clients.statuses["200"] - answered

        code, took, answered = asyncio.run(run())
    broken = {status: count for status, count in clients.statuses.items() if status.startswith("broken")}
    bound = options.clients * options.batch * CALLS * LATENCY_S / options.capacity
    return [
        ("exit code", str(code), "0", code == 0),
        ("from SIGTERM to the end", f"{took:.1f} s (bound {bound:.1f} s)", "1.5 x + 2 s", took <= 1.5 * bound + 2),
        ("requests after SIGTERM: answered; refused", f"{answered}; {clients.statuses['503']} with 503", "", True),
        ("requests without an answer", str(broken or 0), "0", not broken),
        ("answers lost or void", str(clients.lost), "0", clients.lost == 0),
    ]


async def keep_waiting(port: int, kind: int, again_s: float, opened: Any) -> None:
    """A client that says a byte a second, and comes again `again_s` after it is closed. By `kind` it stops before, in
    or after the head, or asks on and on and takes no reply."""
    head = b"POST /get_reward HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    said, goes_on = ((b"", b""), (head + b"X: ", b" "), (head + b"Content-Length: 10000\r\n\r\n", b" "), (asks, asks))[
        kind
    ]
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as client, contextlib.suppress(OSError):
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", port))
            opened.value += 1
            await loop.sock_sendall(client, said)
            while True:
                if kind == 3:
                    await asyncio.sleep(1)
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            if not await loop.sock_recv(client, 4096):
                                break
                await loop.sock_sendall(client, goes_on)
        await asyncio.sleep(again_s)


def slow_clients(port: int, count: int, again_s: float, opened: Any) -> None:
    """The process that they all are in."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    async def run() -> None:
        await asyncio.gather(*(keep_waiting(port, number % 4, again_s, opened) for number in range(count)))

    asyncio.run(run())


def slow(options: argparse.Namespace) -> list[Row]:
    times: list[list[float]] = []
    others: Counter[str] = Counter()
    lost, grown, opened = 0, 0, multiprocessing.Value("Q", 0, lock=False)
    for count in (0, options.slow):
        with (
            judging(options) as judge,
            serving(judged(judge, options.max_in_flight), files=options.files) as server,
        ):
            asyncio.run(until_ready(server.url))
            before = server.log.stat().st_size
            port = int(server.url.rsplit(":", 1)[1])
            crowd = multiprocessing.Process(target=slow_clients, args=(port, count, options.again, opened), daemon=True)
            crowd.start()
            clients = Clients(server.url, options.clients, options.batch, options.routes)

            async def run(clients: Clients = clients) -> None:
                running = asyncio.create_task(clients.run())
                await asyncio.sleep(60 * options.minutes)
                clients.stopping = True
                await running

            asyncio.run(run())
            crowd.kill()
            crowd.join()
            times.append(sorted(clients.seconds))
            others += Counter({status: n for status, n in clients.statuses.items() if status != "200"})
            lost += clients.lost
            grown = server.log.stat().st_size - before
    alone, beside = (each[len(each) * 99 // 100] for each in times)
    ratio, allowed = beside / alone, 300 * (options.minutes + 1)
    return [
        ("requests alone, beside slow clients", f"{len(times[0])}, {len(times[1])}", "", True),
        ("requests not answered", str(dict(others) or 0), "0", not others),
        ("answers lost or void", str(lost), "0", lost == 0),
        ("p99 alone, beside", f"{alone:.2f} s, {beside:.2f} s ({ratio:.2f} x)", "1.5 x", ratio <= 1.5),
        ("connections that slow clients made", str(opened.value), "", True),
        ("the log grew by", f"{grown} bytes", f"{allowed:.0f}", grown <= allowed),
    ]


def fuzz(options: argparse.Namespace) -> list[Row]:
    if importlib.util.find_spec("schemathesis") is None:
        raise SystemExit("schemathesis is not installed; pip install '.[fuzz]'")
    limits = {"max_body_mb": 1, "max_chars": 10_000, "max_items": 16, "body_timeout_s": 1}
    with serving({"serve": limits}) as server:
        asyncio.run(until_ready(server.url))
        tail = ""
        for half in (1, 2):
            garbage(server.url, options.requests // 2)
            while sum(counts(server.url).values()) < half * options.requests / 2 and not tail:
                tail = by_schema(server.url)
            if half == 1:
                before = server.memory_mb()
        grown = server.memory_mb() - before
        found = counts(server.url)
        alive = server.process.poll() is None
        log = server.log.read_text()
    errors = sum(count for status, count in found.items() if status.startswith("5"))
    return [
        ("requests by status", ", ".join(f"{s}: {n:.0f}" for s, n in sorted(found.items())), "no 5xx", not errors),
        ("schemathesis", tail or "no problem", "no problem", not tail),
        ("the server at the end", "up" if alive else "ended", "up", alive),
        ("tracebacks in the log", str(log.count("Traceback")), "0", "Traceback" not in log),
        ("memory grown in the second half", f"{grown:.1f} MB of {before:.0f}", "at most 2%", grown <= 0.02 * before),
    ]


def by_schema(url: str) -> str:
    """Send a thousand requests or so that are generated from the server's own description, others each time. Returns
    what schemathesis complains of, if anything."""
    checks = ("not_a_server_error", "status_code_conformance", "content_type_conformance")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--no-color", "--mode", "all"),
        *("--max-examples", "400", "--phases", "examples,coverage,fuzzing"),
        *("--checks", ",".join([*checks, "response_schema_conformance"])),
        *("--generation-database", "none", "--suppress-health-check", "all"),
    ]
    with tempfile.TemporaryDirectory() as folder:  # it leaves a cache where it runs
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return "" if done.returncode == 0 else " ".join((done.stdout + done.stderr)[-1500:].split())


def garbage(url: str, requests: int) -> None:
    """Bytes that are hardly HTTP, and requests that break off or lie about their length."""
    host, port = url.removeprefix("http://").split(":")
    chance = random.Random(requests)
    head = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n"
    for number in range(requests):
        path = list(ROUTES)[number % len(ROUTES)].partition("#")[0]
        good = head.format(path).encode() + b"{" * 40
        match chance.randrange(3):
            case 0:
                data = chance.randbytes(chance.randrange(1, 3000))
            case 1:
                data = good[: chance.randrange(len(good))]
            case _:
                mutated = bytearray(good)
                for _ in range(chance.randrange(1, 8)):
                    mutated[chance.randrange(len(mutated))] = chance.randrange(256)
                data = bytes(mutated)
        with socket.create_connection((host, int(port)), timeout=5) as client:
            client.settimeout(0.02)
            try:
                client.sendall(data)
                client.recv(4096)
            except (TimeoutError, ConnectionError):
                continue  # it waits for more, or hung up


def counts(url: str) -> dict[str, float]:
    """Requests by status."""
    with urllib.request.urlopen(f"{url}/metrics") as response:
        page = response.read().decode()
    return {
        s: float(n) for s, n in re.findall(r'^longreward_requests_total\{status="(\d+)"\} (\S+)$', page, re.MULTILINE)
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("load", "drain", "fuzz", "slow"):
        command = commands.add_parser(name)
        if name == "fuzz":
            command.add_argument("--requests", type=int, default=10_000, help="from the schema, and as many of garbage")
            continue
        few = name == "slow"
        command.add_argument("--clients", type=int, default=16 if few else 64)
        command.add_argument("--batch", type=int, default=1 if few else 16, help="answers in a request")
        command.add_argument("--capacity", type=int, default=64, help="judge calls that the judge works on at once")
        command.add_argument("--max-in-flight", type=int, default=80, help="judge calls that the server has open")
        if few:
            command.add_argument("--slow", type=int, default=1000, help="slow clients")
            command.add_argument("--again", type=float, default=10, help="seconds until one that is closed comes again")
            command.add_argument("--files", type=int, default=256, help="the server's limit of open files")
        command.add_argument("--routes", nargs="+", choices=list(ROUTES), default=list(ROUTES))
        if name != "drain":
            command.add_argument("--minutes", type=float, default=5)
    options = parser.parse_args()
    rows = {"load": load, "drain": drain, "fuzz": fuzz, "slow": slow}[options.command](options)
    table = Table(title=" ".join(sys.argv[1:]))
    for heading in ("what", "measured", "bar", ""):
        table.add_column(heading, overflow="fold")
    for what, figure, bar, met in rows:
        table.add_row(what, figure, bar, "" if met else "MISSED")
    Console(width=max(140, Console().width)).print(table)
    return 0 if all(met for *_, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
