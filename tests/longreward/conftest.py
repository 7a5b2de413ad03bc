"""Shared by the tests of the server: the real command in a process of its own, on a free port. Shared by those of the
report: run directories, and what a report holds."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from longreward.schema import DimensionScore, Evidence, JudgeCall, Reward, Sample, ScoredAnswer, Statement
from longreward.store import Store

Reply = tuple[int, dict[str, str], Any]


@dataclass
class Server:
    """`longreward serve`, up and ready unless it was told otherwise."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, body: bytes | str | None = None, **headers: str) -> Reply:
        """Status, headers (lower case) and the body, read as JSON where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {**self.headers, **headers})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, json.loads(raw) if "json" in found.get("content-type", "") else raw.decode()

    def ask(self, rows: list[dict[str, Any]], path: str = "/get_reward") -> Reply:
        """Ask for the rewards of rows with context, query and answer."""
        return self.request("POST", path, json.dumps(payload(rows)), **{"Content-Type": "application/json"})

    def metrics(self) -> dict[str, float]:
        lines = [line for line in self.request("GET", "/metrics")[2].splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def end(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def payload(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What OpenRLHF sends for these rows: a rendered prompt, the answer with its end mark, spans in the label."""
    found: dict[str, list[str]] = {"query": [], "prompts": [], "labels": []}
    for row in rows:
        head = "<|im_start|>user\n"
        prompt = f"{head}{row['context']}\n\n{row['query']}<|im_end|>\n<|im_start|>assistant\n"
        middle = len(head) + len(row["context"])
        label = {"id": str(row.get("idx", "")), "split": "train", "context": [len(head), middle]}
        label["query"] = [middle + 2, middle + 2 + len(row["query"])]
        found["query"].append(f"{prompt}{row['answer']}<|im_end|>")
        found["prompts"].append(prompt)
        found["labels"].append(json.dumps(label))
    return found


