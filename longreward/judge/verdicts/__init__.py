"""Reads the value out of a judge's reply, or raises VerdictError.

The last verdict counts and must be valid. A number out of range is not moved into the range, and an earlier verdict
never stands in for a bad last one: a judge that corrects itself at the end must not be read by its first thought. What
the judge says in addition to a value that is certain, such as its unit, does no harm. The formats are those of
LongReward (paper, section 3).
"""

from longreward.judge.verdicts.texts import (
    NO_ANSWER,
    NO_POINTS,
    NO_QUESTIONS,
    NO_RELEVANT,
    NO_STATEMENTS,
    parse_answer,
    parse_extraction,
    parse_original_wording,
    parse_points,
    parse_questions,
    parse_statements,
    refuse_unsound,
)
from longreward.judge.verdicts.values import (
    Preference,
    parse_coverage,
    parse_criteria,
    parse_grade,
    parse_preference,
    parse_quotes,
    parse_ranking,
    parse_rating,
    parse_support,
    parse_supports,
)

__all__ = [
    "NO_ANSWER",
    "NO_POINTS",
    "NO_QUESTIONS",
    "NO_RELEVANT",
    "NO_STATEMENTS",
    "Preference",
    "parse_answer",
    "parse_coverage",
    "parse_criteria",
    "parse_extraction",
    "parse_grade",
    "parse_original_wording",
    "parse_points",
    "parse_preference",
    "parse_questions",
    "parse_quotes",
    "parse_ranking",
    "parse_rating",
    "parse_statements",
    "parse_support",
    "parse_supports",
    "refuse_unsound",
]
