"""Logicality: does the answer hold together? One judge call, without the document (paper, section 3.2)."""

from longreward.dimensions.document import Document
from longreward.judge.requests import RateLogicality
from longreward.schema import DimensionScore
from longreward.text.language import detect


async def score(answer: str, document: Document) -> DimensionScore:
    """0..10, or void with the reason."""
    language = detect(f"{document.query}\n{answer}")
    verdict = await document.ask(RateLogicality(language, document.query, answer))
    return DimensionScore.rated(verdict.value, verdict.call)
