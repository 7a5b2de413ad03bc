"""Completeness: does the answer cover what the document holds on the question? (paper, section 3.4)."""

import math

from longreward.dimensions.document import Document
from longreward.dimensions.key_points import passages
from longreward.judge.requests import CheckCoverage, RateCompleteness
from longreward.schema import DimensionScore, Point


async def score(answer: str, document: Document) -> DimensionScore:
    """0..10, by `completeness.way`. Void when any chunk could not be read for the question."""
    by_points = document.config.completeness.way == "key_points"
    return await (_covered(answer, document) if by_points else _rated(answer, document))


async def _rated(answer: str, document: Document) -> DimensionScore:
    """The judge's rating, against all extractions."""
    found = await passages(document)
    if found.failed:
        return DimensionScore.void(found.failed, found.calls)
    verdict = await document.ask(RateCompleteness(document.language, document.query, answer, found.texts))
    return DimensionScore.rated(verdict.value, verdict.call, found.calls)


async def _covered(answer: str, document: Document) -> DimensionScore:
    """10 x the mean of what the answer covers of each key point."""
    found = await document.key_points.found()
    if found.failed:
        return DimensionScore.void(found.failed, found.calls)
    request = CheckCoverage(document.language, document.query, answer, found.texts)
    verdict = await document.ask(request)
    calls = [*found.calls, verdict.call]
    if verdict.value is None:
        return DimensionScore.void(verdict.call, calls, points=[Point(text=text, covered=None) for text in found.texts])
    quotes = request.quotes(verdict.call.text, document.config.model_for(request.kind).form)
    deviations = verdict.call.deviations or [None] * len(found.texts)
    points = [
        Point(text=text, covered=covered, deviation=deviation)
        if covered == 0  # what is quoted for it shows nothing
        else Point(text=text, covered=covered, deviation=deviation, quote=quote.text, in_answer=quote.in_answer)
        for text, covered, deviation, quote in zip(found.texts, verdict.value, deviations, quotes, strict=True)
    ]
    strange = sum(point.in_answer is False for point in points)
    return DimensionScore(
        score=10 * sum(verdict.value) / len(points),
        deviation=10 * math.hypot(*verdict.call.deviations) / len(points) if verdict.call.deviations else None,
        detail=f"what the judge quotes for {strange} of {len(points)} points is not in the answer" if strange else "",
        calls=calls,
        points=points,
    )
