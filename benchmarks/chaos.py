"""Real runs of rl/train.py and rl/dpo.py that are hurt on purpose: the toy policy, a judge over the network, no GPU.

    python benchmarks/chaos.py resume   # the driver SIGKILLed ten times at random moments; some 12 minutes
    python benchmarks/chaos.py faults   # 200 steps, 10% of judge calls fail, a judge worker killed every 20 steps,
                                        # against a clean run; some 25 minutes
    python benchmarks/chaos.py dpo      # rl/dpo.py SIGKILLed ten times, in every stage, against an undisturbed run;
                                        # some 15 minutes
    python benchmarks/chaos.py outage   # the judge away for 60 s, then for good; some 5 minutes

Exit 1 where a bar is missed. The judge is the offline judge's rules behind HTTP, so its rewards mean something.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import judge_server

from longreward.files import jsonlines

ROOT = Path(__file__).parents[1]
_MARK = "LONGREWARD_CHAOS"
_PREFLIGHT = 6  # kinds of question that a start asks the judge


class Run:
    """`rl/train.py`, or another program, as a user starts it, in a folder of its own."""

    def __init__(self, folder: Path, name: str, url: str, *settings: str, config: str, program: str) -> None:
        self.directory, self.screen = folder / name, folder / f"{name}.txt"
        self.mark = f"{os.getpid()}-{name}"
        self._words = [
            *[sys.executable, program, "--config", config, f"run.dir={folder}"],
            *[f"run.name={name}", "reward.judge.kind=openai", f"reward.judge.base_url={url}"],
            *["reward.judge.model=judge", "reward.judge.retry_base_s=0.1", "reward.judge.attempt_timeout_s=5"],
            "reward.judge.hedge.budget=0",  # what is asked twice is counted
            *settings,
        ]
        self.process: subprocess.Popen[str] | None = None

    def start(self, *more: str) -> None:
        with self.screen.open("a") as screen:
            self.process = subprocess.Popen(
                [*self._words, *more],
                cwd=ROOT,
                env=os.environ | {_MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def finish(self, seconds: float) -> None:
        """Start it and wait for its good end. RuntimeError with the end of its screen otherwise."""
        self.start()
        if code := self.wait(seconds):
            raise RuntimeError(f"{self.directory.name}: exit {code}\n{self.screen.read_text()[-3000:]}")

    def wait(self, seconds: float) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def kill(self) -> None:
        """The driver alone, as the kernel's out-of-memory killer would; waits until all it had started is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.wait_until_gone(besides="Agent")  # Ray's own agents take a minute to notice, and disturb nobody

    def wait_until_gone(self, seconds: float = 120, besides: str = "\0") -> None:
        deadline = time.monotonic() + seconds
        while left := [command for command in self.processes().values() if besides not in command]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"still there after {seconds} s: {left}")
            time.sleep(0.3)

    def processes(self, named: str = "") -> dict[int, str]:
        """The run's processes: pid -> command."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                alive = entry.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
                command = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
                if (
                    alive
                    and named in command
                    and f"{_MARK}={self.mark}\0".encode() in entry.joinpath("environ").read_bytes()
                ):
                    found[int(entry.name)] = command[:80]
            except OSError:
                continue  # it ended while we looked
        return found

    def steps(self) -> int:
        """The last step on the screen."""
        found = re.findall(r"^step +(\d+)/", self.screen.read_text(), re.MULTILINE) if self.screen.exists() else []
        return int(found[-1]) if found else 0

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "summary.json").read_text())
        return found

    def prompts(self) -> int:
        """Different prompts whose answers were scored."""
        lines = [line for path in (self.directory / "store").glob("*.jsonl") for line in path.read_text().splitlines()]
        return len({json.loads(line)["id"] for line in lines})

    def rollouts(self) -> list[str]:
        """The training answers in the store, one for each record."""
        files = (self.directory / "store").glob("*.jsonl")
        records = (record for path in files for _, record in jsonlines.read(path, broken=[]))
        return [record["rollout"] for record in records if record["split"] == "train"]

    def curves(self, part: str = "") -> dict[str, list[float]]:
        """All scalars that TensorBoard has; with "-watch", those that the run's watch wrote."""
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.directory / "tensorboard" / f"{self.directory.name}{part}"), {"scalars": 0})
        events.Reload()
        return {tag: [point.value for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@contextmanager
def run(
    folder: Path, name: str, url: str, *settings: str, config: str = "grpo_cpu", program: str = "rl/train.py"
) -> Iterator[Run]:
    """A run whose processes are gone afterwards."""
    made = Run(folder, name, url, *settings, config=f"configs/{config}.yaml", program=program)
    try:
        yield made
    finally:
        for _ in range(100):
            if not (left := made.processes()):
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.2)


def kill_in_flight(made: Run, url: str) -> dict[str, Any]:
    """Kill a run's driver. Returns what the judge was at when it died; an error if it had ended by itself."""
    if not made.running:
        raise RuntimeError(f"it ended before it was killed:\n{made.screen.read_text()[-2000:]}")
    seen = judge_server.stats(url)
    made.kill()
    return seen


def sizes(steps: int, prompts: int, answers: int) -> list[str]:
    """Settings for so many steps of so many prompts and answers each."""
    batch = prompts * answers
    return [
        f"openrlhf.data.max_samples={min(512, steps * prompts)}",
        f"openrlhf.train.num_episodes={math.ceil(steps * prompts / 512)}",
        f"openrlhf.rollout.batch_size={prompts}",
        f"openrlhf.rollout.n_samples_per_prompt={answers}",
        *[f"openrlhf.{part}={batch}" for part in ("train.batch_size", "rollout.micro_batch_size")],
        f"openrlhf.train.micro_batch_size={batch}",
    ]


def resume(folder: Path, kills: int, steps: int, seed: int) -> bool:
    """The driver killed at random moments, from the first second on."""
    chance = random.Random(seed)
    settings = [*sizes(steps, 2, 4), "data.heldout=null", "openrlhf.ckpt.save_steps=2", "resume=true"]
    with (
        judge_server.running(latency=0.3, rules=True, repeats=True) as url,
        run(folder, "resume", url, *settings) as made,
    ):
        in_flight = 0
        print("kill  after s  step  in flight  answered twice so far")
        for kill in range(1, kills + 1):
            # A start takes some 40 s: a third of the kills before the first step, the others in the midst of them.
            after = chance.uniform(2, 40) if kill % 3 == 0 else chance.uniform(40, 75)
            made.start()
            time.sleep(after)
            seen = kill_in_flight(made, url)
            in_flight += seen["in_flight"]
            print(
                f"{kill:>4} {after:>8.1f} {made.steps():>5} {seen['in_flight']:>10} {seen['repeated']:>10}", flush=True
            )
        made.start()
        code = made.wait(900)
        repeated = judge_server.stats(url)["repeated"]
        requests = judge_server.stats(url)["requests"]
        summary = made.summary()
        prompts = made.prompts()
    print(f"exit {code}; steps {summary['steps']} of {steps}; prompts seen {prompts} of {steps * 2}")
    asked_first = _PREFLIGHT * kills  # the same questions before each start, which are never taken from a cache
    print(
        f"judge calls {requests}; answered twice {repeated}, of these at most {asked_first} before the starts; "
        f"in flight at the kills {in_flight}"
    )
    return code == 0 and summary["steps"] == steps and repeated <= in_flight + asked_first and prompts == steps * 2


_MOMENTS = (
    ("start", "device"),
    *[("collect", "collecting answers")] * 4,
    *[("train", "micro-batch")] * 3,
    *[("evaluate", "after training")] * 2,
)
"""The stages of rl/dpo.py at which it is killed, and what the screen says when one has begun."""


def dpo(folder: Path, kills: int, seed: int) -> bool:
    """Offline DPO killed at random moments of every stage: the pairs are those of an undisturbed run."""
    chance = random.Random(seed)
    settings = ["openrlhf.data.max_samples=96", "evaluation.max_prompts=16", "short.heldout=null"]
    settings += ["train_dpo.ckpt.save_steps=4", "collect.answers_in_flight=64"]
    with (
        judge_server.running(latency=0.2, rules=True) as url,
        run(folder, "undisturbed", url, *settings, config="dpo_cpu", program="rl/dpo.py") as made,
    ):
        pairs = made.directory / "pairs" / "train.jsonl"
        if not pairs.is_file():  # of an earlier call with the same --folder
            made.start("--stage=collect", "--stage=pair")
            if code := made.wait(600):
                print(f"the undisturbed run failed with {code}:\n{made.screen.read_text()[-2000:]}")
                return False
        wanted = pairs.read_bytes()
    with (
        judge_server.running(latency=0.2, rules=True, repeats=True) as url,
        run(folder, "killed", url, *settings, "resume=true", config="dpo_cpu", program="rl/dpo.py") as made,
    ):
        in_flight = 0
        print("kill  stage      answers in the store  in flight  answered twice so far")
        for kill, (stage, sign) in enumerate(_MOMENTS[:kills], 1):
            said = len(made.screen.read_text()) if made.screen.exists() else 0
            stored = len(made.rollouts())
            made.start()
            while made.running and not (made.screen.exists() and sign in made.screen.read_text()[said:]):
                time.sleep(0.1)
            while made.running and stage == "collect" and len(made.rollouts()) == stored:
                time.sleep(0.1)  # the engine's first answers take a while
            time.sleep(chance.uniform(0, 5))
            seen = kill_in_flight(made, url)
            in_flight += seen["in_flight"]
            print(
                f"{kill:>4}  {stage:<9} {len(made.rollouts()):>21} {seen['in_flight']:>10} {seen['repeated']:>10}",
                flush=True,
            )
        made.start()
        code = made.wait(900)
        seen, summary, rollouts = judge_server.stats(url), made.summary(), made.rollouts()
        same = (made.directory / "pairs" / "train.jsonl").read_bytes() == wanted
        made.start()  # it is finished: nothing is left to do
        again = made.wait(60)
    twice = len(rollouts) - len(set(rollouts))
    asked_first = _PREFLIGHT * len(_MOMENTS[:kills])
    print(f"exit {code}, once more {again}; {len(set(rollouts))} answers of 960, {twice} of them stored twice")
    print(
        f"judge calls {seen['requests']}; answered twice {seen['repeated']}, of these at most {asked_first} before the "
        f"starts; in flight at the kills {in_flight}"
    )
    print(f"pairs {summary['pairs']}, {'identical to' if same else 'NOT those of'} the undisturbed run's")
    paid_once = seen["repeated"] <= in_flight + asked_first
    return code == again == 0 and same and not twice and len(rollouts) == 960 and paid_once


def faults(folder: Path, steps: int, every: int) -> bool:
    """One run with a judge that fails and a judge worker that dies, one without."""
    settings = [*sizes(steps, 2, 4), "evaluation.max_prompts=64", "openrlhf.ckpt.save_steps=50"]
    # A judge of 0.05 s: hanging calls and those told to come back in 300 s must not make the run take hours.
    settings += ["reward.judge.attempt_timeout_s=2", "reward.judge.call_timeout_s=8"]
    ends: dict[str, tuple[dict[str, Any], dict[str, list[float]]]] = {}
    killed = 0
    for name, share in (("clean", 0.0), ("hurt", 0.1)):
        with (
            judge_server.running(latency=0.05, rules=True, faults=share) as url,
            run(folder, name, url, *settings) as made,
        ):
            made.start()
            due = every
            while made.running:
                time.sleep(0.5)
                if share and made.steps() >= due and (workers := made.processes("ray::JudgeWorker")):
                    os.kill(next(iter(workers)), signal.SIGKILL)
                    killed, due = killed + 1, due + every
            code = made.wait(1)
            print(f"{name}: exit {code}")
            if code:
                print(made.screen.read_text()[-2000:])
                return False
            ends[name] = made.summary(), made.curves()
            if share:
                print(f"faults served: {judge_server.stats(url)['faults']}")
    clean, hurt = ends["clean"][0]["after"]["total"], ends["hurt"][0]["after"]["total"]
    (low, high), gain = ends["clean"][0]["gain"]["interval"], ends["clean"][0]["gain"]["total"]
    noise = (high - low) / 2 * math.sqrt(2)
    curves = ends["hurt"][1]
    bad = [tag for tag, values in curves.items() if not all(map(math.isfinite, values))]
    void = curves["train/longreward/void"]
    print(
        f"steps {ends['hurt'][0]['steps']}; judge workers killed {killed}; "
        f"curves with NaN {bad or 'none'} of {len(curves)}"
    )
    print(
        f"void rate logged {sum(void) / len(void):.4f} in {len(void)} steps; reasons {ends['hurt'][0]['void_reasons']}"
    )
    print(f"held-out reward clean {clean:.3f} (gain {gain:+.3f}), hurt {hurt:.3f}; difference {hurt - clean:+.3f}")
    print(f"noise of the difference (95%) {noise:.3f}")
    return not bad and ends["hurt"][0]["steps"] == steps and abs(hurt - clean) <= noise and killed >= steps // every - 1


def outage(folder: Path, seconds: float) -> bool:
    """The judge is killed in the midst of training and comes back, or does not."""
    fine = True
    for name, patience in (("comes_back", 600.0), ("for_good", 20.0)):
        settings = [*sizes(12, 2, 4), "data.heldout=null", f"reward.judge.max_outage_s={patience}"]
        port = judge_server.free_port()
        with run(folder, name, f"http://127.0.0.1:{port}/v1", *settings) as made:
            with judge_server.running(port, latency=0.3, rules=True):
                made.start()
                while made.running and made.steps() < 3:
                    time.sleep(0.1)
            down = time.monotonic()
            if name == "comes_back":
                time.sleep(seconds)
                still = made.running
                with judge_server.running(port, latency=0.3, rules=True):
                    code = made.wait(300)
                summary = made.summary()
                print(
                    f"{name}: away for {seconds:.0f} s, the run was {'there' if still else 'gone'}, then exit {code}, "
                    f"{summary['steps']} steps, void rate {summary['void_rate']}"
                )
                fine &= still and code == 0 and summary["void_rate"] == 0 and summary["steps"] == 12
            else:
                code = made.wait(300)
                print(
                    f"{name}: exit {code} {time.monotonic() - down:.0f} s after the judge was gone "
                    f"(max_outage_s {patience:.0f}):"
                )
                said = made.screen.read_text().splitlines()[-5:]
                print("\n".join(f"    {line}" for line in said))
                fine &= code == 1 and "the judge is down" in "".join(said) and "checkpoint of step" in "".join(said)
                made.wait_until_gone()
                with judge_server.running(port, latency=0.3, rules=True):
                    made.start("resume=true")
                    code = made.wait(300)
                summary, prompts = made.summary(), made.prompts()
                print(f"{name}: resumed, exit {code}, {summary['steps']} steps of 12, {prompts} prompts of 24")
                fine &= code == 0 and summary["steps"] == 12 and prompts == 24
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["resume", "faults", "dpo", "outage"])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, help="80 for resume, 200 for faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the runs here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        if options.what == "resume":
            fine = resume(folder, options.kills, options.steps or 80, options.seed)
        elif options.what == "dpo":
            fine = dpo(folder, options.kills, options.seed)
        elif options.what == "faults":
            fine = faults(folder, options.steps or 200, 20)
        else:
            fine = outage(folder, 60)
        print(f"{'bars met' if fine else 'MISSED'}, {time.monotonic() - begun:.0f} s")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
