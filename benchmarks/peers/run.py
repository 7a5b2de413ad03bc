"""The trainers' own tests of rewards, run against `longreward serve` and the adapters, without a GPU.

    python benchmarks/peers/run.py DIR [PEER ...]

DIR gets a checkout of each trainer's repository, unless it has one, and a folder with the packages that only these
tests need. What is not run is named with its reason. Exit 1 where a test fails.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import verl_own_tests as verl
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = (
    *("pytest-asyncio==1.5.0", "nemo_gym==0.7.0"),
    *("itsdangerous==2.2.0", "devtools==0.13.0", "asttokens==3.0.2", "executing==2.3.0"),
    *("scipy==1.17.1", "yappi==1.7.6", "pydot==4.0.1", "pyparsing==3.3.3"),
)
"""Without their dependencies, and whatever Python they ask for: NeMo Gym's code runs on 3.11 as far as it is used."""
ASYNC = ("-o", "addopts=", "-o", "asyncio_mode=auto", "-p", "no:cacheprovider", "-p", "no:xdist")
VERIFIERS_OLDER = (
    *("reference_score", "reference_score_messages_prompt", "reference_question_field", "view_modes"),
    *("rubric_view_full_trace", "config_prompt_overrides_class_template", "reference_list_answer", "error_attribution"),
    *("rubric_score", "rubric_reference_answer_optional", "task_score_runs_plugged_judges"),
)
TRL_REWARDS = (
    "reward and not environment and not reward_model and not processing_class and not mixed and not no_reward_source "
    "and not scale_rewards and not clipped_rewards"
)
TRL_EXACT = " and not reflects_reward_weights and not all_rewards_none"


