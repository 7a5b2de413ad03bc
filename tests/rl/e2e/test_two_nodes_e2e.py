"""A run across two machines: Ray nodes in network namespaces of their own, joined by a bridge. Needs root.

python -m pytest -m soak tests/rl/test_two_nodes_e2e.py
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis_process import RedisProcess

pytestmark = [pytest.mark.e2e, pytest.mark.soak, pytest.mark.timeout(1500)]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def namespaces_work() -> bool:
    name = f"lr-{uuid.uuid4().hex[:6]}"
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        ip("netns", "del", name)
    return made


GATEWAY = 254
RELAY = """if True:
    import asyncio, sys

    async def pipe(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def met(reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
        await asyncio.gather(pipe(reader, back), pipe(there, writer))

    async def main():
        server = await asyncio.start_server(met, sys.argv[1], 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())
"""
needs_namespaces = pytest.mark.skipif(not namespaces_work(), reason="needs root and network namespaces")


@dataclass
class Machines:
    """Two network namespaces with addresses of their own, and the Ray nodes in them."""

    launcher: object
    name: str = field(default_factory=lambda: uuid.uuid4().hex[:5])
    folder: Path = Path()

    def inside(self, number: int, *words: str, host: str = "") -> list[str]:
        """In that machine's network, under a host name of its own where one is given."""
        named = ["unshare", "--uts", "sh", "-c", f'hostname {host} && exec "$@"', "sh"] if host else []
        return ["ip", "netns", "exec", f"lr{self.name}{number}", *named, *words]

    def address(self, number: int) -> str:
        return f"10.77.3.{number}"

    @contextmanager
    def reached(self, port: int) -> Iterator[str]:
        """An address that leads both machines to a port of this one."""
        relay = [sys.executable, "-c", RELAY, self.address(GATEWAY), str(port)]
        with subprocess.Popen(relay, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield f"{self.address(GATEWAY)}:{process.stdout.readline().strip()}"
            finally:
                process.kill()

    def set_up(self) -> None:
        self.folder = Path("/tmp") / f"lr-{self.name}"  # Ray's socket paths may have 107 characters
        bridge = f"lr{self.name}b"
        ip("link", "add", bridge, "type", "bridge")
        ip("link", "set", bridge, "up")
        ip("addr", "add", f"{self.address(GATEWAY)}/24", "dev", bridge)
        for number in (1, 2):
            space, inner, outer = f"lr{self.name}{number}", f"lr{self.name}i{number}", f"lr{self.name}o{number}"
            ip("netns", "add", space)
            ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            ip("link", "set", outer, "master", bridge, "up")
            ip("link", "set", inner, "netns", space, "name", "eth0")
            for words in (
                ["link", "set", "lo", "up"],
                ["addr", "add", f"{self.address(number)}/24", "dev", "eth0"],
                ["link", "set", "eth0", "up"],
            ):
                subprocess.run(self.inside(number, "ip", *words), check=True)

    def tear_down(self) -> None:
        for number in (1, 2):
            subprocess.run(["ip", "netns", "del", f"lr{self.name}{number}"], check=False)
        subprocess.run(["ip", "link", "del", f"lr{self.name}b"], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_ray(self, number: int, host: str = "") -> None:
        words = ["--num-gpus=1", "--num-cpus=4", f"--node-ip-address={self.address(number)}"]
        words += ["--object-store-memory=300000000", "--disable-usage-stats"]
        if number == 1:
            words += ["--head", "--port=6399", f"--temp-dir={self.folder}", "--include-dashboard=false"]
        else:
            words += [f"--address={self.address(1)}:6399"]
        ray = str(Path(sys.executable).with_name("ray"))
        code, output = self.launcher.run(
            *self.inside(number, ray, "start", *words, host=host),
            timeout=600,
            LONGREWARD_TEST_MACHINE=str(number),
            GLOO_SOCKET_IFNAME="eth0",
        )
        assert code == 0, output

    def processes(self, number: int, named: str = "") -> dict[int, str]:
        """What runs on that machine, told by its environment."""
        found = {}
        for pid, command in self.launcher.descendants().items():
            try:
                environment = Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            if named in command and f"LONGREWARD_TEST_MACHINE={number}\0".encode() in environment:
                found[pid] = command
        return found

    def lose(self, number: int) -> None:
        """The machine is gone: all its processes at once."""
        for pid in self.processes(number):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def machines(launcher) -> Iterator[Machines]:
    made = Machines(launcher)
    try:
        made.set_up()
        yield made
    finally:
        for number in (1, 2):
            made.lose(number)
        made.tear_down()


def settings(launcher, zero_stage: int, *more: str) -> list[str]:
    return [
        *[sys.executable, "rl/train.py", "--config", "configs/grpo_cpu.yaml", f"run.dir={launcher.directory}/runs"],
        *["run.name=two", "data.heldout=null", "reward.workers=2", "run.deadline_start_s=300"],
        # One GPU a machine: a learner, a reference and an engine on each.
        *["openrlhf.actor.num_gpus_per_node=2", "openrlhf.ref.num_gpus_per_node=2", "openrlhf.vllm.num_engines=2"],
        *["openrlhf.rollout.batch_size=4", "openrlhf.rollout.n_samples_per_prompt=4", "openrlhf.train.batch_size=16"],
        *["openrlhf.rollout.micro_batch_size=4", "openrlhf.train.micro_batch_size=4"],
        *[f"openrlhf.ds.zero_stage={zero_stage}", "openrlhf.ckpt.save_steps=2", "resume=true", *more],
    ]


@needs_namespaces
@pytest.mark.parametrize("zero_stage", [2, 3])
def test_a_run_across_two_machines_survives_the_loss_of_one(launcher, machines, zero_stage):
    machines.start_ray(1)
    machines.start_ray(2)
    run = launcher.directory / "runs" / "two"
    environment = {"RAY_ADDRESS": f"{machines.address(1)}:6399", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
    # 20 steps: it is in the midst of them when the machine is lost.
    words = machines.inside(1, *settings(launcher, zero_stage, "openrlhf.data.max_samples=80"))
    process = launcher.start(*words, LONGREWARD_TEST_MACHINE="driver", **environment)
    launcher.wait_for((run / "checkpoints" / "_actor" / "global_step2" / "metric.json").is_file, process)
    for part in ("ray::JudgeWorker", "ray::RolloutRayActor"):
        where = [len(machines.processes(number, part)) for number in (1, 2)]
        assert sum(where) == 2, (part, where)
    assert [len(machines.processes(number, "ray::JudgeWorker")) for number in (1, 2)] == [1, 1]
    assert machines.processes(1, "Actor") and machines.processes(2, "Actor")
    machines.lose(2)
    code, output = launcher.finish(process)
    assert code == 1, output
    assert " died (" in output and "resume=true continues there" in output and "Traceback" not in output, output
    machines.start_ray(2)
    code, output = launcher.run(*words, LONGREWARD_TEST_MACHINE="driver", **environment)
    assert code == 0, output
    assert "continuing" in output and "at the checkpoint of step" in output
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["void_rate"]) == (20, 0)


@needs_namespaces
@pytest.mark.parametrize("cache", ["the run's own", "redis"])
def test_a_run_that_comes_back_on_machines_of_other_names_pays_for_nothing_twice(
    launcher, machines, judge_server, tmp_path, cache
):
    run = launcher.directory / "runs" / "two"
    environment = {"RAY_ADDRESS": f"{machines.address(1)}:6399", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"}
    with (
        RedisProcess(tmp_path) if cache == "redis" else nullcontext() as server,
        machines.reached(judge_server.port) as judge,
        machines.reached(server.port) if server else nullcontext() as kept,
    ):
        words = settings(launcher, 2, "openrlhf.data.max_samples=32", "reward.workers=1", "reward.judge.kind=openai")
        words += [f"reward.judge.base_url=http://{judge}/v1", "reward.judge.model=judge"]
        words += ["reward.judge.hedge.budget=0"]  # each question that is asked twice is one too many
        words += [f"reward.cache.url=redis://{kept}/0"] if kept else []
        for number in (1, 2):
            machines.start_ray(number, host=f"first-{number}")
        begun = machines.inside(1, *words, host="first-1")
        process = launcher.start(*begun, LONGREWARD_TEST_MACHINE="driver", **environment)
        launcher.wait_for((run / "checkpoints" / "_actor" / "global_step2" / "metric.json").is_file, process)
        judge_server.latency = 3600  # no more verdicts, and those that are there are written down
        launcher.wait_for(lambda: judge_server.in_flight, process)
        time.sleep(2)
        in_flight = judge_server.in_flight
        for number in (2, 1):
            machines.lose(number)
        process.kill()
        process.communicate()
        judge_server.latency = 0
        for number in (1, 2):
            machines.start_ray(number, host=f"second-{number}")
        continued = machines.inside(1, *words, host="second-1")
        code, output = launcher.run(*continued, LONGREWARD_TEST_MACHINE="driver", **environment)
    assert code == 0, output
    assert "at the checkpoint of step 2" in output
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["void_rate"]) == (8, 0)
    hosts = {file.name.partition("-")[0] for file in (run / "cache").glob("*.verdicts")}
    assert hosts == (set() if server else {"first", "second"})
    # The preflights ask the same questions each time: six kinds and an extraction of full size, two starts.
    repeated = sum(count - 1 for count in Counter(prompt for _, prompt in judge_server.prompts).values())
    assert repeated <= in_flight + 7
