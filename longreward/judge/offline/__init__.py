"""The offline judge: fixed rules instead of a model. A STAND-IN for trying things out, not a measure of quality.

It needs no network and no key and always gives the same verdict for the same request. It compares words, without their
endings, rare ones and names more than others: what is asked about must be spoken of, supported statements score, names,
numbers and negations must match the evidence, repetition and self-contradiction cost, relevant passages must be covered
in the answer's own words; in evaluations, words in common with the reference count. It understands nothing: use a real
judge for any result that matters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from longreward.concurrency.pacing import Priority, pacer
from longreward.judge import requests
from longreward.judge.base import Judge, Verdict
from longreward.judge.offline import completeness, helpfulness, logicality, references, statements, support
from longreward.judge.requests import JudgeRequest, evaluation
from longreward.schema import JudgeCall

T = TypeVar("T")

NOTICE = "judge: offline - a rule-based stand-in for trying things out, not a measure of quality"

RULES: dict[type[JudgeRequest[Any]], Callable[[Any], object]] = {
    requests.RateHelpfulness: helpfulness.rate,
    requests.RankAnswers: helpfulness.rank,
    requests.RateLogicality: logicality.rate,
    requests.ListStatements: statements.list_statements,
    requests.VerifyStatement: support.verify,
    requests.VerifyStatements: support.verify_many,
    requests.CheckStatement: support.verify,
    requests.ExtractRelevant: completeness.extract,
    requests.RateCompleteness: completeness.rate,
    requests.ListPoints: completeness.list_points,
    requests.CheckCoverage: completeness.check_coverage,
    evaluation.RateAgainstReference: references.against_reference,
    evaluation.RateSummary: references.summary,
    evaluation.RateChat: references.chat,
    evaluation.CompareAnswers: references.compare,
}
"""Kind of question -> its rule."""

_LONG = 10_000  # characters of a request; the rules take some 10 ms for them


class OfflineJudge(Judge):
    """Answers by rules; every call ends in a verdict and costs nothing."""

    async def ask(self, request: JudgeRequest[T], *, document: str = "") -> Verdict[T]:
        # Many requests at once take turns, and a long one leaves the event loop: meanwhile it does other things.
        await pacer().turn(Priority.ARRIVAL)
        is_long = sum(map(len, request.fields().values())) > _LONG
        value: Any = await asyncio.to_thread(by_rules, request) if is_long else by_rules(request)
        return Verdict(value, JudgeCall(kind=request.kind, attempts=1))


def by_rules(request: JudgeRequest[Any]) -> object:
    """The verdict of the rule for this kind of request, always the same for the same request. TypeError without one."""
    rule = RULES.get(type(request))
    if rule is None:
        raise TypeError(f"the offline judge has no rule for {type(request).__name__}; add one to RULES in {__name__}")
    return rule(request)