@dataclass
class Run:
    """Tests of one kind."""

    what: str
    words: tuple[str, ...]
    """For pytest, in the checkout (`ours`: in this project)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    ours: bool = False


@dataclass
class Peer:
    repository: str
    reference: str
    """A tag or a commit; empty: no checkout is needed."""
    version: str
    runs: tuple[Run, ...]
    left_out: Mapping[str, str]


GRPO, RLOO = "tests/test_grpo_trainer.py", "tests/test_rloo_trainer.py"
TRL = ("-p", "trl_own_tests", "-p", "no:cacheprovider", "-p", "no:xdist")
PEERS = {
    "slime": Peer(
        "https://github.com/THUDM/slime",
        "624b824a898ab0ec1fcb4d373004c7f3852bf515",
        "commit 624b824",
        (
            Run("its contracts of reward functions", ("tests/plugin_contracts/test_plugin_path_loading_contracts.py",)),
            Run("its remote_rm and normalisation at our server", (str(HERE / "slime_remote_rm.py"), "-c", os.devnull)),
        ),
        {
            "remote_rm": "has no test of its own; slime_remote_rm.py calls it",
            "tests/test_rm_*": "are of rule-based rewards, which this is not",
            "all others": "need SGLang, Megatron and GPUs",
        },
    ),
    "verl": Peer(
        verl.REPOSITORY,
        verl.TAG,
        f"{verl.INSTALLED}, tests of {verl.TAG}",
        (
            Run("as they are", ("-p", "verl_own_tests", *verl.ARGUMENTS, *verl.TESTS)),
            Run("with LongReward", ("-p", "verl_own_tests", "--longreward", *verl.ARGUMENTS, *verl.TESTS[:2])),
        ),
        verl.LEFT_OUT,
    ),
    "trl": Peer(
        "https://github.com/huggingface/trl",
        "f2cd57710ae345ea6428ae95363267fcf38a3dc8",
        "trl==1.16.0, tests of commit f2cd577 (1.10.0.dev)",
        tuple(
            Run(f"{what}: {name}", (*TRL, *tests, "-k", words), {"LONGREWARD_ROWS": rows})
            for rows, what in (("off", "as they are"), ("none", "beside LongReward"), ("scored", "with LongReward"))
            for name, tests, words in (
                ("GRPO", (GRPO,), TRL_REWARDS + (TRL_EXACT if rows == "scored" else "")),
                ("RLOO", (RLOO,), TRL_REWARDS + (TRL_EXACT if rows == "scored" else "")),
                ("async", ("tests/experimental/test_async_grpo_trainer.py",), "ScoreGroup and not stamped"),
            )
        ),
        {
            "scale_rewards, clipped_rewards": "need a reward model of the hub",
            "environment, reward_model, processing_class, mixed": "are of no function, or need a model of the hub",
            "reflects_reward_weights, all_rewards_none (with LongReward)": "assert exact sums without ours",
            "stamped": "compares arrays with lists; fails without LongReward too, as the tests are older",
        },
    ),
    "verifiers": Peer(
        "https://github.com/PrimeIntellect-ai/verifiers",
        "a60a606ecc4d309247edf9ff92c3eabca362781f",
        "verifiers==0.4.0, tests of commit a60a606",
        (
            Run(
                "of judges, scoring and traces, beside the plugin",
                (
                    *("--noconftest", *ASYNC, "tests/v1/test_judges.py", "tests/v1/test_scoring.py"),
                    "tests/v1/test_trace.py",
                    *(f"--deselect=tests/v1/test_judges.py::test_{name}" for name in VERIFIERS_OLDER),
                ),
            ),
            Run("its scoring and rollouts with the plugin", ("tests/adapters/test_verifiers.py",), ours=True),
        ),
        {
            "11 tests of test_judges.py": "their fakes call trace.record_judge, which 0.4.0 renamed",
            "test_taskset.py": "uses Taskset.head, which 0.4.0 no longer has",
            "test_e2e.py": "needs a live endpoint and sandboxes",
        },
    ),
    "nemo_gym": Peer(
        "https://github.com/NVIDIA-NeMo/Gym",
        "",
        "nemo_gym==0.7.0",
        (
            Run(
                "its failsafe, models, means, session contract and discovery at our server",
                ("tests/longreward/server/test_nemo_gym_package.py",),
                ours=True,
            ),
            Run(
                "verifiers' own client of its servers, at ours",
                ("tests/longreward/server/test_nemo_gym_protocol.py", "-k", "verifiers"),
                ours=True,
            ),
        ),
        {
            "its own tests": "are of its own code in its own process: none asks a server over HTTP",
            "gym env start, gym eval run": "need Python 3.13",
        },
    ),
}


def checkout(peer: Peer, folder: Path) -> None:
    if not folder.exists() and peer.reference:
        for words in (
            ("init", "--quiet", str(folder)),
            ("-C", str(folder), "fetch", "--quiet", "--depth", "1", peer.repository, peer.reference),
            ("-C", str(folder), "checkout", "--quiet", "FETCH_HEAD"),
        ):
            subprocess.run(["git", *words], check=True)


def packages(folder: Path) -> None:
    if not folder.exists():
        words = ("install", "--quiet", "--no-deps", "--ignore-requires-python", "--target", str(folder), *PACKAGES)
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)


def home(folder: Path) -> None:
    """verl's tests look for a tokenizer below HOME."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from real.models import minilm

    place = folder / verl.TOKENIZER
    if not place.exists():
        place.parent.mkdir(parents=True)
        place.symlink_to(minilm(folder / "made"))


def run(name: str, one: Run, sources: Path) -> tuple[str, bool]:
    """pytest's last line, and whether nothing failed."""
    folder = ROOT if one.ours else sources / name
    path = [ROOT, ROOT / "benchmarks", ROOT / "tests/adapters", HERE, sources / "packages"]
    path += [] if one.ours or name != "slime" else [folder, folder / "tests"]
    environment = (
        os.environ | {"PYTHONPATH": ":".join(map(str, path)), "TRL_EXPERIMENTAL_SILENCE": "1"} | one.environment
    )
    if name == "verl":
        environment |= {"HOME": str(sources / "home"), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", *one.words]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or [done.stderr])[-1]
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-1000:], file=sys.stderr)
    return re.sub(r"=+ ?", "", last), done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, metavar="DIR")
    parser.add_argument("peers", nargs="*", choices=[*PEERS, []], help="which; all by default")
    options = parser.parse_args()
    sources = options.sources.absolute()
    sources.mkdir(parents=True, exist_ok=True)
    packages(sources / "packages")
    table = Table("peer", "tests", "result")
    left = Table("peer", "left out", "because")
    fine = True
    for name in options.peers or PEERS:
        peer = PEERS[name]
        checkout(peer, sources / name)
        if name == "verl":
            home(sources / "home")
        for one in peer.runs:
            result, passed = run(name, one, sources)
            table.add_row(f"{name} ({peer.version})", one.what, result if passed else f"FAILED: {result}")
            fine = fine and passed
        for what, why in peer.left_out.items():
            left.add_row(name, what, why)
    for each in (table, left):
        Console(width=160).print(each)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