@contextmanager
def _serving(
    folder: Path, config: dict[str, Any], *words: str, ready: bool = True, files: int | None = None, **environment: str
) -> Iterator[Server]:
    path, log = folder / "reward.yaml", folder / f"serve-{time.monotonic_ns()}.log"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "longreward", "serve", "--config", str(path), "--port", "0", *words]
    if files is not None:
        command = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *command]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
        )
    token = environment.get("LONGREWARD_SERVER_TOKEN")
    try:
        found = None
        deadline = time.monotonic() + 60
        while not (found := re.search(r"serving on http://\S+:(\d+) ", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        server = Server(process, int(found[1]), log, {"Authorization": f"Bearer {token}"} if token else {})
        while ready and server.request("GET", "/readyz")[0] != 200:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield server
    finally:
        for _ in range(2):  # the second one ends it at once
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                time.sleep(0.1)
        process.wait(30)


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., AbstractContextManager[Server]]:
    """Starts a server: `with serve(config, ENVIRONMENT="...") as server`. `files`: its limit of open files."""
    return lambda config, *words, **more: _serving(tmp_path, config, *words, **more)


@pytest.fixture(scope="module")
def offline_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the offline judge and small limits, for all tests of a file."""
    limits = {"max_body_mb": 1, "max_items": 8, "max_chars": 100_000, "queue": 32, "body_timeout_s": 1}
    with _serving(tmp_path_factory.mktemp("serve"), {"serve": limits}) as server:
        yield server


@pytest.fixture
def as_sent() -> Callable[[list[dict[str, Any]]], dict[str, list[str]]]:
    """The request that OpenRLHF would send for rows."""
    return payload


DAY = 1.8e9  # when the runs of these tests take place, in seconds since 1970


@dataclass
class RunFolder:
    """A run directory as training leaves it, made by hand."""

    path: Path
    time: float = DAY

    def config(self, **sections: Any) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "config.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")

    def prompt(self, identity: str, context: str, query: str = "What?", split: str = "train") -> None:
        head, middle = "<|user|>\n", len("<|user|>\n") + len(context)
        label = {"id": identity, "split": split, "context": [len(head), middle]}
        label["query"] = [middle + 2, middle + 2 + len(query)]
        row = {"input": f"{head}{context}\n\n{query}<|assistant|>", "label": json.dumps(label)}
        self.line(f"data/{split}.jsonl", json.dumps(row))

    def answer(self, identity: str, answer: str, total: float | None, **more: Any) -> None:
        """Append a scored answer, a second after the one before. `facts` are (statement, support, start, end, text of
        the evidence), `said` the judge's text, `status` why it is void, `scores` the dimensions."""
        facts = [
            Statement(
                text=text,
                support=support,
                evidence=[Evidence(index=0, start=start, end=end, text=chunk)],
                call=JudgeCall(kind="verify", text=more.get("said", ""), attempts=1, seconds=0.5),
            )
            for text, support, start, end, chunk in more.pop("facts", [])
        ]
        status = "ok" if total is not None else more.pop("status", "timeout")
        scores = more.pop("scores", None) or {"helpfulness": total, "faithfulness": total}
        dimensions = {
            name: DimensionScore(
                score=score,
                status=status if score is None else "ok",
                calls=[JudgeCall(kind=name, text=more.get("said", ""), attempts=1, seconds=1.0)],
                statements=facts if name == "faithfulness" else [],
            )
            for name, score in scores.items()
        }
        more.pop("said", None)
        self.time += 1
        file = more.pop("file", "answers-0-a.jsonl")
        about = {"split": "train", "rollout": f"r{self.time}", "truncated": False, "tokens": 25, "time": self.time}
        sample = Sample(id=identity, context="", query=more.pop("query", "What?"), answer=answer)
        reward = Reward(id=identity, total=total, dimensions=dimensions, seconds=0.25)
        with Store(self.path / "store" / file) as store:
            store.append(ScoredAnswer.of(sample, reward, **about | more))

    def line(self, name: str, text: str, end: str = "\n") -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        with (self.path / name).open("a", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text + end)

    def scalars(self, values: dict[str, list[float]], times: list[float], folder: str = "run") -> None:
        """TensorBoard's files: each figure at steps from 1 on, written at these times."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = EventFileWriter(str(self.path / "tensorboard" / folder))
        for step, at in enumerate(times, 1):
            figures = [Summary.Value(tag=tag, simple_value=each[step - 1]) for tag, each in values.items()]
            writer.add_event(Event(wall_time=at, step=step, summary=Summary(value=figures)))
        writer.close()


@pytest.fixture(scope="session")
def run_folder() -> type[RunFolder]:
    """For fixtures that last longer than a test."""
    return RunFolder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunFolder]:
    """A run directory of this name."""

    def make(name: str = "run", **config: Any) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.config(**config)
        return run

    return make


@dataclass
class Page:
    """What a report.html holds, as its own script reads it."""

    html: str
    blocks: dict[str, bytes]

    @classmethod
    def read(cls, path: Path) -> Page:
        html = path.read_text(encoding="utf-8")
        found = re.findall(r'<script type="text/plain" id="block-(\w+)">([A-Za-z0-9+/=]*)</script>\n', html)
        return cls(html, {name: zlib.decompress(base64.b64decode(text)) for name, text in found})

    def json(self, name: str) -> Any:
        return json.loads(self.blocks[name])

    @property
    def overview(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("overview")
        return found

    def column(self, name: str) -> list[float]:
        import numpy as np

        kind, offset = next((kind, offset) for each, kind, offset in self.overview["columns"] if each == name)
        values = np.frombuffer(self.blocks["columns"], f"<{kind}", self.overview["rows"], offset)
        return [float(value) for value in values]

    def texts(self, *names: str) -> list[str]:
        """The texts of these blocks."""
        return [text for name in names for text in self.json(name)["texts"]]

    def alarms(self, run: int = 0) -> dict[str, dict[str, Any]]:
        return {alarm["id"]: alarm for alarm in self.overview["runs"][run]["alarms"]}


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Page]:
    """`longreward report` of these paths, and what it made."""
    from longreward import cli

    def make(*paths: Path | RunFolder, words: tuple[str, ...] = ()) -> Page:
        out = tmp_path / "made.html"
        given = [str(path.path if isinstance(path, RunFolder) else path) for path in paths]
        assert cli.main(["report", *given, "--out", str(out), *words]) == 0
        return Page.read(out)

    return make
