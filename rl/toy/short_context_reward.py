"""What a reward model of short contexts sees of an answer, by rules: the question and the answer, never the document.

The stand-in of the toy for the paper's baseline (configs/paper/toy.yaml): it likes an answer with one sentence about
each person that is asked about, however wrong.
"""

from __future__ import annotations

import re

from rl.data.prompts import TrainingSample


def reward(sample: TrainingSample) -> float:
    """0..10: the share of the people asked about that begin a sentence, less a tenth for each sentence of another."""
    asked = set(re.findall(r"[A-Z]\w+", sample.query.partition(" did ")[2]))
    begins = re.findall(r"(?:^|\. )([A-Z]\w+)", sample.answer)
    if not asked:
        return 0.0
    told = len(asked & set(begins)) / len(asked)
    return max(0.0, 10 * told - sum(name not in asked for name in begins))
