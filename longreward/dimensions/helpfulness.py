"""Helpfulness: does the answer serve the question? One judge call, without the document (paper, section 3.1)."""

from collections.abc import Sequence

from longreward.dimensions.document import Document
from longreward.judge.requests import RateHelpfulness
from longreward.schema import DimensionScore
from longreward.text.language import detect


async def score(answer: str, document: Document) -> DimensionScore:
    """0..10, or void with the reason."""
    language = detect(f"{document.query}\n{answer}")
    verdict = await document.ask(RateHelpfulness(language, document.query, answer))
    return DimensionScore.rated(verdict.value, verdict.call)


async def ranked(answer: str, siblings: Sequence[str], document: Document) -> DimensionScore:
    """The same by its place among all answers to the prompt, itself included; see `Ranking.score`."""
    return await document.ranking.score(answer, siblings)
