"""The number of facts of a policy's answers and its FactScore, from the statements that scoring has stored.

A fact is a statement of the reward's faithfulness, about one a sentence. FActScore (arXiv 2305.14251) and the paper
take atomic facts, of which a sentence has several, so the numbers here are others and compare among themselves only.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longreward.evaluation.intervals import MeanEstimate, mean_of_datasets
from longreward.text.markdown import table

Supports = Sequence[float]
"""The support of each statement of an answer, 0..1; none where it states nothing."""

_FULL = 0.75
"""From here on a support is nearer to full, 1, than to partial, 0.5: a judge that gives probabilities says neither."""
_LINES = {"facts": "statements an answer", "factscore": "FactScore, 0 to 100"}
_MOST = {"facts": math.inf, "factscore": 100.0}
_NOTE = (
    "A fact is a statement of the faithfulness score, about one a sentence; the paper's are atomic facts by GPT-4o, of "
    "which a sentence has several. FactScore: the share of an answer's statements that are fully supported, the mean "
    "over the answers that have any. In brackets: 95% percentile bootstrap over prompts."
)


@dataclass(frozen=True)
class AnswerFacts:
    """The facts of a policy's answers. Of a prompt's answers it is their mean that counts."""

    facts: dict[Any, float]
    """Prompt -> statements an answer. A prompt whose answers are all void is not in it."""
    factscore: dict[Any, float]
    """Prompt -> 100 x the share of fully supported statements, of the answers that have any."""
    answers: int
    without_statements: int
    """Answers that state nothing: 0 facts, and in no FactScore."""
    void: int
    """Answers whose statements are not known: in neither."""

    def mean(self, name: str) -> MeanEstimate:
        """Over the prompts, of `facts` or of `factscore`."""
        return mean_of_datasets([list(getattr(self, name).values())], (0.0, _MOST[name]))

    def to_json(self) -> dict[str, Any]:
        means = {name: self.mean(name).to_json() for name in _LINES}
        return means | {"answers": self.answers, "without_statements": self.without_statements, "void": self.void}


def answer_facts(prompts: Mapping[Any, Sequence[Supports | None]]) -> AnswerFacts:
    """The facts of each prompt's answers, by whatever names it; None: an answer without a verdict on its statements."""
    known = {prompt: [each for each in answers if each is not None] for prompt, answers in prompts.items()}
    counts = {prompt: [len(each) for each in answers] for prompt, answers in known.items()}
    shares = {
        prompt: [100 * sum(support >= _FULL for support in each) / len(each) for each in answers if each]
        for prompt, answers in known.items()
    }
    answers, scored = sum(map(len, prompts.values())), sum(map(len, known.values()))
    stating = sum(map(len, shares.values()))
    return AnswerFacts(_means(counts), _means(shares), answers, scored - stating, answers - scored)


def changes(before: AnswerFacts, after: AnswerFacts) -> dict[str, MeanEstimate]:
    """After minus before of `facts` and of `factscore`, over the prompts that both have."""
    found = {}
    for name, most in _MOST.items():
        old, new = getattr(before, name), getattr(after, name)
        found[name] = mean_of_datasets(
            [[new[each] - value for each, value in old.items() if each in new]], (-most, most)
        )
    return found


def markdown(policies: Mapping[str, AnswerFacts]) -> str:
    """A table of one policy's facts, or of two policies' with the change."""
    found = list(policies.values())
    moved = changes(*found) if len(found) == 2 else {}
    heads = ["facts", *policies, *(["change"] if moved else [])]
    rows = []
    for name, title in _LINES.items():
        means = [one.mean(name) for one in found]
        cells = [f"{mean.text(1)}, n={mean.n}" for mean in means]
        if moved:
            cells.append(f"{moved[name].text(1, signed=True)}, n={moved[name].n}")
        rows.append([title, *cells])
    counts = ", ".join(
        f"{name}: {one.answers} answers, {one.without_statements} without statements, {one.void} void"
        for name, one in policies.items()
    )
    return f"{table(heads, rows)}\n\n{counts}. {_NOTE}"


def _means(values: Mapping[Any, Sequence[float]]) -> dict[Any, float]:
    return {prompt: statistics.fmean(each) for prompt, each in values.items() if each}
