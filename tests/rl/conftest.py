"""Runs of rl/train.py as a user starts them, and the proof that they leave nothing behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CPU_CONFIG = "configs/grpo_cpu.yaml"
# Two steps of 4 prompts x 4 answers and 4 held-out prompts: the whole road in the least time.
TINY = (
    "openrlhf.data.max_samples=8",
    "openrlhf.rollout.batch_size=4",
    "openrlhf.rollout.n_samples_per_prompt=4",
    "openrlhf.train.batch_size=16",
    "openrlhf.rollout.micro_batch_size=8",
    "openrlhf.train.micro_batch_size=8",
    "evaluation.max_prompts=4",
    "evaluation.n_samples_per_prompt=2",
)

# Nothing here takes so long: it ends what hangs. A busy host can make any run several times slower.
HANGS_S = 1500.0

# Keys are in the environment of the Ray nodes, as on a real cluster; tests look for them where they must not be.
KEYS = {"OPENAI_API_KEY": "sk-very-secret", "WANDB_API_KEY": "wandb-very-secret"}
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ray-very-secret"}

REWARD_MODEL = """
import sys
from rl.trainer import cpu_backend
cpu_backend.apply()
from openrlhf.models import get_llm_for_sequence_regression
from transformers import AutoTokenizer
policy, out = sys.argv[1:]
model = get_llm_for_sequence_regression(
    policy, "reward", init_value_head=True, attn_implementation="sdpa", param_dtype="fp16"
)
model.save_pretrained(out)
AutoTokenizer.from_pretrained(policy).save_pretrained(out)
"""


@dataclass
class Launcher:
    """Starts processes that carry a mark in their environment, which all their descendants inherit."""

    directory: Path
    mark: str = field(default_factory=lambda: f"longreward-test-{uuid.uuid4().hex}")
    ray_folder: Path = Path()
    dashboard: str = ""
    shared: dict[str, str] = field(default_factory=dict)
    """Variables of all that it starts."""

    def environment(self, **variables: str) -> dict[str, str]:
        return os.environ | {"LONGREWARD_TEST_MARK": self.mark} | self.shared | variables

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A process in a session of its own, so that signals to it do not reach the tests."""
        return subprocess.Popen(
            words,
            cwd=ROOT,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, timeout: float = HANGS_S, **variables: str) -> tuple[int, str]:
        """Run to the end: exit code and all it printed. Killed with a failure after `timeout` seconds."""
        return self._finish(self.start(*words, **variables), timeout)

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for the end of one that was started: exit code and all it printed."""
        return self._finish(process, HANGS_S)

    def train_words(self, *overrides: str, config: str = CPU_CONFIG) -> list[str]:
        return [sys.executable, "rl/train.py", "--config", config, f"run.dir={self.directory}/runs", *overrides]

    def train(
        self, *overrides: str, config: str = CPU_CONFIG, timeout: float = HANGS_S, **variables: str
    ) -> tuple[int, str]:
        return self.run(*self.train_words(*overrides, config=config), timeout=timeout, **variables)

    def _finish(self, process: subprocess.Popen[str], timeout: float) -> tuple[int, str]:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"{process.args} did not end within {timeout} s:\n{output}")
        return process.returncode, output

    def wait_for(self, what: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
        """Wait until `what` gives something true, and give that, while the process goes on."""
        deadline = time.monotonic() + HANGS_S
        while not (found := what()):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.1)
        return found

    def descendants(self) -> dict[int, str]:
        """Processes alive that carry the mark: pid -> command."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                alive = entry.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
                if alive and self.mark.encode() in entry.joinpath("environ").read_bytes():
                    found[int(entry.name)] = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
            except OSError:
                continue  # it ended while we looked
        return found

    def wait_until_gone(self, seconds: float = HANGS_S) -> float:
        """Wait until no process with the mark is left; how long it took. Fails with the list of those that stay."""
        started = time.monotonic()
        while left := self.descendants():
            if time.monotonic() - started > seconds:
                pytest.fail(f"still running after {seconds} s: {left}")
            time.sleep(0.2)
        return time.monotonic() - started


@pytest.fixture(scope="session")
def curves() -> Callable[[Path], dict[str, dict[int, float]]]:
    """TensorBoard's curves in a folder: tag -> step -> value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(folder: Path) -> dict[str, dict[int, float]]:
        events = EventAccumulator(str(folder))
        events.Reload()
        return {tag: {point.step: point.value for point in events.Scalars(tag)} for tag in events.Tags()["scalars"]}

    return read


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides for a run of two steps."""
    return TINY


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As OpenRLHF's train_rm leaves one, its head at random."""
    folder = tmp_path_factory.mktemp("reward_model") / "model"
    words = [sys.executable, "-c", REWARD_MODEL, str(ROOT / "rl/toy/policy"), str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, timeout=600)
    return folder


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """A launcher whose processes are gone after the test, also when it fails."""
    started = Launcher(tmp_path)
    yield started
    _kill(started)


@pytest.fixture(scope="module")
def new_launcher() -> Iterator[Callable[[Path], Launcher]]:
    """Makes launchers for all tests of a file, whose processes are gone after the last one."""
    made: list[Launcher] = []

    def make(directory: Path) -> Launcher:
        made.append(Launcher(directory))
        return made[-1]

    yield make
    for started in made:
        _kill(started)


@pytest.fixture
def serve(launcher: Launcher) -> Iterator[Callable[[dict[str, Any]], str]]:
    """`longreward serve` as a user starts it, with these settings: its address."""
    servers: list[subprocess.Popen[str]] = []

    def start(settings: dict[str, Any]) -> str:
        path = launcher.directory / "reward.yaml"
        path.write_text(yaml.safe_dump(settings))
        words = ["-m", "longreward", "serve", "--config", str(path), "--port", "0"]
        process = launcher.start(sys.executable, *words)
        servers.append(process)
        assert process.stdout is not None
        said = []
        while (found := re.search(r"http://127.0.0.1:\d+", "".join(said))) is None:
            line = process.stdout.readline()
            assert line, said
            said.append(line)
        return f"{found.group()}/get_reward"

    yield start
    for process in servers:
        process.terminate()
        assert process.stdout is not None
        with process.stdout:
            assert process.wait(120) == 0, process.stdout.read()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Launcher, str]]:
    """A Ray cluster as a user starts it, with a token and `ray start --head --num-gpus=4`: launcher and address."""
    # Ray's sockets lie below this folder and their paths may have 107 characters, which pytest's own folders exceed.
    ray_folder = Path("/tmp") / f"lr-{uuid.uuid4().hex[:6]}"
    launcher = Launcher(tmp_path_factory.mktemp("cluster"), ray_folder=ray_folder, shared=TOKEN)
    head, dashboard, client, agent = _free_ports(4)
    words = [f"--port={head}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    words.append(f"--dashboard-agent-listen-port={agent}")
    ray = str(Path(sys.executable).with_name("ray"))
    code, output = launcher.run(
        *[ray, "start", "--head", "--num-gpus=4", f"--temp-dir={ray_folder}", "--disable-usage-stats", *words],
        timeout=600,
        **KEYS,
    )
    assert code == 0, output
    launcher.dashboard = f"http://127.0.0.1:{dashboard}"
    yield launcher, f"127.0.0.1:{head}"
    _kill(launcher)
    subprocess.run(["rm", "-rf", str(ray_folder)], check=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _kill(launcher: Launcher) -> None:
    deadline = time.monotonic() + 120
    while (left := launcher.descendants()) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.3)
