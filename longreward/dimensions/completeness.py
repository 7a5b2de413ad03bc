"""Completeness: does the answer cover what the document holds on the question? (paper, section 3.4)."""

from longreward.dimensions.document import Document
from longreward.judge.requests import RateCompleteness
from longreward.schema import DimensionScore


async def score(answer: str, document: Document) -> DimensionScore:
    """0..10 against all extractions of the document. Void when any chunk could not be read for the question."""
    extracted, first = await document.extractions()
    shared = [verdict.call for verdict in extracted] if first else []
    failed = next((verdict.call for verdict in extracted if not verdict.ok), None)
    if failed is not None:
        return DimensionScore.void(failed, shared)
    passages = [verdict.value for verdict in extracted if verdict.value is not None]
    verdict = await document.ask(RateCompleteness(document.language, document.query, answer, passages))
    return DimensionScore.rated(verdict.value, verdict.call, shared)
