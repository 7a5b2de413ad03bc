"""The reward stage of one rollout batch, three ways, against one judge of fixed latency: 8 prompts x 8 answers.

    python benchmarks/reward_stage.py [--judge-latency 1] [--repeat 3] [--threads 32] [--max-in-flight 256]

    ours         rl/rollout/agent.py's AgentExecutor and a judge worker
    reward_func  OpenRLHF's `--reward.remote_url FILE.py`: a plain function, called for one answer at a time in one of
                 min(32, cores + 4) threads. FILE is this file; its function has the whole of LongReward behind it, one
                 instance on one event loop for all threads, so that nothing but OpenRLHF's threads holds it up
    http         OpenRLHF's `--reward.remote_url http://...`: a small aiohttp server with one LongReward

Each runs in a Ray actor of its own, all answers at once, as in OpenRLHF's rollout engine. Generating takes no time, nor
does tokenizing the prompts. All three must give the same rewards. Documents are new in each repeat; medians are shown.
Exit code 1 where the bar is missed. The ratio is one of these conditions, not of the code alone: reward_func takes
64 / threads rounds of two latencies, so `--threads 32` shows it as on 28 cores or more, and ours takes two latencies
only where the judge takes the 704 calls of the second round at once, four where it takes the default of 256.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import judge_server
import ray
from aiohttp import web
from rich.console import Console
from rich.table import Table
from toy import task
from toy.vocabulary import END, ROLES

from longreward import LongReward, Sample
from longreward.concurrency.pacing import rare_collections
from longreward.config_file import validate
from longreward.schema import DIMENSIONS
from rl.config import RunConfig
from rl.data import prompt_files
from rl.data.prompts import Label
from rl.rollout import judge_workers
from rl.rollout.reward_client import Settings
from rl.run import cluster
from rl.trainer import cpu_backend

Group = tuple[str, str, list[str]]
"""A prompt as OpenRLHF gets it, its label and its answers."""

PROMPTS, ANSWERS = 8, 8
SENTENCES = 10  # of an answer; the judge finds as many statements
DOCUMENT_SENTENCES = 340  # eight tokens each
MAX_LENGTH, MAX_NEW_TOKENS = 8192, 256
BAR = 5.0
START_S = 120  # deadline for whatever has to start
CONFIG = "LONGREWARD_BENCHMARK_CONFIG"
"""The variable that carries the reward's configuration to `reward_func` and to the server."""

POLICY = str(Path(__file__).resolve().parents[1] / "rl" / "toy" / "policy")


# OpenRLHF's two ways


async def score(reward: LongReward, query: str, prompt: str, label: str) -> dict[str, float]:
    """From what OpenRLHF hands over: `query` is prompt and answer, decoded."""
    about = Label.from_json(label)
    answer = query.rpartition(ROLES[-1])[2].partition(END)[0].strip()
    context, question = prompt[slice(*about.context)], prompt[slice(*about.query)]
    result = await reward.score(Sample(id=about.id, context=context, query=question, answer=answer))
    if result.total is None:
        raise RuntimeError(f"{about.id} is void: {result.void_reasons}")
    return {"rewards": result.total, "scores": result.total / 10}


@functools.cache  # the warm-up's one answer fills it, before there are several threads
def background() -> tuple[asyncio.AbstractEventLoop, LongReward]:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def make() -> LongReward:
        return LongReward.from_config(json.loads(os.environ[CONFIG]))

    return loop, asyncio.run_coroutine_threadsafe(make(), loop).result(START_S)


def reward_func(queries: list[str], prompts: list[str], labels: list[str]) -> dict[str, float]:
    """OpenRLHF loads this file and calls this in a thread, with lists of one."""
    loop, reward = background()
    scoring = score(reward, queries[0], prompts[0], labels[0])
    return asyncio.run_coroutine_threadsafe(scoring, loop).result(START_S)


def serve(port: int) -> None:
    async def app() -> web.Application:
        reward = LongReward.from_config(json.loads(os.environ[CONFIG]))
        rare_collections()

        async def handle(request: web.Request) -> web.Response:
            data = await request.json()
            return web.json_response(await score(reward, data["query"][0], data["prompts"][0], data["labels"][0]))

        async def close(_: web.Application) -> None:
            await reward.aclose()

        application = web.Application(client_max_size=2**26)
        application.router.add_post("/", handle)
        application.on_cleanup.append(close)
        return application

    web.run_app(app(), host="127.0.0.1", port=port, print=None, access_log=None, shutdown_timeout=1)


