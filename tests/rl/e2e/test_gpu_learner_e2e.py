"""benchmarks/gpu_learner.py without a GPU: it says so, and its trial on a CPU runs OpenRLHF's train_dpo to the end."""

from __future__ import annotations

import re
import sys

import pytest

pytestmark = pytest.mark.e2e

SCRIPT = [sys.executable, "benchmarks/gpu_learner.py"]


def test_the_trial_on_a_cpu_measures_steps_and_says_what_it_is(launcher):
    code, output = launcher.run(*SCRIPT, "--device", "cpu", "--tokens", "256", "--steps", "1")
    assert code == 0, output
    assert "No GPU was used" in output
    assert re.search(r"\| peak, without the context \| [\d.]+ \| [\d.]+ \|", output), output
    assert re.search(r"[\d.]+ s a step \(.*, 1 steps\), [\d,]+ tokens a second", output), output


def test_without_a_gpu_there_is_one_sentence(launcher):
    code, output = launcher.run(*SCRIPT, CUDA_VISIBLE_DEVICES="")
    assert code == 1 and output.splitlines()[-1].startswith("gpu_learner: no GPU is found here")
