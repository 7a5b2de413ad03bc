"""A policy's answers judged against the references, or two policies' answers against each other.

A judge failure is never a score: such an item is void and in no mean. The published code counts it as 0.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from longreward.concurrency.pacing import at_most
from longreward.concurrency.tasks import together
from longreward.evaluation.tasks import CHAT, CLASSES, SHORT, EvaluationItem
from longreward.judge import Judge
from longreward.judge.requests.evaluation import (
    CompareAnswers,
    GradeRequest,
    RateAgainstReference,
    RateChat,
    RateSummary,
)
from longreward.schema import OK, JudgeCall, Usage
from longreward.text.language import detect
from longreward.text.sentences import says_nothing
from longreward.text.thoughts import without_thoughts

NO_ANSWER = "no_answer"
"""The status of an item that the policy was not asked, or whose answer was lost."""

_FOR_B = {"A": -1, "tie": 0, "B": 1}


@dataclass(frozen=True, slots=True)
class ItemOutcome:
    """The result of one item, from `score` or from `compare`."""

    item: EvaluationItem
    value: float | None
    """None (void) where there is no answer or the judge failed. From `score`: the best over the references, 0..1 for
    LongBench, 1..10 for LongBench-Chat. From `compare`: 1 if the second policy's answer (B) won, 0.5 for a tie, 0 if
    the first one's (A) did."""
    status: str = OK
    """The reason why `value` is None: a `Reason`, or `NO_ANSWER`."""
    detail: str = ""
    calls: list[JudgeCall] = field(default_factory=list)

    @property
    def usage(self) -> Usage:
        return sum((call.usage for call in self.calls), Usage())

    def record(self) -> dict[str, Any]:
        """As one row of a JSON-lines file."""
        return {
            "idx": self.item.id,
            "dataset": self.item.dataset,
            "value": self.value,
            "status": self.status,
            "detail": self.detail,
            "calls": [call.model_dump(mode="json") for call in self.calls],
        }

    @classmethod
    def of_record(cls, item: EvaluationItem, row: Mapping[str, Any]) -> Self:
        """What `record` made of the outcome of `item`. ValueError where the calls are none."""
        calls = [JudgeCall.model_validate(call) for call in row["calls"]]
        return cls(item, row["value"], row["status"], row["detail"], calls)


async def score(
    items: Sequence[EvaluationItem],
    answers: Mapping[str, str],
    judge: Judge,
    *,
    concurrency: int = 64,
    strip_thoughts: bool = True,
) -> list[ItemOutcome]:
    """Judge each item's answer (by the item's id), at most `concurrency` items at once, results in their order.

    Grades of LongBench's questions, 1-3, become (x - 1) / 2, those of its summaries, 1-5, become (x - 1) / 4;
    LongBench-Chat is rated 1-10. The best over an item's references counts. An answer that says nothing gets the floor
    (0 or 1) without a call. Thoughts are no part of an answer, unless `strip_thoughts` is False. Where a reference has
    no verdict that could have been the best, the item is void.
    ValueError for short requests: `compare` is for them.
    """

    async def one(item: EvaluationItem) -> ItemOutcome:
        answer = _said(answers.get(item.id), strip_thoughts)
        if answer is None:
            return ItemOutcome(item, None, NO_ANSWER)
        if says_nothing(answer):
            return ItemOutcome(item, _value(item, 1, 1), detail="the answer is empty")
        return await _best(item, answer, judge)

    if any(item.dataset == SHORT for item in items):
        raise ValueError("short requests have no score of their own; compare two policies' answers")
    return await at_most(concurrency, items, one)


async def compare(
    items: Sequence[EvaluationItem],
    answers_a: Mapping[str, str],
    answers_b: Mapping[str, str],
    judge: Judge,
    *,
    concurrency: int = 64,
    strip_thoughts: bool = True,
) -> list[ItemOutcome]:
    """Ask which of two policies' answers is better, twice for each item, with the answers' places swapped.

    An answer wins if it is preferred in both orders, or in one of them with a tie in the other; all else is a tie
    (MT-Bench's way, arXiv 2306.05685, section 3.4, but for the single tie). If one of the two calls fails, the item is
    void. An answer that says nothing loses, and the same answer twice is a tie, without a call. Of several references
    only the first is shown. Thoughts, concurrency and order as in `score`.
    """

    async def one(item: EvaluationItem) -> ItemOutcome:
        a, b = (_said(answers.get(item.id), strip_thoughts) for answers in (answers_a, answers_b))
        if a is None or b is None:
            return ItemOutcome(item, None, NO_ANSWER)
        empty_a, empty_b = says_nothing(a), says_nothing(b)
        if empty_a or empty_b:
            return ItemOutcome(item, (1 + empty_a - empty_b) / 2, detail="an answer is empty")
        if a.strip() == b.strip():
            return ItemOutcome(item, 0.5, detail="the answers are the same")
        return await _both_orders(item, a, b, judge)

    return await at_most(concurrency, items, one)


def _said(answer: str | None, strip_thoughts: bool) -> str | None:
    return without_thoughts(answer) if answer and strip_thoughts else answer


async def _best(item: EvaluationItem, answer: str, judge: Judge) -> ItemOutcome:
    grades: list[float] = []
    calls: list[JudgeCall] = []
    for reference in item.references:
        request = _request(item, reference, answer)
        verdict = await judge.ask(request, document=item.id)
        calls.append(verdict.call)
        if verdict.value is not None:
            grades.append(verdict.value)
        if verdict.value == request.highest:
            break  # no other reference can change that: not asked about, and a failed one does not matter
    else:
        failed = next((call for call in calls if call.status != OK), None)
        if failed is not None:
            return ItemOutcome(item, None, failed.status, failed.detail, calls)
    return ItemOutcome(item, _value(item, max(grades), request.highest), calls=calls)


def _request(item: EvaluationItem, reference: str, answer: str) -> GradeRequest:
    # Not by the answer's language: all policies' answers to a question must meet the same prompt.
    if item.dataset in CLASSES["summarization"]:
        return RateSummary(detect(reference), reference=reference, answer=answer)
    language = detect(f"{item.query}\n{reference}")
    if item.dataset == CHAT:
        return RateChat(language, reference=reference, answer=answer, query=item.query, examples=item.examples)
    return RateAgainstReference(language, reference=reference, answer=answer, query=item.query)


def _value(item: EvaluationItem, grade: float, highest: int) -> float:
    """The published score of a grade: LongBench-Chat keeps 1..10, the others become 0..1."""
    return float(grade) if item.dataset == CHAT else (grade - 1) / max(1, highest - 1)


async def _both_orders(item: EvaluationItem, a: str, b: str, judge: Judge) -> ItemOutcome:
    reference = item.references[0] if item.references else ""
    orders = CompareAnswers.both_orders(item.query, a, b, reference)
    first, second = await together(judge.ask(each, document=item.id) for each in orders)
    calls = [first.call, second.call]
    if first.value is None or second.value is None:
        failed = next(call for call in calls if call.status != OK)
        return ItemOutcome(item, None, failed.status, failed.detail, calls)
    for_b = _FOR_B[first.value] - _FOR_B[second.value]
    return ItemOutcome(item, 1.0 if for_b > 0 else 0.0 if for_b < 0 else 0.5, calls=calls)