@contextmanager
def server() -> Iterator[str]:
    """The server in a process of its own; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, f"--serve={port}"])
    try:
        deadline = time.monotonic() + START_S
        while _refused(port):
            if time.monotonic() > deadline or process.poll() is not None:
                raise TimeoutError(f"the reward server did not open port {port} within {START_S} s")
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# The engine


class Tokenizer:
    """The toy policy's. Texts that are tokenized for the second time take no time: that work is not the reward's."""

    def __init__(self) -> None:
        self._tokenizer = prompt_files.load_tokenizer(POLICY)
        self._known: dict[str, Any] = {}

    def __call__(self, text: str, **options: Any) -> Any:
        if text not in self._known:
            self._known[text] = self._tokenizer(text=text, **options)
        return self._known[text]

    def tokens(self, text: str) -> list[int]:
        """As OpenRLHF asks for them."""
        found: list[int] = self(text=text, add_special_tokens=False, return_tensors="pt")["input_ids"][0].tolist()
        return found

    def decode(self, tokens: list[int], **options: Any) -> str:
        text: str = self._tokenizer.decode(tokens, **options)
        return text


class Generated:
    """Stands for vLLM: one answer, generated at once."""

    def __init__(self, tokens: list[int]) -> None:
        output = SimpleNamespace(token_ids=tokens, text="", finish_reason="stop", logprobs=None)
        self._output = SimpleNamespace(outputs=[output])

    async def generate(self, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0)  # all answers of a batch are begun before the first one is done
        return self._output


class Engine:
    """Stands for OpenRLHF's RolloutRayActor: a Ray actor with an executor on its event loop."""

    async def start(self, remote_url: str | None, threads: int) -> None:
        """With OpenRLHF's own executor for `remote_url`, with ours where there is none."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
        cpu_backend.apply()
        from openrlhf.utils.agent import SingleTurnAgentExecutor

        from rl.rollout.agent import AgentExecutor

        self._executor = SingleTurnAgentExecutor(remote_url) if remote_url else AgentExecutor()
        self._tokenizer = Tokenizer()
        rare_collections()

    async def run(self, groups: list[Group]) -> tuple[float, list[float | None]]:
        """Seconds until all answers have their rewards, and the rewards."""
        rollouts = [
            # Siblings share the prompt's very object, as in OpenRLHF.
            (prompt, label, Generated(self._tokenizer.tokens(answer + END)))
            for prompt, label, answers in groups
            for answer in answers
        ]
        for prompt, _, _ in rollouts:
            self._tokenizer.tokens(prompt)
        started = time.perf_counter()
        outputs = await asyncio.gather(
            *(
                self._executor.execute(
                    prompt=prompt,
                    label=label,
                    sampling_params=SimpleNamespace(max_tokens=MAX_NEW_TOKENS, logprobs=None),
                    max_length=MAX_LENGTH,
                    hf_tokenizer=self._tokenizer,
                    llm_engine=generated,
                )
                for prompt, label, generated in rollouts
            )
        )
        seconds = time.perf_counter() - started
        assert not any(output["extra_logs"].get("longreward/void") for output in outputs), "ours has a void reward"
        return seconds, [output["reward"] for output in outputs]


# The benchmark


def make_groups(seed: int, folder: Path) -> list[Group]:
    """Prompts rendered by rl/prepare_data.py, and answers that all begin differently."""
    rng = random.Random(seed)
    rows, answers = [], []
    for number in range(PROMPTS):
        name = f"{seed}-{number}"
        parts = [task.make_prompt(rng, name) for _ in range(DOCUMENT_SENTENCES // task.SENTENCES[0])]
        # A subject of the toy's may come up several times in a document of this length; its sentences differ.
        sentences = list(dict.fromkeys(fact.sentence for part in parts for fact in part.facts))[:DOCUMENT_SENTENCES]
        rows.append({"idx": name, "context": " ".join(sentences), "query": parts[0].query})
        drawn = iter(rng.sample(sentences, ANSWERS * SENTENCES))
        answers.append([" ".join(islice(drawn, SENTENCES)) for _ in range(ANSWERS)])
    source, out = folder / f"{seed}.jsonl", folder / f"{seed}-prompts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = prompt_files.prepare(
        source, out, prompt_files.load_tokenizer(POLICY), MAX_LENGTH - MAX_NEW_TOKENS, "train"
    )
    assert report.kept == PROMPTS and not report.cut, report.sentence()
    prompts = [json.loads(line) for line in out.read_text().splitlines()]
    return [(prompt["input"], prompt["label"], own) for prompt, own in zip(prompts, answers, strict=True)]


@contextmanager
def engines(judge_url: str, folder: Path, threads: int, max_in_flight: int) -> Iterator[dict[str, Any]]:
    """An engine of each kind, ready, by name."""
    reward = {"judge": {"kind": "openai", "base_url": judge_url, "model": "judge", "max_in_flight": max_in_flight}}
    config = validate(
        RunConfig,
        {
            "run": {"name": "reward_stage", "dir": folder, "deadline_start_s": START_S},
            "data": {"train": folder / "unused"},
            "reward": {**reward, "tokenizer": "words"},  # as LongReward counts by itself
        },
    )
    run_id = f"{os.getpid()}"
    environment = {CONFIG: json.dumps(reward), "TOKENIZERS_PARALLELISM": "false"}
    settings = Settings.of(config, run_id, estimator="group_norm", filtering=False)
    environment |= cpu_backend.environment() | settings.environment()
    os.environ.update(environment)
    ray.init(
        address="local",
        namespace="reward_stage",
        num_cpus=1,
        object_store_memory=200_000_000,
        include_dashboard=False,
        logging_level="WARNING",
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    cluster.stop_on_sigterm()  # after ray.init, which takes the signal for itself
    try:
        workers = judge_workers.start(config, None, run_id)
        try:
            with server() as server_url:
                urls = {"ours": None, "reward_func": str(Path(__file__).resolve()), "http": server_url}
                found = {name: ray.remote(num_cpus=0)(Engine).remote() for name in urls}
                ray.get([found[name].start.remote(url, threads) for name, url in urls.items()], timeout=START_S)
                yield found
        finally:
            workers.kill()
    finally:
        ray.shutdown()


def judge_calls(judge_url: str) -> int:
    """How many the judge has had so far."""
    with urllib.request.urlopen(judge_url, timeout=10) as response:
        calls: int = json.load(response)["requests"]
        return calls


def measure(options: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds of each repeat and judge calls of the last one, by way."""
    seconds: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    deadline = START_S + 4 * options.judge_latency * (PROMPTS * ANSWERS / options.threads + 1)
    with (
        tempfile.TemporaryDirectory() as name,
        judge_server.running(latency=options.judge_latency, statements=SENTENCES) as judge_url,
        engines(judge_url, Path(name), options.threads, options.max_in_flight) as found,
    ):
        # One answer opens the door and loads what is loaded once; everything else is measured.
        (prompt, label, answers), *_ = make_groups(-1, Path(name))
        for engine in found.values():
            ray.get(engine.run.remote([(prompt, label, answers[:1])]), timeout=deadline)
        for repeat in range(options.repeat):
            groups = make_groups(repeat, Path(name))
            rewards = {}
            for way, engine in found.items():
                before = judge_calls(judge_url)
                took, rewards[way] = ray.get(engine.run.remote(groups), timeout=deadline)
                calls[way] = judge_calls(judge_url) - before
                seconds.setdefault(way, []).append(took)
                if None in rewards[way]:
                    raise RuntimeError(f"{rewards[way].count(None)} answers got no reward by {way}; see Ray's logs")
            if not rewards["ours"] == rewards["reward_func"] == rewards["http"]:
                raise RuntimeError(f"the same answers got different rewards: {rewards}")
    return seconds, calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge-latency", type=float, default=1.0, help="seconds per judge call")
    parser.add_argument("--repeat", type=int, default=1, help="so many times, on new documents; medians are shown")
    parser.add_argument(
        "--threads",
        type=int,
        default=min(32, (os.cpu_count() or 1) + 4),
        help="of OpenRLHF's for reward_func; by default what Python gives it on this machine",
    )
    parser.add_argument("--max-in-flight", type=int, default=1024, help="judge calls, in each way")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    seconds, calls = measure(options)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    ratio = {way: wall / median["ours"] for way, wall in median.items()}
    missed = ratio["reward_func"] < BAR
    table = Table(
        title=f"{PROMPTS} prompts x {ANSWERS} answers, {SENTENCES} statements each, L = {options.judge_latency:g} s, "
        f"{len(DIMENSIONS)} dimensions, at most {options.max_in_flight} judge calls in flight"
    )
    for heading in ("way", "wall", "in latencies", "judge calls", "times ours", "bar", ""):
        table.add_column(heading)
    for way, text, bar in (
        ("ours", "ours: agent and judge worker", ""),
        ("reward_func", f"OpenRLHF's reward_func, {options.threads} threads", f"at least {BAR:g}"),
        ("http", "OpenRLHF's HTTP reward", ""),
    ):
        figures = (f"{median[way]:.2f} s", f"{median[way] / options.judge_latency:.2f} L", str(calls[way]))
        table.add_row(text, *figures, f"{ratio[way]:.2f}", bar, "MISSED" if bar and missed else "")
    Console(width=max(120, Console().width)).print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
