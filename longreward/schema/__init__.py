"""What goes in (`Sample`), what comes out (`Reward`), and both together as they are kept (`ScoredAnswer`).

Plain data, JSON both ways, safe to send between processes.
"""

from longreward.schema.judged import (
    OK,
    DimensionScore,
    Evidence,
    JudgeCall,
    JudgedCriterion,
    Point,
    Statement,
    Usage,
    VerdictSource,
)
from longreward.schema.reward import VERSION, Reward, ScoredAnswer
from longreward.schema.sample import DIMENSIONS, EVERY_DIMENSION, Criterion, Dimension, HumanPreference, Record, Sample

__all__ = [
    "DIMENSIONS",
    "EVERY_DIMENSION",
    "OK",
    "VERSION",
    "Criterion",
    "Dimension",
    "DimensionScore",
    "Evidence",
    "HumanPreference",
    "JudgeCall",
    "JudgedCriterion",
    "Point",
    "Record",
    "Reward",
    "Sample",
    "ScoredAnswer",
    "Statement",
    "Usage",
    "VerdictSource",
]
