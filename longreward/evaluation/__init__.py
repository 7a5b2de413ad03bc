"""A policy's answers scored on the published evaluations: LongBench, LongBench-Chat, short requests in pairs.

    items = load(path, "longbench", broken)
    scored = await score(items, answers, judge)             # answers: item.id -> text
    result = summarise({"base": scored_before, "tuned": scored}, judge="NAME")
    result.to_json(), result.markdown()

tasks.py reads the items, scoring.py asks the judge, means.py and intervals.py sum up, report.py makes JSON and tables.
"""

from longreward.evaluation.means import summarise, summarise_pairs
from longreward.evaluation.report import PairResult, Result
from longreward.evaluation.scoring import ItemOutcome, compare, score
from longreward.evaluation.tasks import EvaluationItem, Kind, load

__all__ = [
    "EvaluationItem",
    "ItemOutcome",
    "Kind",
    "PairResult",
    "Result",
    "compare",
    "load",
    "score",
    "summarise",
    "summarise_pairs",
]
