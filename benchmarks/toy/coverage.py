"""A reward for the toy with a small spread: how much of what is asked about an answer speaks of.

`reward.python.function=benchmarks/toy/coverage.py:coverage`
"""

from __future__ import annotations

import re
from typing import Any

_NAMES = re.compile(r"\b[A-Z][a-z]+\b")


def coverage(sample: Any, spread: float = 0.1) -> float:
    """5 and at most 10 x `spread` / 2 more or less: by the share of the question's names that the answer begins a
    sentence with. Whether what it says of them is true is not looked at."""
    asked = set(_NAMES.findall(sample.query)) - {"What"}
    spoken_of = {sentence.split()[0] for sentence in sample.answer.split(". ") if sentence.split()}
    return 5 + 10 * spread * (len(asked & spoken_of) / len(asked) - 0.5)
