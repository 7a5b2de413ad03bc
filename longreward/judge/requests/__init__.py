"""The questions that LongReward asks a judge (paper, section 3). `REQUESTS` is the one list of them.

A class holds all that is known of a kind of question: its prompt, its material, the parser of the reply, its name for
people, and what an estimate expects of it.
"""

from __future__ import annotations

from typing import Any

from longreward.config import RewardConfig
from longreward.judge.requests.base import AnalysedRequest, JudgeRequest, Measure, RewardRequest
from longreward.judge.requests.extraction import ExtractRelevant
from longreward.judge.requests.key_points import CheckCoverage, ListPoints
from longreward.judge.requests.ranking import RankAnswers
from longreward.judge.requests.ratings import RateAnswer, RateCompleteness, RateHelpfulness, RateLogicality
from longreward.judge.requests.statements import CheckStatement, ListStatements, VerifyStatement, VerifyStatements

REQUESTS: tuple[type[RewardRequest[Any]], ...] = (
    RateHelpfulness,
    RankAnswers,
    RateLogicality,
    ListStatements,
    VerifyStatement,
    VerifyStatements,
    CheckStatement,
    ExtractRelevant,
    RateCompleteness,
    ListPoints,
    CheckCoverage,
)
"""Every kind of question that a reward asks."""


def kinds_for(config: RewardConfig) -> list[type[RewardRequest[Any]]]:
    """The kinds that a reward of this configuration asks."""
    return [kind for kind in REQUESTS if kind.dimension in config.needed and kind.asked(config)]


__all__ = [
    "REQUESTS",
    "AnalysedRequest",
    "CheckCoverage",
    "CheckStatement",
    "ExtractRelevant",
    "JudgeRequest",
    "ListPoints",
    "ListStatements",
    "Measure",
    "RankAnswers",
    "RateAnswer",
    "RateCompleteness",
    "RateHelpfulness",
    "RateLogicality",
    "RewardRequest",
    "VerifyStatement",
    "VerifyStatements",
    "kinds_for",
]
