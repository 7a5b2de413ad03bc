"""Faithfulness: is each fact of the answer in the document? Break down, retrieve, verify (paper, section 3.3)."""

from longreward.dimensions.document import Document
from longreward.judge.requests import ListStatements
from longreward.schema import DimensionScore


async def score(answer: str, document: Document) -> DimensionScore:
    """10 x the mean support of the answer's statements; `faithfulness.without_statements` where it states nothing.

    Void when the statements cannot be listed or any of them cannot be verified.
    """
    listed = await document.ask(ListStatements(document.language, document.query, answer))
    if not listed.ok or listed.value is None:
        return DimensionScore.void(listed.call, [listed.call])
    if not listed.value:
        return DimensionScore(
            score=document.config.faithfulness.without_statements,
            detail="the answer states no fact",
            calls=[listed.call],
        )
    statements, calls = await document.verification.verify(listed.value)
    calls = [listed.call, *calls]
    failed = next((s.call for s in statements if s.support is None), None)
    if failed is not None:
        return DimensionScore.void(failed, calls, statements)
    support = [s.support for s in statements if s.support is not None]
    return DimensionScore(score=10 * sum(support) / len(support), calls=calls, statements=statements)
