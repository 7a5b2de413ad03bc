"""`longreward agree`: how well a judge agrees with people, on pairs of answers or on claims that they labelled."""

from __future__ import annotations

import argparse
from pathlib import Path

from longreward.commands.agree import baselines, claims, pairs
from longreward.commands.agree.claim_rows import holds_claims
from longreward.commands.options import SETTINGS, add_concurrency, add_judge, reward_config


def add_arguments(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Pairs: score both answers of each and show how often the judge gives more to the answer that the human "
        "prefers, per dimension and in total. Equal scores count half. A pair counts only where both answers have a "
        "score; pairs that the human calls a tie do not count. Claims: verify each as faithfulness verifies a "
        "statement, and show how well the support tells supported claims from others. All with 95% intervals."
    )
    command.epilog = f"With --out a run that is started again continues where it stopped. {SETTINGS}"
    labels = "rows with idx (or id), context, query, and win_response, lose_response (the human prefers the first), or "
    labels += 'chosen, rejected, or answer_a, answer_b, preference ("a", "b" or "tie"), or as Long-RewardBench has '
    labels += "them; or claims, with context, claim and supported (true or false), or as QAGS, RAGTruth, LLM-AggreFact "
    labels += "and FaithBench publish theirs"
    command.add_argument("input", type=Path, metavar="LABELS.jsonl", help=labels)
    where = "where the scores go; without it they are not kept"
    command.add_argument("--out", type=Path, metavar="SCORED.jsonl", help=where)
    command.add_argument("--json", type=Path, metavar="FILE", help="the agreement, and each label's scores, as JSON")
    baselines.add_arguments(command)
    add_judge(command)
    add_concurrency(command)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """As `pairs.run` or `claims.run`, by what the file holds."""
    config = reward_config(options, overrides)
    return (claims if holds_claims(options.input) else pairs).run(options, config)
