"""Helpfulness: does the answer serve the question? One judge call, without the document (paper, section 3.1)."""

from longreward.dimensions.document import Document
from longreward.judge.requests import RateHelpfulness
from longreward.schema import DimensionScore


async def score(answer: str, document: Document) -> DimensionScore:
    """0..10, or void with the reason."""
    verdict = await document.ask(RateHelpfulness(document.language, document.query, answer))
    return DimensionScore.rated(verdict.value, verdict.call)
