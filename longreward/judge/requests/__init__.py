"""The questions that LongReward asks a judge (paper, section 3). `REQUESTS` is the one list of them.

A class holds all that is known of a kind of question: its prompt, its material, the parser of the reply, its name for
people, and what an estimate expects of it.
"""

from __future__ import annotations

from typing import Any

from longreward.judge.requests.base import AnalysedRequest, JudgeRequest, Measure, RewardRequest
from longreward.judge.requests.criteria import JudgeCriteria
from longreward.judge.requests.extraction import ExtractRelevant
from longreward.judge.requests.ratings import RateAnswer, RateCompleteness, RateHelpfulness, RateLogicality
from longreward.judge.requests.statements import ListStatements, VerifyStatement, VerifyStatements

REQUESTS: tuple[type[RewardRequest[Any]], ...] = (
    RateHelpfulness,
    RateLogicality,
    ListStatements,
    VerifyStatement,
    VerifyStatements,
    ExtractRelevant,
    RateCompleteness,
    JudgeCriteria,
)
"""Every kind of question that a reward asks."""

__all__ = [
    "REQUESTS",
    "AnalysedRequest",
    "ExtractRelevant",
    "JudgeCriteria",
    "JudgeRequest",
    "ListStatements",
    "Measure",
    "RateAnswer",
    "RateCompleteness",
    "RateHelpfulness",
    "RateLogicality",
    "RewardRequest",
    "VerifyStatement",
    "VerifyStatements",
]
