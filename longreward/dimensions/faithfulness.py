"""Faithfulness: is each fact of the answer in the document? Break down, retrieve, verify (paper, section 3.3)."""

import asyncio

from longreward.config import RewardConfig
from longreward.document import Document
from longreward.judge import Judge
from longreward.judge.requests import ListStatements, VerifyStatement
from longreward.schema import DimensionScore, Statement


async def score(answer: str, document: Document, judge: Judge, config: RewardConfig) -> DimensionScore:
    """10 x the mean support of the answer's statements; `faithfulness_without_statements` where it states nothing.

    Void when the statements cannot be listed or any of them cannot be verified.
    """
    listed = await judge.ask(ListStatements(document.language, document.query, answer))
    if not listed.ok or listed.value is None:
        return DimensionScore.void(listed.call, [listed.call])
    if not listed.value:
        return DimensionScore(
            score=config.faithfulness_without_statements, detail="the answer states no fact", calls=[listed.call]
        )
    statements = await asyncio.gather(*(_verify(text, document, judge) for text in listed.value))
    failed = next((s.call for s in statements if s.support is None), None)
    if failed is not None:
        return DimensionScore.void(failed, [listed.call], statements)
    support = [s.support for s in statements if s.support is not None]
    return DimensionScore(score=10 * sum(support) / len(support), calls=[listed.call], statements=statements)


async def _verify(text: str, document: Document, judge: Judge) -> Statement:
    evidence = await document.evidence(text)
    verdict = await judge.ask(VerifyStatement(document.language, text, [e.text for e in evidence]))
    return Statement(text=text, support=verdict.value, evidence=evidence, call=verdict.call)
