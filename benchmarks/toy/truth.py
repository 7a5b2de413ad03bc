"""A reward for the toy with a small spread: how much of what an answer says stands in the document.

`reward.python.function=benchmarks/toy/truth.py:truth`
"""

from __future__ import annotations

import re
from typing import Any


def _sentences(text: str) -> list[str]:
    return [part.rstrip(".") for part in re.split(r"(?<=\.)\s+", text.strip()) if part]


def truth(sample: Any, spread: float = 0.1) -> float:
    """5 and at most 10 x `spread` / 2 more or less: by the share of the answer's sentences that stand in the document
    word for word. Whether they answer the question is not looked at."""
    said, known = _sentences(sample.answer), set(_sentences(sample.context))
    share = sum(sentence in known for sentence in said) / len(said) if said else 0.0
    return 5 + 10 * spread * (share - 0.5)
