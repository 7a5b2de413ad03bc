"""Shared by all tests: one scripted judge server on a real socket, and no network configuration from outside."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# A shell ignores Ctrl-C for what it starts in the background, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing about the code: the machine may be slow.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


class EndToEndByFile(LoadScopeScheduling):
    """`pytest -n 2`: the tests of an end-to-end file share what they start, so one process runs all of them."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0] if "/e2e/" in nodeid else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> EndToEndByFile:
    return EndToEndByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: the fast ones then fill what is left of the time."""
    items.sort(key=lambda item: "/e2e/" not in item.nodeid)


Reply = str | Callable[[str, int], Any]


@dataclass
class JudgeServer:
    """Speaks /v1/chat/completions, and /v1/score where the script says what. The request's header tells what kind of
    question it is."""

    latency: float = 0.0
    statements: int = 3
    script: dict[str, Any] = field(default_factory=dict)
    """kind -> text, or a callable (prompt, number of this call) -> text or web.Response."""
    calls: Counter[str] = field(default_factory=Counter)
    prompts: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    """The Authorization header of each request."""
    in_flight: int = 0
    most_in_flight: int = 0
    waves: list[int] = field(default_factory=list)
    """Requests that must have arrived before the first of them is answered, then before the first after these, ..."""
    arrived: int = 0
    arrival: asyncio.Condition = field(default_factory=asyncio.Condition)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def asked_once(self, **more: Any) -> dict[str, Any]:
        """A reward that asks this judge without retries, and has the two dimensions that take one call each."""
        about = {"kind": "openai", "base_url": self.url, "model": "judge", "max_attempts": 1, "parse_attempts": 1}
        return {"judge": about | more, "weights": {"helpfulness": 1, "logicality": 1}}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompt = body["messages"][-1]["content"] if "messages" in body else f"{body['text_1']}\n{body['text_2']}"
        kind = request.headers.get("X-LongReward-Request", "")
        self.calls[kind] += 1
        number = self.calls[kind]
        self.prompts.append((kind, prompt))
        self.bodies.append(body)
        self.keys.append(request.headers.get("authorization"))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency)
            if self.waves:
                await self._wave()
        finally:
            self.in_flight -= 1
        reply = self.script.get(kind, self._default(kind, prompt))
        if callable(reply):
            reply = reply(prompt, number)
        if asyncio.iscoroutine(reply):
            reply = await reply
        if isinstance(reply, web.StreamResponse):
            return reply
        return web.json_response(completion(reply))

    async def _wave(self) -> None:
        async with self.arrival:
            self.arrived += 1
            goal = next(total for total in accumulate(self.waves) if total >= self.arrived)
            self.arrival.notify_all()
            await self.arrival.wait_for(lambda: self.arrived >= goal)

    def _default(self, kind: str, prompt: str) -> str:
        if kind == "statements":
            return "\n".join(f"<statement>Fact number {i} holds.</statement>" for i in range(self.statements))
        if kind == "extract":
            return "Something relevant."
        if kind == "verify_many":
            return "\n".join(f"{number}. Passage 1 says so. [[Fully supported]]" for number in numbered(prompt))
        if kind == "criteria":
            return "\n".join(f"{number}. It does. [[Met]]" for number in numbered(prompt, "criteria"))
        if kind == "points":
            return "<point>Something relevant is said.</point>\n<point>More is said.</point>"
        if kind == "coverage":
            return "\n".join(f"{number}. [[Covered]]" for number in numbered(prompt, "points"))
        if kind in ("verify", "check"):
            return "Analysis.\n[[Fully supported]]"
        return {"evaluate_qa": "[[2]]", "evaluate_summary": "[[4]]", "evaluate_pair": "[[C]]"}.get(
            kind, "Analysis.\n[[8]]"
        )


def completion(text: str | None, finish_reason: str = "stop") -> dict[str, Any]:
    """The body of a chat completion with one choice."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "judge",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


def numbered(prompt: str, fence: str = "statements") -> dict[str, str]:
    """The statements, points or criteria of a prompt that asks for several verdicts, by their numbers."""
    listed = prompt.rpartition(f"<{fence}>\n")[2].partition(f"\n</{fence}>")[0]
    return dict(re.findall(r"^(\d+)\. (.*)$", listed, re.MULTILINE))


@contextmanager
def running_judge() -> Iterator[JudgeServer]:
    """A judge on 127.0.0.1, in a thread of its own."""
    server = JudgeServer()
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        application = web.Application(client_max_size=2**26)
        application.router.add_post("/v1/chat/completions", server.handle)
        application.router.add_post("/v1/score", server.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        ready.set()
        await stop.wait()
        await runner.cleanup()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}  # requests that a test left hanging on purpose
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)


@pytest.fixture
def judge_server() -> Iterator[JudgeServer]:
    """A judge for one test."""
    with running_judge() as server:
        yield server


@pytest.fixture
def start_judge() -> Callable[[], AbstractContextManager[JudgeServer]]:
    """Starts a judge: `with start_judge() as server`."""
    return running_judge


@pytest.fixture(scope="module")
def module_judge() -> Iterator[JudgeServer]:
    """A judge for all tests of a file."""
    with running_judge() as server:
        yield server


@pytest.fixture(scope="session")
def smollm2(request: pytest.FixtureRequest) -> Path:
    """SmolLM2-135M-Instruct, a real language model: made once, for all processes of `pytest -n` and later sessions."""
    from real.models import smollm2 as made

    assert request.config.cache is not None
    return made(request.config.cache.mkdir("models"))


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "OPENAI_API_KEY OPENAI_BASE_URL OPENAI_ORG_ID OPENAI_PROJECT_ID WANDB_API_KEY RAY_ADDRESS LONGREWARD_DEVICE"
    proxies = "http_proxy https_proxy all_proxy no_proxy"
    for name in (*names.split(), *proxies.split(), *proxies.upper().split(), "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Three answers about one small document, from good to bad."""
    context = (
        "Mara sold copper to Otto in Lisbon. Lena bought 40 apples from Karl in Rome. " + "It rained all day. " * 30
    )
    answers = [
        "Mara sold copper to Otto in Lisbon. Lena bought 40 apples from Karl in Rome.",
        "Mara sold silver to Otto in Lisbon. Lena bought 40 apples from Karl in Rome.",
        "That is a very interesting question. I hope this helps.",
    ]
    return [
        {"idx": i, "context": context, "query": "What did Mara and Lena do?", "answer": a}
        for i, a in enumerate(answers)
    ]
