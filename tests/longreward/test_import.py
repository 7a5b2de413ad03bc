"""The library stands alone."""

import subprocess
import sys
import time

HEAVY = ("torch", "ray", "transformers", "vllm", "openrlhf", "deepspeed", "openai", "numpy")


def test_import_brings_nothing_heavy():
    code = f"import sys, longreward, longreward.cli; print([m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_help_answers_at_once():
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "longreward", "score", "--help"], check=True, capture_output=True)
    # Generous against a loaded machine: what it must not do is import a framework, which takes many seconds.
    assert time.monotonic() - started < 5


def test_scoring_offline_uses_no_framework(tmp_path):
    code = (
        "import asyncio, sys; from longreward import *\n"
        "async def main():\n"
        "    reward = LongReward.from_config({})\n"
        "    sample = Sample(context='Ada Low met Bob.', query='Who met Bob?', answer='Ada Low met Bob.')\n"
        "    print((await reward.score(sample)).total)\n"
        "asyncio.run(main())\n"
        f"print([m for m in {HEAVY[:7]} if m in sys.modules])"
    )
    total, modules = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert float(total) > 8 and modules == "[]"
