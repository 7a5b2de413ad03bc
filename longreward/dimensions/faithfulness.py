"""Faithfulness: is each fact of the answer in the document? Break down, retrieve, verify (paper, section 3.3)."""

import math
from collections.abc import Mapping

from longreward.dimensions.document import Document
from longreward.judge.requests import ListStatements
from longreward.judge.verdicts import parse_original_wording
from longreward.schema import DimensionScore, JudgeCall


async def score(answer: str, document: Document) -> DimensionScore:
    """10 x the mean support of the answer's statements; `faithfulness.without_statements` where it states nothing.

    Void when the statements cannot be listed or any of them cannot be verified.
    """
    request = ListStatements(document.language, document.query, answer, document.language_shown)
    listed = await document.ask(request)
    if not listed.ok or listed.value is None:
        return DimensionScore.void(listed.call, [listed.call])
    if not listed.value:
        return DimensionScore(
            score=document.config.faithfulness.without_statements,
            detail="the answer states no fact",
            calls=[listed.call],
        )
    return await _verified(listed.value, document, [listed.call], parse_original_wording(listed.call.text))


async def verify(claim: str, document: Document) -> DimensionScore:
    """10 x the support of a claim, which is verified as one statement of an answer is; void where it cannot be."""
    return await _verified([claim], document, [], {})


async def _verified(
    texts: list[str], document: Document, before: list[JudgeCall], own_words: Mapping[str, str]
) -> DimensionScore:
    """`before`: the calls that led to the statements; `own_words`: statement -> the answer's own words for it."""
    statements, calls = await document.verification.verify(texts)
    calls = [*before, *calls]
    statements = [s.model_copy(update={"original": own_words.get(s.text, "")}) for s in statements]
    failed = next((s.call for s in statements if s.support is None), None)
    if failed is not None:
        return DimensionScore.void(failed, calls, statements)
    support = [s.support for s in statements if s.support is not None]
    strange = sum([not await document.knows(s.text) for s in statements])
    detail = f"{strange} of {len(statements)} statements share no word with the document" if strange else ""
    score, deviations = 10 * sum(support) / len(support), [s.deviation for s in statements if s.deviation is not None]
    deviation = 10 * math.hypot(*deviations) / len(support) if deviations else None
    return DimensionScore(score=score, deviation=deviation, detail=detail, calls=calls, statements=statements)
