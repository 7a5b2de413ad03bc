"""OpenRLHF as anybody runs it, with `--reward.remote_url` at `longreward serve`: no agent, and of rl/ only what
OpenRLHF needs on a machine without a GPU."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from longreward import LongReward, Sample
from rl import config
from rl.data import prompt_files

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[3]


class Recorder:
    """Stands before the server and keeps what goes by."""

    def __init__(self, server: str) -> None:
        self.seen: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._server = server

    @contextmanager
    def running(self) -> Iterator[str]:
        started, loop = threading.Event(), asyncio.new_event_loop()
        urls: list[str] = []

        async def forward(request: web.Request) -> web.Response:
            async with aiohttp.ClientSession() as session:
                payload = await request.json()
                async with session.post(self._server, json=payload) as reply:
                    body, status = await reply.read(), reply.status
            if status == 200:
                self.seen.append((payload, json.loads(body)))
            return web.Response(body=body, status=status, content_type="application/json")

        async def start() -> web.AppRunner:
            app = web.Application(client_max_size=2**26)
            app.router.add_post("/{path:.*}", forward)
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}/get_reward")
            started.set()
            return runner

        def run() -> None:
            runner = loop.run_until_complete(start())
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())

        thread = threading.Thread(target=run)
        thread.start()
        started.wait(10)
        try:
            yield urls[0]
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)


def test_openrlhf_trains_with_the_server_as_with_the_agent(launcher, tiny, serve, curves) -> None:
    from transformers import AutoTokenizer

    overrides = [f"run.dir={launcher.directory}/runs", *tiny]
    run = config.load(ROOT / "configs/grpo_cpu.yaml", overrides)
    tokenizer = prompt_files.load_tokenizer(str(ROOT / "rl/toy/policy"))
    recorder = Recorder(serve({"serve": {"tokenizer": str(ROOT / "rl/toy/policy"), "group_size": 4}}))
    with recorder.running() as url:
        words = ["benchmarks/served_training.py", "plain", "--config", "configs/grpo_cpu.yaml", "--remote-url", url]
        code, output = launcher.run(sys.executable, *words, *overrides)
    assert code == 0, output[-5000:]
    assert (run.directory / "model" / "config.json").is_file()
    assert len(recorder.seen) == 2 * 4 * 4, "an answer was lost, or sent twice"

    async def by_the_library(payload: dict[str, Any]) -> Any:
        (query,), (prompt,), (label,) = payload["query"], payload["prompts"], payload["labels"]
        spans = json.loads(label)
        before = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        ids = tokenizer(query, add_special_tokens=False)["input_ids"][before:]
        context, question = (prompt[slice(*spans[name])] for name in ("context", "query"))
        answer = tokenizer.decode(ids, skip_special_tokens=True)
        return await library.score(Sample(id=spans["id"], context=context, query=question, answer=answer))

    from rl.rollout.judge_worker import token_spans

    library = LongReward.from_config({}, token_spans=token_spans(str(ROOT / "rl/toy/policy")))
    means = []
    for payload, reply in recorder.seen:
        reward = asyncio.run(by_the_library(payload))
        assert reply["status"] == ["ok"]
        assert reply["rewards"] == [pytest.approx(reward.total)]
        means.append(reward.total)
    (folder,) = {path.parent for path in (run.directory / "tensorboard").rglob("events.out.tfevents*")}
    seen = curves(folder)
    for name in ("train/reward", "train/longreward/total"):
        assert len(seen[name]) == 2, "a value for each step"
        assert sum(seen[name].values()) / 2 == pytest.approx(sum(means) / len(means), abs=1e-3)
    assert seen["train/longreward/void"] == {1: 0.0, 2: 0.0}
    assert AutoTokenizer.from_pretrained(run.directory / "model").chat_template
