"""The library stands alone."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "transformers", "vllm", "openrlhf", "deepspeed", "openai", "numpy", "fastapi", "uvicorn")


def test_import_brings_nothing_heavy():
    code = f"import sys, longreward, longreward.cli; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_adapters_do_not_bring_the_trainers_that_they_are_for():
    code = (
        "import sys, longreward.adapters.trl, longreward.adapters.verl\n"
        f"print([m for m in {(*HEAVY[:6], 'trl', 'verl')} if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_help_answers_at_once():
    code = (
        "import sys; from longreward import cli\n"
        "try: cli.main(['score', '--help'])\n"
        f"except SystemExit: print([m for m in {HEAVY} if m in sys.modules])"
    )
    help_text, modules = subprocess.check_output([sys.executable, "-c", code], text=True).rsplit("\n", 2)[:2]
    assert "--judge" in help_text and modules == "[]"


def test_scoring_offline_uses_no_framework(tmp_path):
    code = (
        "import asyncio, sys; from longreward import *\n"
        "async def main():\n"
        "    reward = LongReward.from_config({})\n"
        "    sample = Sample(context='Ada Low met Bob.', query='Who met Bob?', answer='Ada Low met Bob.')\n"
        "    print((await reward.score(sample)).total)\n"
        "asyncio.run(main())\n"
        f"print([m for m in {HEAVY[:7] + HEAVY[8:]} if m in sys.modules])"
    )
    total, modules = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert float(total) > 8 and modules == "[]"


def test_judge_workers_use_no_framework_of_training():
    pytest.importorskip("ray")
    code = (
        "import sys; from rl.rollout import judge_worker, judge_workers\n"
        "print(judge_worker.token_spans('rl/toy/policy')('Ada met Bob')[0])\n"
        f"print([m for m in {(HEAVY[0], *HEAVY[2:6])} if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines() == ["(0, 3)", "[]"]


def test_the_server_uses_no_framework_of_training():
    pytest.importorskip("fastapi")
    code = f"import sys, longreward.server.process; print([m for m in {HEAVY[:6]} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_without_its_packages_the_server_says_what_to_install():
    code = "import sys; sys.modules['fastapi'] = None; from longreward.cli import main; sys.exit(main(['serve']))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "longreward: the server needs fastapi; pip install 'longreward[serve]'\n"
