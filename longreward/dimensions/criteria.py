"""Criteria: does the answer do what the data asks of it? Judged without the document, as rubrics are.

The explicit aggregation of Rubrics as Rewards (arXiv 2507.17746): a weighted sum over the criteria. As there may be
negative weights, it is divided by the sum of the positive ones, as HealthBench does.
"""

import math
from collections.abc import Sequence

from longreward.concurrency.tasks import together
from longreward.dimensions.document import Document
from longreward.dimensions.verification import balanced
from longreward.judge.requests import JudgeCriteria
from longreward.schema import Criterion, DimensionScore, JudgedCriterion
from longreward.text.language import detect

_AT_ONCE = 20  # criteria that a judge is asked about in one call


async def score(answer: str, document: Document, criteria: Sequence[Criterion]) -> DimensionScore:
    """10 x the weights of the criteria that are met, by how far they are, over the sum of the positive ones, from 0 to
    10. Void when any of them cannot be judged."""
    texts = [criterion.text for criterion in criteria]
    language = detect("\n".join([document.query, *texts]))
    batches = balanced(texts, _AT_ONCE)
    verdicts = await together(document.ask(JudgeCriteria(language, document.query, batch, answer)) for batch in batches)
    met: list[float | None] = []
    deviations: list[float | None] = []
    for batch, verdict in zip(batches, verdicts, strict=True):
        met += [None] * len(batch) if verdict.value is None else verdict.value
        deviations += verdict.call.deviations or [None] * len(batch)
    judged = [
        JudgedCriterion(text=criterion.text, weight=criterion.weight, met=value, deviation=deviation)
        for criterion, value, deviation in zip(criteria, met, deviations, strict=True)
    ]
    calls = [verdict.call for verdict in verdicts]
    failed = next((call for verdict, call in zip(verdicts, calls, strict=True) if not verdict.ok), None)
    if failed is not None:
        return DimensionScore.void(failed, calls, criteria=judged)
    most = sum(one.weight for one in judged if one.weight > 0)
    reached = sum(one.weight * (one.met or 0.0) for one in judged) / most
    # As if the judge erred at each on its own.
    unsure = [one.weight * one.deviation for one in judged if one.deviation is not None]
    deviation = 10 * math.hypot(*unsure) / most if unsure else None
    return DimensionScore(score=10 * min(1.0, max(0.0, reached)), deviation=deviation, calls=calls, criteria=judged)
