"""A policy's answers scored on the published evaluations: LongBench, LongBench-Chat, short requests in pairs.

    items = load(path, "longbench", broken)
    scored = await score(items, answers, judge)             # answers: item.id -> text
    result = summarise({"base": scored_before, "tuned": scored}, judge="NAME")
    result.to_json(), result.markdown()
    paper_table({"tuned": [*scored, *scored_chat]})         # both evaluations on the paper's scale

tasks.py reads the items, scoring.py asks the judge, means.py and intervals.py sum up, report.py makes JSON and tables;
facts.py counts the facts of answers that LongReward has scored.
"""

from longreward.evaluation.means import paper_table, summarise, summarise_pairs
from longreward.evaluation.report import PairResult, PaperTable, Result
from longreward.evaluation.scoring import ItemOutcome, compare, score
from longreward.evaluation.tasks import EvaluationItem, Kind, load

__all__ = [
    "EvaluationItem",
    "ItemOutcome",
    "Kind",
    "PairResult",
    "PaperTable",
    "Result",
    "compare",
    "load",
    "paper_table",
    "score",
    "summarise",
    "summarise_pairs",
]
