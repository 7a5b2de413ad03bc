"""The arithmetic of benchmarks/gpu_learner.py is that of the comments in configs/paper/."""

from __future__ import annotations

import re
from pathlib import Path

import gpu_learner
import pytest

CONFIGS = Path(__file__).parents[3] / "configs" / "paper"
GB = 1e9


def commented(name: str) -> tuple[list[float], float]:
    """The last figure of each item of a configuration's comment on the learner's memory, and their sum."""
    text = (CONFIGS / name).read_text()
    items, total = re.search(r"\n(#   learner, .*?)#   sum ([\d.]+)", text, re.DOTALL).groups()
    return [float(figure) for figure in re.findall(r" {3,}(\d+\.\d)$", items, re.MULTILINE)], float(total)


@pytest.mark.parametrize(
    ("name", "shape"), [("llama31_8b", gpu_learner.LLAMA_8B), ("glm4_9b", gpu_learner.GLM_9B)], ids=["llama", "glm"]
)
@pytest.mark.parametrize(("kind", "tokens", "reference"), [("dpo", 16384, True), ("sft", 8192, False)])
def test_it_gives_the_figures_of_the_configurations(name, shape, kind, tokens, reference):
    terms = gpu_learner.arithmetic(shape, tokens, gpus=8, reference=reference)
    weights, gradients, optimizer, other, gathered, logits, kept, at_work, ring, context = terms.values()
    learner, rest = weights + gradients + optimizer, other + gathered
    found = [amount / GB for amount in (learner, rest, logits, kept + at_work, ring, context)]
    figures, total = commented(f"{name}_{kind}.yaml")
    assert found == pytest.approx(figures, abs=0.1)  # the comments add up rounded figures
    assert sum(found) == pytest.approx(total, abs=0.2)


def test_the_shape_has_the_parameters_of_the_model():
    assert gpu_learner.LLAMA_1B.parameters == 1_235_814_400
    assert gpu_learner.LLAMA_8B.parameters == 8_030_261_248
