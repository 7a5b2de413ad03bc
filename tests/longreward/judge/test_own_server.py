"""The judge of `judge.kind: vllm`: real processes, with a stand-in for the package vllm that answers in a moment."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longreward.config import JudgeConfig, RewardConfig
from longreward.config_file import validate
from longreward.errors import ConfigError
from longreward.judge import make_judge
from longreward.judge.own_server import settings
from longreward.judge.own_server.process import ServerProcess

ROOT = Path(__file__).parents[3]
HANGS_S = 120
HOST = "127.0.0.1"
# It has an engine in a process of its own, as vLLM does, and wants the key.
STAND_IN = """
import json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if os.environ.get("STAND_IN") == "dies":
    sys.exit("no such model")
engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])

class Judge(BaseHTTPRequestHandler):
    def reply(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        silent = os.environ.get("STAND_IN") == "silent"
        self.reply(503 if silent else 200, {"server": os.getpid(), "engine": engine.pid, "arguments": sys.argv[1:]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer " + os.environ["VLLM_API_KEY"]:
            return self.reply(401, {})
        message = {"role": "assistant", "content": "Good. [[7]]"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        self.reply(200, {"choices": [choice], "usage": usage})

words = dict(zip(sys.argv[1:], sys.argv[2:]))
ThreadingHTTPServer((words["--host"], int(words["--port"])), Judge).serve_forever()
"""


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "stand-in" / "vllm" / "entrypoints" / "openai"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    (folder / "api_server.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'stand-in'}:{ROOT}")


def judge(**more: object) -> JudgeConfig:
    return validate(RewardConfig, {"judge": {"kind": "vllm", "model": "owner/judge", **more}}).judge


def asked(port: int) -> dict:
    with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=10) as reply:
        return json.loads(reply.read())


def listens(port: int) -> bool:
    try:
        return bool(asked(port))
    except OSError:
        return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HANGS_S
    while not what():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[ServerProcess, int]]]:
    started: list[ServerProcess] = []

    def make(**variables: str) -> tuple[ServerProcess, int]:
        port = settings.free_port()
        environment = settings.environment("k" * 32) | variables
        command = settings.command(judge(), HOST, port)
        started.append(ServerProcess(command, environment, settings.url(HOST, port), tmp_path / "judge.log"))
        return started[-1], port

    yield make
    for each in started:
        each.stop()


def test_a_server_that_is_killed_comes_back_at_the_same_address(start, tmp_path):
    server, port = start()
    server.wait_until_ready(HANGS_S)
    first = asked(port)
    os.kill(first["server"], signal.SIGKILL)
    until(lambda: not alive(first["engine"]))
    until(lambda: listens(port))
    second = asked(port)
    assert second["server"] != first["server"] and second["arguments"] == first["arguments"]
    log = tmp_path / "judge.log"
    assert "the server ended with code -9; it is started again" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    server.stop()
    until(lambda: not alive(second["server"]) and not alive(second["engine"]))


OWNER = """
import sys, time
from pathlib import Path
from longreward.judge.own_server import settings
from longreward.judge.own_server.process import ServerProcess
from longreward.config import JudgeConfig
port = int(sys.argv[1])
command = settings.command(JudgeConfig(kind="vllm", model="m"), "127.0.0.1", port)
server = ServerProcess(command, settings.environment("k"), settings.url("127.0.0.1", port), Path(sys.argv[2]))
server.wait_until_ready(100)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("server_too", [False, True], ids=["alone", "with the server, as Ray does"])
def test_nothing_is_left_when_its_owner_is_killed(server_too, tmp_path):
    port = settings.free_port()
    words = [sys.executable, "-c", OWNER, str(port), str(tmp_path / "judge.log")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "ready\n"
        found = asked(port)
        owner.kill()
        if server_too:
            os.kill(found["server"], signal.SIGKILL)
    until(lambda: not alive(found["server"]) and not alive(found["engine"]))


def test_one_that_does_not_start_is_a_sentence_with_the_end_of_its_log(start):
    server, _ = start(STAND_IN="dies")
    with pytest.raises(
        ConfigError, match=r"ended with code 1 while it started; the end of .*judge\.log:\nno such model"
    ):
        server.wait_until_ready(HANGS_S)
    server, _ = start(STAND_IN="silent")
    with pytest.raises(ConfigError, match=r"did not answer within 0\.5 s \(judge\.start_timeout_s\)"):
        server.wait_until_ready(0.5)


def test_the_command_of_the_server_and_its_key(monkeypatch):
    args = {
        "max-model-len": 4096,
        "enable_log_requests": False,
        "async-scheduling": True,
        "compilation-config": {"a": 1},
    }
    words = settings.command(judge(args=args), "10.0.0.1", 20001)
    pairs = dict(itertools.pairwise(words))
    assert (pairs["--model"], pairs["--host"], pairs["--port"]) == ("owner/judge", "10.0.0.1", "20001")
    assert pairs["--served-model-name"] == "owner/judge"
    assert pairs["--max-model-len"] == "4096" and pairs["--compilation-config"] == '{"a": 1}'
    assert json.loads(pairs["--structured-outputs-config"])["disable_any_whitespace"] is True
    assert {"--no-enable-log-requests", "--async-scheduling"} <= set(words)
    assert pairs["--middleware"].endswith("KeyOnEveryPath") and "--api-key" not in words
    monkeypatch.setenv("LONGREWARD_DEVICE", "cpu")
    given = settings.environment("a-key")
    assert given["VLLM_API_KEY"] == "a-key" and "LONGREWARD_DEVICE" not in given


def test_the_replicas_are_endpoints_of_one_judge():
    served = settings.asked_at(judge(temperature=0.5), [("10.0.0.1", 20001), ("fd00::1", 20002)])
    assert served.kind == "openai" and served.temperature == 0.5 and served.model == "owner/judge"
    assert [each.base_url for each in served.resolved_endpoints] == [
        "http://10.0.0.1:20001/v1",
        "http://[fd00::1]:20002/v1",
    ]
    assert {each.api_key_env for each in served.resolved_endpoints} == {settings.KEY}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"model": None}, "judge.kind is vllm but judge.model is not set"),
        ({"base_url": "http://a:8000/v1"}, "judge.kind is vllm, which starts its own server: take out judge.base_url"),
        ({"args": {"api_key": "k"}}, "judge.args.api-key is set by the run itself"),
        ({"replicas": 0}, "judge.replicas"),
    ],
)
def test_a_mistake_is_a_sentence(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        judge(**given)


def test_embeddings_need_a_server_of_their_own():
    given = {"judge": {"kind": "vllm", "model": "m"}, "retrieval": {"kind": "hybrid", "embeddings": {"model": "e"}}}
    with pytest.raises(ConfigError, match=r"set retrieval\.embeddings\.base_url"):
        validate(RewardConfig, given)


def test_a_library_call_says_who_starts_that_judge():
    with pytest.raises(ConfigError, match="a training run or a longreward command starts that judge"):
        make_judge(judge())


def test_score_serves_its_judge_for_as_long_as_it_works(tmp_path, monkeypatch):
    (tmp_path / "in.jsonl").write_text(json.dumps({"idx": 1, "context": "c", "query": "q", "answer": "An answer."}))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody: the judge is asked directly
    words = ["score", "in.jsonl", "--out", "out.jsonl", "--judge", "vllm", "--model", "owner/judge"]
    told = subprocess.run(
        [sys.executable, "-m", "longreward", *words, "weights={helpfulness: 1}"],
        cwd=tmp_path,
        env=dict(os.environ) | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert row["scores"]["helpfulness"] == 7
    assert "vLLM loads the judge owner/judge" in told.stderr
    assert not list(tmp_path.glob("longreward-judge-*"))
